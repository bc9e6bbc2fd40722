"""Reference definitions of random operators. Element i of a call is a function of the call's key
and of i only.

A call draws its key, two integers, from the generator that stock torch would use. Seeds, `fork_rng`
and saved generator states keep their meaning. The numbers are Philox4x32-10 (Salmon et al.,
Parallel random numbers: as easy as 1, 2, 3, SC 2011), in integer arithmetic. A *word* is an integer
in 0 .. 2^32 - 1.
"""

from collections.abc import Sequence
from typing import Any

import torch

from workloads.numerics.reference.primitives import functions
from workloads.numerics.reference.primitives.grid import exponents, snap, sum_bits
from workloads.numerics.registry import Source, define

aten = torch.ops.aten
Tensor = torch.Tensor
LOW32 = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
"""Multipliers of Philox4x32, from the paper."""
WEYL = (0x9E3779B9, 0xBB67AE85)
"""Key increments of Philox4x32, from the paper."""
ROUNDS = 10
"""Rounds of Philox."""
TURN = 6.283185307179586
"""2 pi."""


def key_of(generator: torch.Generator | None, device: torch.device) -> tuple[int, int]:
    """Two integers below 2^63 from the generator: the key, and the upper half of the counters."""
    drawn = torch.empty(2, dtype=torch.int64, device=device)
    aten.random_.default(drawn, generator=generator)
    key, stream = drawn.tolist()
    return key, stream


def _multiplied(factor: int, word: Tensor) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of factor * word. int64 overflow wraps, which keeps the 64 bits."""
    product = word * factor
    return (product >> 32) & LOW32, product & LOW32


def blocks(key: int, stream: int, counters: Tensor) -> Tensor:
    """Philox4x32-10 of each counter, int64 (n,): four words each, int64 (n, 4)."""
    x0, x1 = counters & LOW32, (counters >> 32) & LOW32
    x2 = torch.full_like(x0, stream & LOW32)
    x3 = torch.full_like(x0, stream >> 32)
    k0, k1 = key & LOW32, key >> 32
    for _ in range(ROUNDS):
        high0, low0 = _multiplied(MULTIPLIERS[0], x0)
        high1, low1 = _multiplied(MULTIPLIERS[1], x2)
        x0, x1, x2, x3 = high1 ^ x1 ^ k0, low1, high0 ^ x3 ^ k1, low0
        k0, k1 = (k0 + WEYL[0]) & LOW32, (k1 + WEYL[1]) & LOW32
    return torch.stack([x0, x1, x2, x3], dim=1)


def words(key: tuple[int, int], count: int, device: torch.device) -> Tensor:
    """The first `count` words of a key, int64 (count,)."""
    counters = torch.arange(-(-count // 4), dtype=torch.int64, device=device)
    return blocks(*key, counters).reshape(-1)[:count]


def long_words(key: tuple[int, int], count: int, device: torch.device) -> Tensor:
    """63-bit integers from two words each, int64 (count,)."""
    pairs = words(key, 2 * count, device).reshape(-1, 2)
    return (pairs[:, 0] >> 1 << 32) | pairs[:, 1]


def threshold(probability: float) -> int:
    """A word below the threshold is a success. Raises `ValueError` for a probability outside
    0 .. 1."""
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"a probability lies in 0 .. 1, not {probability}")
    return int(probability * 4294967296.0)


def kept(key: tuple[int, int], probability: float, x: Tensor) -> Tensor:
    """Whether the word of each element of x is a success: bool, of the shape of x. Raises
    `ValueError` for a probability outside 0 .. 1."""
    drawn = words(key, x.numel(), x.device) < threshold(probability)
    return drawn.reshape(x.shape)


def _any(s: Source) -> tuple[Tensor]:
    return (s.tensor(s.shape(), spread=2.0),)


@define(
    aten.native_dropout.default,
    example=lambda s: (*_any(s), s.choose(0.0, 0.1, 0.5, 1.0), s.choose(True, False)),
)
def dropout(x: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
    """(x * mask / (1 - p), mask): mask is bool, of the shape of x. Without training, x and a mask
    of True. Raises `ValueError` for p outside 0 .. 1."""
    if train is False or p == 0.0:
        return x.clone(), torch.ones_like(x, dtype=torch.bool)
    mask = kept(key_of(None, x.device), 1.0 - p, x)
    return dropout_backward(x, mask, 0.0 if p == 1.0 else 1.0 / (1.0 - p)), mask


@define(
    aten.native_dropout_backward.default,
    example=lambda s: ((x := s.tensor(s.shape(), spread=2.0)), x > 0, 1.25),
)
def dropout_backward(gradient: Tensor, mask: Tensor, scale: float) -> Tensor:
    """gradient * scale where `mask` is True, else 0."""
    return torch.where(mask, gradient * scale, torch.zeros_like(gradient))


@define(aten.bernoulli_.float, example=lambda s: (*_any(s), s.choose(0.0, 0.3, 1.0)))
def fill_bernoulli(
    x: Tensor, p: float = 0.5, *, generator: torch.Generator | None = None
) -> Tensor:
    """Fill x in place with 1 at probability p, else 0. Raises `ValueError` for p outside 0 .. 1."""
    return x.copy_(kept(key_of(generator, x.device), p, x))


@define(aten.bernoulli.p, example=lambda s: (*_any(s), s.choose(0.0, 0.3, 1.0)))
def bernoulli(x: Tensor, p: float = 0.5, *, generator: torch.Generator | None = None) -> Tensor:
    """1 at probability p, else 0, of the shape and dtype of x. Raises `ValueError` for p outside
    0 .. 1."""
    return fill_bernoulli(torch.empty_like(x), p, generator=generator)


@define(aten.bernoulli.default, example=lambda s: (s.tensor(s.shape(), spread=1.0).abs(),))
def bernoulli_of(x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """1 where a uniform multiple of 2^-24 is below the element of x, its probability, else 0."""
    unit = _unit(key_of(generator, x.device), x.numel(), x.device).reshape(x.shape)
    return (unit < x).to(x.dtype)


@define(
    aten.bernoulli_.Tensor,
    example=lambda s: ((x := s.tensor(s.shape(), spread=1.0)), x.abs().contiguous()),
)
def fill_bernoulli_of(x: Tensor, p: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Fill x in place with 1 at the probability of each element of p, else 0."""
    return x.copy_(bernoulli_of(p.expand(x.shape), generator=generator))


