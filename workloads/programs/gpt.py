"""Pretrains a small GPT on a text.

The model has pre-norm blocks, rotary position embeddings (Su et al. 2021, arXiv 2104.09864), RMS
normalisation, a gated feed-forward layer (SwiGLU, Shazeer 2020, arXiv 2002.05202), and an output
head tied to the embedding. Data: the splits `train` and `test` with the column `tokens`, fixed-size
lists of length + 1 token numbers; the file `vocabulary/size` with the number of tokens. The recipes
`shakespeare` and `text` prepare them.

Config: `width`, `layers`, `heads`, `lr`; optional: `batch`, `total_steps` and `warmup` of the
schedule, `weight_decay`, `clip`, `eval_rows`.

Not covered: key-value caches. A sampler computes each prefix again.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from gensyn_ray.domain.errors import UsageError
from workloads.core.dataset import DataSet, tensor
from workloads.core.program import Config, Program
from workloads.core.rng import Rng
from workloads.numerics.optim import AdamW, cosine, rewarmed

EVAL_BATCH = 16
REWARM = 10
"""Steps in which the learning rate warms up again in each DiLoCo round. The first steps of a fresh
Adam have full size, even where the gradient is small."""
SPREAD = 0.02
"""Standard deviation of the initial weights."""


class Attention(nn.Module):
    """Causal self-attention. (n, t, width) -> (n, t, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, turns: Tensor) -> Tensor:
        n, t, width = x.shape
        heads = self.qkv(x).view(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = turned(heads[0], turns), turned(heads[1], turns), heads[2]
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(n, t, width))


class Gated(nn.Module):
    """SwiGLU: (silu(x G) * (x U)) D. (n, t, width) -> (n, t, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = 32 * math.ceil(width * 8 / 3 / 32)  # as many weights as an MLP of 4 widths
        self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(functional.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """A pre-norm transformer block. (n, t, width) -> (n, t, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.before_attention, self.before_gated = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attention, self.gated = Attention(width, heads), Gated(width)

    def forward(self, x: Tensor, turns: Tensor) -> Tensor:
        x = x + self.attention(self.before_attention(x), turns)
        return x + self.gated(self.before_gated(x))


class Gpt(nn.Module):
    """Token numbers (n, t) -> logits (n, t, vocabulary)."""

    def __init__(self, *, vocabulary: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        if width % (2 * heads):
            raise UsageError(f"the width {width} is not an even multiple of {heads} heads")
        self.head_width = width // heads
        self.tokens = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if parameter.dim() > 1:
                    # Smaller weights at the end of each block: the residual sum keeps its spread.
                    ends_block = name.endswith(("out.weight", "down.weight"))
                    spread = SPREAD / math.sqrt(2 * layers) if ends_block else SPREAD
                    parameter.normal_(std=spread)

    def forward(self, ids: Tensor) -> Tensor:
        turns = positions(ids.shape[1], self.head_width)
        x = self.tokens(ids)
        for block in self.blocks:
            x = block(x, turns)
        return self.head(self.norm(x))


def positions(length: int, width: int) -> Tensor:
    """Cosines and sines of the rotary angles, (2, length, width / 2)."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angles = torch.arange(length)[:, None] * rates
    return torch.stack([torch.cos(angles), torch.sin(angles)])


def turned(x: Tensor, turns: Tensor) -> Tensor:
    """x (..., t, width) with each pair of its halves rotated by the angle of its position."""
    cosines, sines = turns
    a, b = x.chunk(2, -1)
    return torch.cat([a * cosines - b * sines, a * sines + b * cosines], -1)


class Pretraining(Program):
    """Minimizes the next-token cross-entropy with AdamW, a warm-up and a cosine schedule.

    Metric: `loss` on held-out passages, in nats per token."""

    steps_per_segment = 50
    segments = 8

    def init(self, config: Config, data: DataSet, rng: Rng) -> None:
        vocabulary = int(data.files("vocabulary")["size"])
        self.model = Gpt(
            vocabulary=vocabulary,
            width=int(config["width"]),
            layers=int(config["layers"]),
            heads=int(config["heads"]),
        )
        self._rows, self._clip = int(config.get("batch", 16)), float(config.get("clip", 1.0))
        self._eval_rows = int(config.get("eval_rows", 64))
        decayed = [one for one in self.model.parameters() if one.dim() > 1]
        others = [one for one in self.model.parameters() if one.dim() < 2]
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": float(config.get("weight_decay", 0.1))},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimizer = AdamW(groups, lr=float(config["lr"]), betas=(0.9, 0.95))
        total = int(config.get("total_steps", self.steps_per_segment * self.segments))
        warmup = int(config.get("warmup", max(1, total // 20)))
        self._round_began = -REWARM
        self.schedule = LambdaLR(
            self.optimizer,
            lambda step: (
                cosine(step, warmup=warmup, total=total, least=0.1)
                * rewarmed(step, began=self._round_began, over=REWARM)
            ),
        )

    def resume_at(self, step: int) -> None:
        self._round_began = step
        super().resume_at(step)

    def step(self, data: DataSet, rng: Rng) -> None:
        loss = self._loss(tensor(data["train"].draw(rng, self._rows), "tokens"))
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self._clip)
        self.optimizer.step()
        self.schedule.step()

    def evaluate(self, data: DataSet) -> dict[str, float]:
        total, rows = 0.0, 0
        for table in data["test"].batches(EVAL_BATCH):
            total += float(self._loss(tensor(table, "tokens"))) * len(table)
            rows += len(table)
            if rows >= self._eval_rows:
                break
        return {"loss": total / rows}

    def _loss(self, tokens: Tensor) -> Tensor:
        """Mean cross-entropy, shape (), of passages (n, length + 1)."""
        ids = tokens.to(torch.int64)
        logits = self.model(ids[:, :-1])
        return functional.cross_entropy(
            logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1)
        )
