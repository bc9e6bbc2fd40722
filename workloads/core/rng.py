"""Counter-based random numbers: each is a function of (job seed, task, purpose) alone.

The bits are those of Philox 4x64 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3,
SC 2011) in NumPy, whose compatibility policy keeps raw bits stable. Integer shifts and single
IEEE-754 roundings turn bits into numbers, so the numbers are the same on every machine.
"""

# Torch's own annotations leave some functions partly unknown.
# pyright: reportUnknownMemberType=false

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch


class Rng:
    """A stream of random bits. `parts` determine its key: the same parts give the same stream."""

    def __init__(self, *parts: str | int) -> None:
        text = "\x1f".join(str(part) for part in parts)
        self.key = hashlib.sha256(b"gensyn-ray/rng/v1\n" + text.encode()).digest()[:16]
        self._bits = np.random.Philox(key=np.frombuffer(self.key, dtype="<u8"), counter=0)

    def raw(self, count: int) -> "np.ndarray[tuple[int], np.dtype[np.uint64]]":
        """`count` uniform 64-bit words, shape (count,), dtype uint64."""
        return np.asarray(self._bits.random_raw(count), dtype=np.uint64)

    def uniform(self, shape: Sequence[int], low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        """float32 tensor of `shape`, uniform on a grid of 2^24 points of [low, high)."""
        words = self.raw(math.prod(shape)) >> np.uint64(40)
        unit = words.astype(np.float32) * np.float32(2.0**-24)
        values = unit * np.float32(high - low) + np.float32(low)
        below = np.nextafter(np.float32(high), np.float32(low))  # the sum may round up to `high`
        return torch.from_numpy(np.minimum(values, below).reshape(tuple(shape)))

    def permutation(self, count: int) -> torch.Tensor:
        """int64 tensor of shape (count,): 0..count-1 in random order."""
        return torch.from_numpy(np.argsort(self.raw(count), kind="stable").astype(np.int64))

    def integers(self, shape: Sequence[int], high: int) -> torch.Tensor:
        """int64 tensor of `shape` in 0..high-1; the bias is below high / 2^64."""
        words = self.raw(math.prod(shape)) % np.uint64(high)
        return torch.from_numpy(words.astype(np.int64).reshape(tuple(shape)))

    def seed(self) -> int:
        """A random 63-bit number, to seed another generator."""
        return int(self.raw(1)[0] >> np.uint64(1))

    def init_linear_(self, module: torch.nn.Module) -> None:
        """Initialise the weights and biases of all Linear and convolution layers in `module`.

        Values are uniform within 1 / sqrt(fan in), which is torch's default bound. Normalisations
        keep their constants. Raises `TypeError` for another layer with parameters of its own:
        initialise such a layer by name.
        """
        filled = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d)
        constant = (torch.nn.LayerNorm, torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)
        with torch.no_grad():
            for layer in module.modules():
                own = dict(layer.named_parameters(recurse=False))
                if isinstance(layer, filled):
                    bound = 1.0 / math.sqrt(math.prod(layer.weight.shape[1:]))
                    for parameter in own.values():
                        parameter.copy_(self.uniform(parameter.shape, -bound, bound))
                elif own and not isinstance(layer, constant):
                    raise TypeError(f"no counter-based initialisation for {type(layer).__name__}")


def seed_torch(seed: int) -> None:
    """`torch.manual_seed` at a hundredth of its cost, if the machine has no accelerator.

    Torch keeps the seed for every kind of accelerator that it was built for, each time with a
    formatted stack trace: 0.2 ms for each training step."""
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