def _unit(key: tuple[int, int], count: int, device: torch.device) -> Tensor:
    """Uniform multiples of 2^-24 in [0, 1), float32 (count,)."""
    return (words(key, count, device) >> 8).to(torch.float32) * 2.0**-24


@define(aten.uniform_.default, example=lambda s: (*_any(s), -0.3, s.choose(0.3, 2.0)))
def fill_uniform(
    x: Tensor, low: float = 0.0, high: float = 1.0, *, generator: torch.Generator | None = None
) -> Tensor:
    """Fill x in place with uniform numbers in [low, high). Raises `ValueError` if low > high."""
    unit = _unit(key_of(generator, x.device), x.numel(), x.device)
    return x.copy_(spread(unit, low, high).reshape(x.shape))


def spread(unit: Tensor, low: float, high: float) -> Tensor:
    """unit * (high - low) + low, each operation rounded to float32. A result of `high` becomes the
    float below. Raises `ValueError` if low > high."""
    if not low <= high:
        raise ValueError(f"no range from {low} to {high}: the upper bound is below the lower")
    span = torch.tensor(high - low, dtype=torch.float32)
    values = unit * span + torch.tensor(low, dtype=torch.float32)
    top = torch.tensor(high, dtype=torch.float32)
    below = torch.nextafter(top, torch.tensor(low, dtype=torch.float32))
    return torch.where(values >= top, below, values)


@define(aten.normal_.default, example=lambda s: (*_any(s), s.choose(0.0, 1.5), s.choose(1.0, 0.02)))
def fill_normal(
    x: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: torch.Generator | None = None
) -> Tensor:
    """Fill x in place with normal numbers: the Box-Muller transform in float64, sqrt(-2 ln u) cos(2
    pi v), u in (0, 1], v in [0, 1)."""
    pairs = words(key_of(generator, x.device), 2 * x.numel(), x.device).reshape(-1, 2)
    u = (pairs[:, 0] + 1).to(torch.float64) * 2.0**-32
    angle = pairs[:, 1].to(torch.float64) * (TURN * 2.0**-32)
    normal = functions.root(functions.log(u) * -2.0) * functions.sine(angle, 1)
    return x.copy_((normal * std + mean).to(torch.float32).reshape(x.shape))


