"""Fixed-point grids: sums that no order of additions can change.

A vector is snapped to integers under one power of two, taken from its largest magnitude or from a
bound known beforehand. Integers add exactly in any order; one rounding at the end makes a float of
the total. (Demmel and Nguyen, Fast reproducible floating-point summation, ARITH 2013; the integer
view of Ozaki's error-free splitting, Numer. Algorithms 59, 2012.)
"""

import torch

LEAST_EXPONENT = -100
"""Vectors smaller than 2^-100 are snapped as if they were that large: scales stay normal floats."""
MAGIC = 1.5 * 2.0**52
"""Added to a float64 below 2^51 in magnitude, it leaves the value, rounded to the nearest even
integer, in the low bits of the sum."""
MAGIC_BITS = 0x4338000000000000


class NotFinite(ValueError):
    """A canonical sum met NaN or infinity; the message says where."""


def exponents(x: torch.Tensor, dims: list[int]) -> torch.Tensor:
    """Least e >= LEAST_EXPONENT with |x| < 2^e over `dims`, kept as dimensions of 1; int64.

    `x` is float32 or float64. Raises `NotFinite`.
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
    """2^exponent as float64, from bits: `exponent` is int64 within -1022..1023."""
    return ((exponent + 1023) << 52).view(torch.float64)


def snap(x: torch.Tensor, exponent: torch.Tensor, bits: int) -> torch.Tensor:
    """x as int64 in units of 2^(exponent - bits), nearest even. |x| < 2^exponent; bits <= 50."""
    scaled = x.to(torch.float64) * power(bits - exponent)
    return (scaled + MAGIC).view(torch.int64) - MAGIC_BITS


def sum_bits(count: int) -> int:
    """Bits of the grid on which `count` terms add up to a total that float64 holds exactly."""
    return min(50, 51 - max(count - 1, 0).bit_length())


def exact_sum(x: torch.Tensor, dims: list[int], bound: torch.Tensor | None = None) -> torch.Tensor:
    """Sum of x over `dims` (kept as dimensions of 1), float64.

    `bound`: exponents known beforehand, broadcastable to the result; else those of x itself.
    Error: at most half a unit of the grid for each term, count * 2^(exponent - bits - 1).
    """
    count = 1
    for dim in dims:
        count *= x.shape[dim]
    bits = sum_bits(count)
    exponent = exponents(x, dims) if bound is None else bound
    total = snap(x, exponent, bits).sum(dims, keepdim=True) if dims else snap(x, exponent, bits)
    return total.to(torch.float64) * power(exponent - bits)
