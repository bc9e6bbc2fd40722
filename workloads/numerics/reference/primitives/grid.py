"""Fixed-point grids: exact sums that do not depend on the order of additions.

All elements of a vector are snapped to integers on one grid. The grid's power of two comes from the
vector's largest magnitude or from a known bound. Integers add exactly in any order. The total is
rounded to a float once. Sources: Demmel and Nguyen, Fast reproducible floating-point summation,
ARITH 2013; Ozaki et al., error-free splitting, Numerical Algorithms 59, 2012.
"""

import torch

LEAST_EXPONENT = -100
"""The smallest exponent of a grid. A vector below 2^-100 uses the grid of 2^-100, so that all
scales are normal floats."""
MAGIC = 1.5 * 2.0**52
"""For |x| < 2^51, the low bits of x + MAGIC hold the integer nearest to x, ties to even."""
MAGIC_BITS = 0x4338000000000000
"""The bits of MAGIC. bits(x + MAGIC) - MAGIC_BITS is the integer."""


class NotFinite(ValueError):
    """A canonical sum has a term that is NaN or infinite. The message names the operator or the
    shape."""


def exponents(x: torch.Tensor, dims: list[int]) -> torch.Tensor:
    """The smallest e >= LEAST_EXPONENT with |x| < 2^e over `dims`, int64. The dimensions stay, with
    size 1.

    x: float32 or float64. Raises `NotFinite`.
    """
    if x.numel() == 0:
        kept = [1 if at in dims else size for at, size in enumerate(x.shape)]
        return torch.full(kept, LEAST_EXPONENT, dtype=torch.int64, device=x.device)
    largest = x.abs().amax(dims, keepdim=True) if dims else x.abs()
    bits = largest.to(torch.float64).view(torch.int64)
    if bool((bits >= 0x7FF0000000000000).any()) or bool(torch.isnan(x).any()):
        raise NotFinite(f"a tensor of shape {tuple(x.shape)} holds NaN or infinity")
    return ((bits >> 52) - 1022).clamp_min(LEAST_EXPONENT)


def power(exponent: torch.Tensor) -> torch.Tensor:
    """2^exponent as float64, built from bits. `exponent`: int64 in -1022 .. 1023."""
    return ((exponent + 1023) << 52).view(torch.float64)


def snap(x: torch.Tensor, exponent: torch.Tensor, bits: int) -> torch.Tensor:
    """The integers nearest to x / 2^(exponent - bits), ties to even, int64. |x| < 2^exponent;
    bits <= 50."""
    scaled = x.to(torch.float64) * power(bits - exponent)
    return (scaled + MAGIC).view(torch.int64) - MAGIC_BITS


def sum_bits(count: int) -> int:
    """Magnitude bits of a grid on which `count` terms have a total that float64 holds exactly."""
    return min(50, 51 - max(count - 1, 0).bit_length())


def exact_sum(x: torch.Tensor, dims: list[int], bound: torch.Tensor | None = None) -> torch.Tensor:
    """The sum of x over `dims`, float64. The dimensions stay, with size 1. Raises `NotFinite`.

    `bound`: known exponents, broadcastable to the result. Without a bound, the exponents are those
    of x. Error: at most half a unit of the grid per term, count * 2^(exponent - bits - 1).
    """
    count = 1
    for dim in dims:
        count *= x.shape[dim]
    bits = sum_bits(count)
    exponent = exponents(x, dims) if bound is None else bound
    total = snap(x, exponent, bits).sum(dims, keepdim=True) if dims else snap(x, exponent, bits)
    return total.to(torch.float64) * power(exponent - bits)