@define(aten.normal.Tensor_float, example=lambda s: (*_any(s), s.choose(1.0, 0.02)))
@define(aten.normal.float_Tensor, example=lambda s: (1.5, s.tensor(s.shape(), spread=2.0).abs()))
@define(
    aten.normal.Tensor_Tensor,
    example=lambda s: (s.tensor((3, 5), spread=2.0), s.tensor((5,), spread=2.0).abs()),
)
def normal(mean: Any, std: Any = 1.0, *, generator: torch.Generator | None = None) -> Tensor:
    """z * std + mean, each operation rounded to the dtype of the tensors. z is drawn as `normal_`
    draws it."""
    given = [one for one in (mean, std) if isinstance(one, Tensor)]
    shape = torch.broadcast_shapes(*(one.shape for one in given))
    z = fill_normal(
        torch.empty(shape, dtype=given[0].dtype, device=given[0].device), generator=generator
    )
    return z * std + mean


@define(aten.normal.float_float, example=lambda s: (1.5, 0.02, [s.whole(0, 9), 3]))
def normal_of_shape(
    mean: float,
    std: float,
    shape: Sequence[int],
    *,
    generator: torch.Generator | None = None,
    **kind: Any,
) -> Tensor:
    """Normal numbers of this shape."""
    fresh = _fresh(shape, torch.get_default_dtype(), kind)
    return fill_normal(fresh, mean, std, generator=generator)


@define(aten.exponential_.default, example=lambda s: (*_any(s), s.choose(1.0, 3.0)))
def fill_exponential(
    x: Tensor, lambd: float = 1.0, *, generator: torch.Generator | None = None
) -> Tensor:
    """Fill x in place with exponential numbers of rate `lambd`: -ln(u) / lambd, u in (0, 1], in
    float64."""
    u = (words(key_of(generator, x.device), x.numel(), x.device) + 1).to(torch.float64) * 2.0**-32
    return x.copy_((functions.log(u) / -lambd).to(torch.float32).reshape(x.shape))


@define(aten.randperm.default, aten.randperm.generator, example=lambda s: (s.whole(0, 40),))
def randperm(count: int, *, generator: torch.Generator | None = None, **kind: Any) -> Tensor:
    """A random permutation of 0 .. count - 1, int64 by default: the stable order of 63-bit
    numbers."""
    device = torch.device(kind.get("device") or "cpu")
    drawn = long_words(key_of(generator, device), count, device)
    order = aten.sort.stable(drawn, stable=True, dim=0)[1]
    return order.to(kind.get("dtype") or torch.int64)


