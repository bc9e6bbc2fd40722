"""exp, log, erf, tanh, sine and cosine in float64: polynomials with a fixed order of operations.

Every step is one IEEE-754 rounding of +, -, * or /. No step is contracted into a fused
multiply-add. The results are therefore the same on every machine. Arguments and results are float64
tensors of any shape. The coefficients are in `coefficients.py`.
"""

import numpy as np
import torch

from workloads.numerics.reference.primitives import coefficients as c
from workloads.numerics.reference.primitives.grid import MAGIC, MAGIC_BITS


def horner(x: torch.Tensor, coefficients: tuple[float, ...]) -> torch.Tensor:
    """The polynomial with these coefficients, highest power first, by Horner's rule."""
    total = torch.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    return total


def exp(x: torch.Tensor) -> torch.Tensor:
    """e^x, relative error below 2^-40. x is clamped to -700 .. 700. NaN stays NaN."""
    x = torch.where(x < -700.0, -700.0, torch.where(x > 700.0, 700.0, x))
    shifted = x * c.LOG2_E + MAGIC
    whole = shifted - MAGIC
    rest = (x - whole * c.LN2_HIGH) - whole * c.LN2_LOW
    scale = ((shifted.view(torch.int64) - MAGIC_BITS + 1023) << 52).view(torch.float64)
    return (horner(rest, c.EXP) * rest + 1.0) * scale


def log(x: torch.Tensor) -> torch.Tensor:
    """ln x of a float64 that holds a float32 value, relative error below 2^-40.

    0 gives -inf, +inf stays, x < 0 and NaN give NaN.
    """
    bits = x.view(torch.int64)
    # The mantissa lies in sqrt(1/2) .. sqrt(2). The exponent of a number near 1 is then 0, and
    # log(1 + small) does not cancel.
    exponent = (bits - c.SQRT_HALF_BITS) >> 52
    mantissa = (bits - (exponent << 52)).view(torch.float64)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    square = s * s
    series = s * (square * horner(square, c.LOG) + 2.0)
    result = exponent.to(torch.float64) * c.LN2 + series
    result = torch.where(x == 0.0, -torch.inf, result)
    result = torch.where(x == torch.inf, x, result)
    return torch.where((x < 0.0) | torch.isnan(x), torch.nan, result)


def root(x: torch.Tensor) -> torch.Tensor:
    """The square root, correctly rounded.

    `torch.sqrt` is not correctly rounded on CPUs, and its result depends on the mode of MKL. NumPy
    computes the root there.
    """
    if x.device.type == "cpu":
        with np.errstate(invalid="ignore"):
            return torch.from_numpy(np.asarray(np.sqrt(x.contiguous().numpy())))
    return torch.sqrt(x)


def normal_tail(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """P(Z <= x) of a standard normal Z, relative error 2^-30, and exp(-x^2 / 2).

    P(Z <= -|x|) = exp(-x^2 / 2) * t * Q(t) with t = 1 / (1 + |x| * TAIL_SHIFT) and the polynomial Q
    of `TAIL`.
    """
    magnitude = x.abs()
    bell = exp((x * x) * -0.5)
    t = 1.0 / (magnitude * c.TAIL_SHIFT + 1.0)
    lower = bell * (t * horner(t, c.TAIL))
    return torch.where(x < 0.0, lower, 1.0 - lower), bell


def tanh(x: torch.Tensor) -> torch.Tensor:
    """tanh x, relative error 2^-36. For |x| < 2^-14 the result is x, relative error 2^-29."""
    doubled = exp(2.0 * torch.where(x > 20.0, 20.0, torch.where(x < -20.0, -20.0, x)))
    return torch.where(x.abs() < 2.0**-14, x, (doubled - 1.0) / (doubled + 1.0))


def sigmoid(x: torch.Tensor) -> torch.Tensor:
    """1 / (1 + e^-x)."""
    return 1.0 / (exp(-x) + 1.0)


def sine(x: torch.Tensor, quarter: int) -> torch.Tensor:
    """sin(x + quarter * pi / 2), absolute error 2^-45.

    Raises `ValueError` if any |x| >= 2^20: the reduction by multiples of pi / 2 is exact only
    below.
    """
    if bool((x.abs() >= 2.0**20).any()):
        raise ValueError("sine and cosine are canonical below 2^20 only: reduce the angle first")
    shifted = x * c.TWO_OVER_PI + MAGIC
    whole = shifted - MAGIC
    turns = (shifted.view(torch.int64) - MAGIC_BITS + quarter) & 3
    rest = x
    for part in c.HALF_PI:
        rest = rest - whole * part
    square = rest * rest
    odd = rest * (square * horner(square, c.SIN) + 1.0)
    even = (square * square) * horner(square, c.COS) + (1.0 - square * 0.5)
    value = torch.where((turns & 1) == 1, even, odd)
    return torch.where(turns >= 2, -value, value)


def log1p(x: torch.Tensor) -> torch.Tensor:
    """ln(1 + x) for x > -1/4, relative error below 2^-40. For |x| < 1/4 the sum 1 + x is not
    formed."""
    s = x / (x + 2.0)
    square = s * s
    near = s * (square * horner(square, c.LOG) + 2.0)
    return torch.where(x.abs() < 0.25, near, log(x + 1.0))


def expm1(x: torch.Tensor) -> torch.Tensor:
    """e^x - 1. For |x| < 1/4 the polynomial of `exp` is used without its constant 1."""
    return torch.where(x.abs() < 0.25, horner(x, c.EXP) * x, exp(x) - 1.0)
