"""Golden trainings: the exact state of a few tiny models after twenty steps.

Golden vectors test single operators. The trainings test that autograd, modules and optimizers call
the operators in the same way on every machine. Their digests are stored beside the golden vectors
and are never rewritten.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import nn
from torch.nn import functional

from gensyn_ray.domain.errors import UsageError
from workloads.core.rng import Rng
from workloads.core.state import state_digest
from workloads.numerics.golden.folder import folder_of
from workloads.numerics.mode import BITS, Backend, Precision, canonical
from workloads.numerics.optim import SGD, AdamW, Lion
from workloads.numerics.registry import LATEST

STEPS = 20
"""Steps of a golden training."""
Loss = Callable[[], torch.Tensor]
Training = Callable[[Rng], tuple[nn.Module, torch.optim.Optimizer, Loss]]
"""Builds a model, its optimizer, and a function that computes the loss of one step."""


def mlp(rng: Rng) -> tuple[nn.Module, torch.optim.Optimizer, Loss]:
    """Regression with SiLU, Lion and clipped gradients. x: (32, 10), y: (32, 3), float32."""
    model = nn.Sequential(nn.Linear(10, 24), nn.SiLU(), nn.RMSNorm(24), nn.Linear(24, 3))
    x, y = rng.uniform((32, 10), -2.0, 2.0), rng.uniform((32, 3), -1.0, 1.0)

    def loss() -> torch.Tensor:
        return functional.mse_loss(model(x), y)

    return model, Lion(model.parameters(), lr=1e-2, weight_decay=0.1), loss


class _Decoder(nn.Module):
    """One causal block over a vocabulary of 20 tokens. int64 (batch, length) -> float32 (batch,
    length, 20)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(20, 32), nn.Embedding(16, 32)
        self.before, self.after = nn.LayerNorm(32), nn.LayerNorm(32)
        self.attend, self.mix = nn.Linear(32, 96), nn.Linear(32, 32)
        self.feed = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32), nn.Dropout(0.1))
        self.head = nn.Linear(32, 20)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits of the next token at each position."""
        batch, length = tokens.shape
        x = self.embed(tokens) + self.place(torch.arange(length))
        heads = self.attend(self.before(x)).reshape(batch, length, 12, 8).transpose(1, 2)
        q, k, v = heads.chunk(3, dim=1)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.mix(mixed.transpose(1, 2).reshape(batch, length, 32))
        return self.head(x + self.feed(self.after(x)))


def transformer(rng: Rng) -> tuple[nn.Module, torch.optim.Optimizer, Loss]:
    """Next-token prediction with AdamW. tokens: int64 (4, 17)."""
    model, tokens = _Decoder(), rng.integers((4, 17), 20)

    def loss() -> torch.Tensor:
        logits = model(tokens[:, :-1])
        return functional.cross_entropy(logits.reshape(-1, 20), tokens[:, 1:].reshape(-1))

    return model, AdamW(model.parameters(), lr=1e-2), loss


def cnn(rng: Rng) -> tuple[nn.Module, torch.optim.Optimizer, Loss]:
    """Image classification with batch normalisation and SGD with momentum. x: float32 (8, 1, 8, 8),
    y: int64 (8,)."""
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    x, y = rng.uniform((8, 1, 8, 8), -1.0, 1.0), rng.integers((8,), 5)

    def loss() -> torch.Tensor:
        return functional.cross_entropy(model(x), y)

    return model, SGD(model.parameters(), lr=0.05, momentum=0.9), loss


class _Recurrent(nn.Module):
    """A GRU whose last state gives one logit. (batch, length, 6) -> (batch,)."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(6, 12, batch_first=True)
        self.head = nn.Linear(12, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One logit per sequence."""
        return self.head(self.cell(x)[0][:, -1]).squeeze(1)


def gru(rng: Rng) -> tuple[nn.Module, torch.optim.Optimizer, Loss]:
    """Binary classification of sequences with AdamW. x: (8, 7, 6), y: (8,), float32."""
    model = _Recurrent()
    x, y = rng.uniform((8, 7, 6), -1.0, 1.0), rng.integers((8,), 2).to(torch.float32)

    def loss() -> torch.Tensor:
        return functional.binary_cross_entropy_with_logits(model(x), y)

    return model, AdamW(model.parameters(), lr=1e-2), loss


TRAININGS: Mapping[str, Training] = MappingProxyType(
    {"mlp": mlp, "transformer": transformer, "cnn": cnn, "gru": gru}
)
"""The golden trainings by name."""


def digest(
    name: str,
    precision: Precision,
    *,
    version: int = LATEST,
    backend: Backend = "kernels",
    steps: int = STEPS,
) -> str:
    """State digest of the model and the last loss after `steps` steps, hex."""
    rng = Rng("golden-training", name)
    model, optimizer, loss_of = TRAININGS[name](rng)
    _fill(model, rng)
    with torch.random.fork_rng(devices=[]), canonical(precision, version=version, backend=backend):
        torch.manual_seed(0)
        for _ in range(steps):
            loss = loss_of()
            optimizer.zero_grad()
            loss.backward()  # pyright: ignore[reportUnknownMemberType]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    return state_digest({**model.state_dict(), "loss": loss.detach()})


def _fill(model: nn.Module, rng: Rng) -> None:
    """Fill every matrix with uniform numbers within 1 / sqrt(columns), and every bias with 0. Stock
    layers draw both at random. Other vectors keep their initial values."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                bound = 1.0 / math.sqrt(math.prod(parameter.shape[1:]))
                parameter.copy_(rng.uniform(parameter.shape, -bound, bound))
            elif "bias" in name:
                parameter.zero_()


def path_of(version: int, folder: Path | None = None) -> Path:
    """The file of a version's training digests."""
    return (folder or folder_of(version)) / "training.json"


def record(version: int = LATEST, folder: Path | None = None) -> Path:
    """Write the digests of every training. Raises `UsageError` if the file exists."""
    path = path_of(version, folder)
    if path.exists():
        raise UsageError(f"{path.name} exists: other bits need another version of the operator set")
    found = {
        name: {precision: digest(name, precision, version=version) for precision in BITS}
        for name in TRAININGS
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
    return path


def verify(
    version: int = LATEST,
    *,
    folder: Path | None = None,
    names: Iterable[str] | None = None,
    backend: Backend = "kernels",
) -> list[str]:
    """One line for each difference from the recorded digests."""
    golden = json.loads(path_of(version, folder).read_text())
    return [
        f"training of the {name}, precision {precision}: the bits differ"
        for name in (names or golden)
        for precision, expected in golden[name].items()
        if digest(name, precision, version=version, backend=backend) != expected
    ]