@define(aten.random_.default, example=lambda s: (s.integers((9,), 5),))
def fill_random_all(x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Fill x in place with integers from 0 to the largest value of its dtype. int64 ends one
    below its largest value. Floats end at the largest value up to which every integer is
    representable."""
    if x.is_floating_point():
        largest = int(2.0 / torch.finfo(x.dtype).eps)
    else:
        largest = 1 if x.dtype == torch.bool else torch.iinfo(x.dtype).max
    return fill_random_between(x, 0, min(largest, 2**63 - 2) + 1, generator=generator)


@define(aten.random_.to, example=lambda s: (s.integers((9,), 5), s.choose(1, 7, 1000)))
def fill_random(x: Tensor, high: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Fill x in place with integers in 0 .. high - 1. Raises `ValueError` if high <= 0."""
    return fill_random_between(x, 0, high, generator=generator)


@define(getattr(aten.random_, "from"), example=lambda s: (s.integers((9,), 5), -3, s.choose(1, 7)))
def fill_random_between(
    x: Tensor, low: int, high: int | None, *, generator: torch.Generator | None = None
) -> Tensor:
    """Fill x in place with integers in low .. high - 1: low + a 63-bit integer modulo the span.
    `high` None means 2^63 - 1. The bias is below span / 2^63.

    Raises `ValueError` if the span is not in 1 .. 2^63 - 1.
    """
    span = (high if high is not None else 2**63 - 1) - low
    if not 0 < span < 2**63:
        raise ValueError(f"no range of integers from {low} to {high}: it is empty or too long")
    drawn = long_words(key_of(generator, x.device), x.numel(), x.device) % span
    return x.copy_((drawn + low).reshape(x.shape))


def _fresh(shape: Sequence[int], default: torch.dtype, kind: dict[str, Any]) -> Tensor:
    """An uninitialised tensor. `kind`: the dtype and device of the call, if given."""
    return torch.empty(
        tuple(shape), dtype=kind.get("dtype") or default, device=kind.get("device") or "cpu"
    )


@define(aten.rand.default, aten.rand.generator, example=lambda s: ([s.whole(0, 9), 3],))
def rand(shape: Sequence[int], *, generator: torch.Generator | None = None, **kind: Any) -> Tensor:
    """Uniform numbers in [0, 1) of this shape."""
    return fill_uniform(_fresh(shape, torch.get_default_dtype(), kind), generator=generator)


@define(aten.randn.default, aten.randn.generator, example=lambda s: ([s.whole(0, 9), 3],))
def randn(shape: Sequence[int], *, generator: torch.Generator | None = None, **kind: Any) -> Tensor:
    """Standard normal numbers of this shape."""
    return fill_normal(_fresh(shape, torch.get_default_dtype(), kind), generator=generator)


@define(aten.randint.default, aten.randint.generator, example=lambda s: (7, [s.whole(0, 9), 3]))
def randint(
    high: int, shape: Sequence[int], *, generator: torch.Generator | None = None, **kind: Any
) -> Tensor:
    """Integers in 0 .. high - 1 of this shape, int64 by default. Raises `ValueError` if
    high <= 0."""
    return fill_random(_fresh(shape, torch.int64, kind), high, generator=generator)


@define(aten.randint.low, aten.randint.low_generator, example=lambda s: (-2, 7, [s.whole(0, 9)]))
def randint_between(
    low: int,
    high: int,
    shape: Sequence[int],
    *,
    generator: torch.Generator | None = None,
    **kind: Any,
) -> Tensor:
    """Integers in low .. high - 1 of this shape, int64 by default. Raises `ValueError` if
    high <= low."""
    return fill_random_between(_fresh(shape, torch.int64, kind), low, high, generator=generator)


@define(aten.rand_like.default, example=_any)
def rand_like(x: Tensor, **kind: Any) -> Tensor:
    """Uniform numbers in [0, 1) of the shape of x."""
    return fill_uniform(_fresh(x.shape, x.dtype, kind))


@define(aten.randn_like.default, example=_any)
def randn_like(x: Tensor, **kind: Any) -> Tensor:
    """Standard normal numbers of the shape of x."""
    return fill_normal(_fresh(x.shape, x.dtype, kind))


@define(aten.randint_like.default, example=lambda s: (*_any(s), 7))
def randint_like(x: Tensor, high: int, **kind: Any) -> Tensor:
    """Integers in 0 .. high - 1 of the shape of x. Raises `ValueError` if high <= 0."""
    return fill_random(_fresh(x.shape, x.dtype, kind), high)


@define(aten.randint_like.low_dtype, example=lambda s: (*_any(s), -2, 7))
def randint_like_between(x: Tensor, low: int, high: int, **kind: Any) -> Tensor:
    """Integers in low .. high - 1 of the shape of x. Raises `ValueError` if high <= low."""
    return fill_random_between(_fresh(x.shape, x.dtype, kind), low, high)


def _weights(s: Source) -> tuple[Any, ...]:
    weights = s.tensor(s.choose((4,), (3, 7)), spread=2.0).abs() + 0.125
    return weights, s.whole(1, 4), s.choose(True, False)


@define(aten.multinomial.default, example=_weights)
def multinomial(
    weights: Tensor,
    count: int,
    replacement: bool = False,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Indices drawn in proportion to the weights of the last dimension, int64 (..., count).

    With replacement: an integer below the exact total of the snapped weights is looked up in their
    cumulative sums. Without replacement: each index has an exponential waiting time at the rate of
    its weight, and the indices with the shortest times are taken. Raises `ValueError` for a
    negative weight or too few positive weights, and `NotFinite`.
    """
    wanted = 1 if replacement else count
    if bool((weights < 0).any()) or bool(((weights > 0).sum(-1) < wanted).any()):
        raise ValueError(
            f"weights must not be negative, and each row needs at least {wanted} above 0"
        )
    key = key_of(generator, weights.device)
    if not replacement:
        u = (words(key, weights.numel(), weights.device) + 1).to(torch.float64) * 2.0**-32
        waiting = functions.log(u).reshape(weights.shape) / weights.to(torch.float64)
        waiting = torch.where(weights > 0, waiting, -torch.inf)
        return aten.sort.stable(waiting, stable=True, dim=-1, descending=True)[1][..., :count]
    bits = sum_bits(weights.shape[-1])
    running = snap(weights, exponents(weights, [weights.dim() - 1]), bits).cumsum(-1)
    drawn = long_words(key, count * running[..., 0].numel(), weights.device)
    drawn = drawn.reshape(*weights.shape[:-1], count) % running[..., -1:]
    return torch.searchsorted(running, drawn, right=True)
