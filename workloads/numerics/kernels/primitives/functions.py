"""Kernel versions of `reference.primitives.functions`, for one float64 at a time.

Each function has the operations of its reference definition, in the same order. LLVM vectorises the
loops that call it. Intervals and error bounds stand in the reference.
"""

import math

from workloads.numerics.kernels.primitives.compilation import bits_of, float64_of, inlined
from workloads.numerics.reference.primitives import coefficients as c
from workloads.numerics.reference.primitives.grid import MAGIC, MAGIC_BITS

_LOG2_E, _LN2_HIGH, _LN2_LOW, _LN2 = c.LOG2_E, c.LN2_HIGH, c.LN2_LOW, c.LN2
_SQRT_HALF_BITS, _TAIL_SHIFT = c.SQRT_HALF_BITS, c.TAIL_SHIFT
_EXP, _LOG, _TAIL = c.EXP, c.LOG, c.TAIL
_MAGIC, _MAGIC_BITS = MAGIC, MAGIC_BITS


@inlined
def exp_polynomial(r):
    """(e^r - 1) / r."""
    total = _EXP[0]
    total = total * r + _EXP[1]
    total = total * r + _EXP[2]
    total = total * r + _EXP[3]
    total = total * r + _EXP[4]
    total = total * r + _EXP[5]
    total = total * r + _EXP[6]
    total = total * r + _EXP[7]
    return total * r + _EXP[8]


@inlined
def exp(x):
    """e^x. x is clamped to -700 .. 700. NaN stays NaN."""
    x = -700.0 if x < -700.0 else (700.0 if x > 700.0 else x)
    shifted = x * _LOG2_E + _MAGIC
    whole = shifted - _MAGIC
    rest = (x - whole * _LN2_HIGH) - whole * _LN2_LOW
    scale = float64_of((bits_of(shifted) - _MAGIC_BITS + 1023) << 52)
    return (exp_polynomial(rest) * rest + 1.0) * scale


@inlined
def log_series(s):
    """ln((1 + s) / (1 - s))."""
    square = s * s
    total = _LOG[0]
    total = total * square + _LOG[1]
    total = total * square + _LOG[2]
    total = total * square + _LOG[3]
    total = total * square + _LOG[4]
    total = total * square + _LOG[5]
    total = total * square + _LOG[6]
    return s * (square * total + 2.0)


@inlined
def log(x):
    """ln x. 0 gives -inf, +inf stays, x < 0 and NaN give NaN."""
    bits = bits_of(x)
    exponent = (bits - _SQRT_HALF_BITS) >> 52
    mantissa = float64_of(bits - (exponent << 52))
    s = (mantissa - 1.0) / (mantissa + 1.0)
    result = exponent * _LN2 + log_series(s)
    result = -math.inf if x == 0.0 else result
    result = x if x == math.inf else result
    return math.nan if x < 0.0 or x != x else result  # noqa: PLR0124 - NaN


@inlined
def log1p(x):
    """ln(1 + x) for x > -1/4."""
    s = x / (x + 2.0)
    return log_series(s) if abs(x) < 0.25 else log(x + 1.0)


@inlined
def expm1(x):
    """e^x - 1."""
    return exp_polynomial(x) * x if abs(x) < 0.25 else exp(x) - 1.0


@inlined
def sigmoid(x):
    """1 / (1 + e^-x)."""
    return 1.0 / (exp(-x) + 1.0)


@inlined
def tanh(x):
    """tanh x. x is clamped to -20 .. 20 in the exponent."""
    doubled = exp(2.0 * (20.0 if x > 20.0 else (-20.0 if x < -20.0 else x)))
    return x if abs(x) < 2.0**-14 else (doubled - 1.0) / (doubled + 1.0)


@inlined
def bell(x):
    """exp(-x^2 / 2)."""
    return exp((x * x) * -0.5)


@inlined
def normal_tail(x, bell):
    """P(Z <= x) of a standard normal Z. `bell` is exp(-x^2 / 2)."""
    t = 1.0 / (abs(x) * _TAIL_SHIFT + 1.0)
    total = _TAIL[0]
    total = total * t + _TAIL[1]
    total = total * t + _TAIL[2]
    total = total * t + _TAIL[3]
    total = total * t + _TAIL[4]
    total = total * t + _TAIL[5]
    total = total * t + _TAIL[6]
    total = total * t + _TAIL[7]
    total = total * t + _TAIL[8]
    total = total * t + _TAIL[9]
    total = total * t + _TAIL[10]
    total = total * t + _TAIL[11]
    lower = bell * (t * total)
    return lower if x < 0.0 else 1.0 - lower
