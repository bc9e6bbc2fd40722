"""The kernels of random operators: Philox in registers, without an array of words in memory. A
*word* is an integer in 0 .. 2^32 - 1."""

import math

import numpy as np
import torch
from numba import prange

from workloads.numerics.kernels.primitives import functions as f
from workloads.numerics.kernels.primitives.compilation import array, bits_of, inlined, kernel
from workloads.numerics.reference.operators import random as reference
from workloads.numerics.reference.primitives import coefficients as c
from workloads.numerics.reference.primitives.grid import MAGIC, MAGIC_BITS
from workloads.numerics.registry import kernel_for

aten = torch.ops.aten
Tensor = torch.Tensor
_LOW32 = np.uint64(reference.LOW32)
_FACTOR0, _FACTOR1 = (np.uint64(one) for one in reference.MULTIPLIERS)
_WEYL0, _WEYL1 = (np.uint64(one) for one in reference.WEYL)
_ROUNDS, _HALF = reference.ROUNDS, np.uint64(32)
_TURN = reference.TURN * 2.0**-32
_TWO_OVER_PI, _HALF_PI, _SIN, _COS = c.TWO_OVER_PI, c.HALF_PI, c.SIN, c.COS
_MAGIC, _MAGIC_BITS = MAGIC, MAGIC_BITS


@inlined
def philox(key, stream, counter):
    """The four words of one counter: Philox4x32-10, uint64. `key`, `stream` and `counter` are
    uint64."""
    x0, x1 = counter & _LOW32, counter >> _HALF
    x2, x3 = stream & _LOW32, stream >> _HALF
    k0, k1 = key & _LOW32, key >> _HALF
    for _ in range(_ROUNDS):
        first, second = x0 * _FACTOR0, x2 * _FACTOR1
        x0, x1, x2, x3 = (
            (second >> _HALF) ^ x1 ^ k0,
            second & _LOW32,
            (first >> _HALF) ^ x3 ^ k1,
            first & _LOW32,
        )
        k0, k1 = (k0 + _WEYL0) & _LOW32, (k1 + _WEYL1) & _LOW32
    return x0, x1, x2, x3


@kernel
def fill_words(key, stream, out):
    """Fill `out`, uint64 (blocks, 4), with the words of counters 0, 1, ..."""
    for i in prange(out.shape[0]):
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = philox(key, stream, np.uint64(i))


@kernel
def drop(key, stream, limit, scale, x, out, mask):
    """Fill `out`, float32 (n,), with x * scale where the element's word is below `limit`, else 0.
    `mask`: bool (n,), filled with the choice."""
    count = x.size
    for i in prange((count + 3) // 4):
        w0, w1, w2, w3 = philox(key, stream, np.uint64(i))
        at = 4 * np.int64(i)
        if at + 4 <= count:
            mask[at], mask[at + 1] = w0 < limit, w1 < limit
            mask[at + 2], mask[at + 3] = w2 < limit, w3 < limit
        else:
            rest = (w0, w1, w2)
            for j in range(count - at):
                mask[at + j] = rest[j] < limit
    zero = np.float32(0.0)
    for i in prange(count):
        out[i] = x[i] * scale if mask[i] else zero


@kernel
def fill_unit(key, stream, out):
    """Fill `out`, float32 (n,), with uniform multiples of 2^-24 in [0, 1)."""
    count = out.size
    for i in prange((count + 3) // 4):
        drawn = philox(key, stream, np.uint64(i))
        at = 4 * np.int64(i)
        for j in range(min(4, count - at)):
            out[at + j] = np.float32(drawn[j] >> np.uint64(8)) * np.float32(2.0**-24)


@inlined
def cosine(x):
    """`functions.sine(x, 1)` for 0 <= x < 2^20."""
    shifted = x * _TWO_OVER_PI + _MAGIC
    whole = shifted - _MAGIC
    turns = (bits_of(shifted) - _MAGIC_BITS + 1) & 3
    rest = ((x - whole * _HALF_PI[0]) - whole * _HALF_PI[1]) - whole * _HALF_PI[2]
    square = rest * rest
    odd, even = _SIN[0], _COS[0]
    for one in _SIN[1:]:
        odd = odd * square + one
    for one in _COS[1:]:
        even = even * square + one
    odd = rest * (square * odd + 1.0)
    even = (square * square) * even + (1.0 - square * 0.5)
    value = even if turns & 1 else odd
    return -value if turns >= 2 else value


@kernel
def fill_normals(key, stream, mean, std, out):
    """Fill `out`, float32 (n,), with normal numbers: the Box-Muller transform of
    `reference.operators.random.fill_normal`."""
    count = out.size
    for i in prange((count + 1) // 2):
        drawn = philox(key, stream, np.uint64(i))
        at = 2 * np.int64(i)
        for j in range(min(2, count - at)):
            u = np.float64(drawn[2 * j] + np.uint64(1)) * 2.0**-32
            angle = np.float64(drawn[2 * j + 1]) * _TURN
            normal = math.sqrt(f.log(u) * -2.0) * cosine(angle)
            out[at + j] = np.float32(normal * std + mean)


def _key(generator: torch.Generator | None) -> tuple[np.uint64, np.uint64]:
    """The key and the stream that a call draws from the generator, each below 2^63."""
    key, stream = reference.key_of(generator, torch.device("cpu"))
    return np.uint64(key), np.uint64(stream)


@kernel_for(aten.native_dropout.default)
def dropout(x: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
    """(x * mask / (1 - p), mask): float32 and bool, of the shape of x. Other dtypes and p = 0 or 1
    go to the reference definition."""
    if train is False or p in (0.0, 1.0) or x.dtype != torch.float32:
        return reference.dropout(x, p, train)
    out, mask = torch.empty(x.shape), torch.empty(x.shape, dtype=torch.bool)
    limit = np.uint64(reference.threshold(1.0 - p))
    scale = np.float32(1.0 / (1.0 - p))
    flat = [array(one).reshape(-1) for one in (x, out, mask)]
    drop(*_key(None), limit, scale, *flat)
    return out, mask


@kernel_for(aten.bernoulli_.float)
def fill_bernoulli(
    x: Tensor, p: float = 0.5, *, generator: torch.Generator | None = None
) -> Tensor:
    """Fill x in place with 1 at probability p, else 0. Raises `ValueError` for p outside 0 .. 1."""
    words = np.empty((-(-x.numel() // 4), 4), dtype=np.uint64)
    fill_words(*_key(generator), words)
    drawn = words.reshape(-1)[: x.numel()] < np.uint64(reference.threshold(p))
    return x.copy_(torch.from_numpy(drawn).reshape(x.shape))


@kernel_for(aten.uniform_.default)
def fill_uniform(
    x: Tensor, low: float = 0.0, high: float = 1.0, *, generator: torch.Generator | None = None
) -> Tensor:
    """Fill x in place with uniform float32 numbers in [low, high). Raises `ValueError` if
    low > high."""
    values = torch.empty(x.numel())
    fill_unit(*_key(generator), array(values))
    return x.copy_(reference.spread(values, low, high).reshape(x.shape))


@kernel_for(aten.normal_.default)
def fill_normal(
    x: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: torch.Generator | None = None
) -> Tensor:
    """Fill x in place with normal float32 numbers."""
    values = torch.empty(x.numel())
    fill_normals(*_key(generator), float(mean), float(std), array(values))
    return x.copy_(values.reshape(x.shape))
