"""Reference definitions of elementwise operators: those with more than one rounding, and those that
choose between zeros.

An arithmetic operator rounds each of its operations once, in the order written here. A function is
computed in float64 and rounded once to the dtype of the argument. A choice is made by a comparison.
Integer tensors go to the stock kernels, which are exact.
"""

from typing import Any

import torch

from workloads.numerics.reference.primitives import functions
from workloads.numerics.registry import Source, define

aten = torch.ops.aten
Tensor = torch.Tensor


def one(s: Source) -> tuple[Tensor]:
    """Example: one tensor of any shape, strides and values."""
    return (s.tensor(s.shape()),)


def moderate(s: Source) -> tuple[Tensor]:
    """Example: one tensor within +-30, where functions are neither 0 nor infinite."""
    return (s.tensor(s.shape(), spread=30.0),)


def pair(s: Source) -> tuple[Tensor, Tensor]:
    """Example: two tensors that broadcast."""
    shape = s.shape()
    other = tuple(s.choose(size, 1) for size in shape[s.whole(0, len(shape)) :])
    return s.tensor(shape), s.tensor(other)


def with_alpha(s: Source) -> tuple[Any, ...]:
    """Example: two tensors that broadcast, and `alpha`."""
    return (*pair(s), {"alpha": s.choose(1, -1, 0.3, 7)})


def with_number(s: Source) -> tuple[Tensor, float]:
    """Example: one tensor and one number."""
    return s.tensor(s.shape()), s.choose(0.0, 1.0, -2.5, 0.1)


def widened(x: Tensor) -> Tensor:
    """x as float64."""
    return x.to(torch.float64)


def _plus(x: Tensor, y: Any, sign: int, alpha: float) -> Tensor:
    other = y if isinstance(y, Tensor) else torch.tensor(y, dtype=_kind_of(x, y), device=x.device)
    if alpha != 1:
        other = other * alpha
    return x + other if sign > 0 else x - other


def _kind_of(x: Tensor, number: float) -> torch.dtype:
    """The dtype of an operation on a tensor and a number: the tensor's dtype, or the default float
    dtype for a float and an integer tensor."""
    return torch.result_type(x, number)


@define(aten.add.Tensor, aten.add.Scalar, example=with_alpha)
def add(x: Tensor, y: Any, *, alpha: float = 1) -> Tensor:
    """x + y * alpha. The product and the sum are rounded separately."""
    return _plus(x, y, 1, alpha)


@define(aten.sub.Tensor, aten.sub.Scalar, example=with_alpha)
def sub(x: Tensor, y: Any, *, alpha: float = 1) -> Tensor:
    """x - y * alpha. The product and the difference are rounded separately."""
    return _plus(x, y, -1, alpha)


@define(aten.rsub.Scalar, aten.rsub.Tensor, example=with_alpha)
def rsub(x: Tensor, y: Any, alpha: float = 1) -> Tensor:
    """y - x * alpha. The product and the difference are rounded separately."""
    other = torch.as_tensor(y, dtype=_kind_of(x, y), device=x.device)
    return other - (x * alpha if alpha != 1 else x)


@define(aten.addcmul.default, example=lambda s: (s.tensor((5,)), s.tensor((5,)), s.tensor((5,))))
def addcmul(x: Tensor, y: Tensor, z: Tensor, *, value: float = 1) -> Tensor:
    """x + y * z * value. Each operation is rounded separately."""
    product = y * z
    return x + (product * value if value != 1 else product)


@define(aten.addcdiv.default, example=lambda s: (s.tensor((5,)), s.tensor((5,)), s.tensor((5,))))
def addcdiv(x: Tensor, y: Tensor, z: Tensor, *, value: float = 1) -> Tensor:
    """x + y / z * value. Each operation is rounded separately."""
    quotient = y / z
    return x + (quotient * value if value != 1 else quotient)


@define(aten.lerp.Scalar, example=lambda s: (*pair(s), 0.3))
def lerp(x: Tensor, y: Tensor, weight: float) -> Tensor:
    """x + (y - x) * weight. Each operation is rounded separately."""
    return x + (y - x) * weight


@define(aten.relu.default, example=one)
def relu(x: Tensor) -> Tensor:
    """x where x > 0 or x is NaN, else 0."""
    return torch.where((x > 0) | torch.isnan(x), x, torch.zeros_like(x))


@define(
    aten.threshold_backward.default,
    example=lambda s: (*[s.tensor((7, 5)) for _ in range(2)], 0),
)
def threshold_backward(gradient: Tensor, x: Tensor, threshold: float) -> Tensor:
    """0 where x <= threshold, else gradient."""
    return torch.where(x <= threshold, torch.zeros_like(gradient), gradient)


@define(aten.clamp.default, example=lambda s: (*one(s), s.choose(None, -0.5), s.choose(0.0, 0.5)))
def clamp(x: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    """x limited to low .. high. Either limit may be missing. NaN stays NaN."""
    if low is not None:
        x = torch.where(x < low, torch.full_like(x, low), x)
    if high is not None:
        x = torch.where(x > high, torch.full_like(x, high), x)
    return x


@define(aten.clamp_min.default, example=with_number)
def clamp_min(x: Tensor, low: float) -> Tensor:
    """x, but at least `low`."""
    return clamp(x, low, None)


@define(aten.clamp_max.default, example=with_number)
def clamp_max(x: Tensor, high: float) -> Tensor:
    """x, but at most `high`."""
    return clamp(x, None, high)


@define(aten.maximum.default, example=pair)
def maximum(x: Tensor, y: Tensor) -> Tensor:
    """x where x > y or x is NaN, else y."""
    return torch.where((x > y) | torch.isnan(x), x, y)


@define(aten.minimum.default, example=pair)
def minimum(x: Tensor, y: Tensor) -> Tensor:
    """x where x < y or x is NaN, else y."""
    return torch.where((x < y) | torch.isnan(x), x, y)


@define(aten.sqrt.default, example=one)
def sqrt(x: Tensor) -> Tensor:
    """The square root, correctly rounded."""
    return functions.root(x)


@define(aten.rsqrt.default, example=one)
def rsqrt(x: Tensor) -> Tensor:
    """1 / sqrt(x), computed in float64 and rounded once."""
    return (1.0 / functions.root(widened(x))).to(x.dtype)


@define(aten.exp.default, example=one)
def exp(x: Tensor) -> Tensor:
    """e^x, computed in float64 and rounded once."""
    return functions.exp(widened(x)).to(x.dtype)


@define(aten.log.default, example=one)
def log(x: Tensor) -> Tensor:
    """ln x, computed in float64 and rounded once."""
    return functions.log(widened(x)).to(x.dtype)


@define(aten.log1p.default, example=one)
def log1p(x: Tensor) -> Tensor:
    """ln(1 + x), computed in float64 and rounded once."""
    wide = widened(x)
    # 1 + x is exact in float64 for every float32 x of at least 2^-29. For smaller x, log1p(x) is x.
    return torch.where(wide.abs() < 2.0**-27, wide, functions.log(wide + 1.0)).to(x.dtype)


@define(aten.sin.default, example=moderate)
def sin(x: Tensor) -> Tensor:
    """sin x for |x| < 2^20. Raises `ValueError` for larger x."""
    return functions.sine(widened(x), 0).to(x.dtype)


@define(aten.cos.default, example=moderate)
def cos(x: Tensor) -> Tensor:
    """cos x for |x| < 2^20. Raises `ValueError` for larger x."""
    return functions.sine(widened(x), 1).to(x.dtype)


@define(
    aten.pow.Tensor_Scalar,
    example=lambda s: (*one(s), s.choose(0, 1, 2, 3, -1, -2, 0.5, -0.5, 1.7)),
)
def pow(x: Tensor, exponent: float) -> Tensor:
    """x^exponent: products for integer exponents up to 4 in magnitude, the root for 1/2 and -1/2,
    else exp and log. Each in float64 and rounded once."""
    if not x.is_floating_point():
        return aten.pow.Tensor_Scalar(x, exponent)
    wide = widened(x)
    if exponent in (0.5, -0.5):
        result = functions.root(wide)
    elif float(exponent).is_integer() and abs(exponent) <= 4:
        result = torch.ones_like(wide)
        for _ in range(int(abs(exponent))):
            result = result * wide
    else:
        return functions.exp(functions.log(wide) * float(exponent)).to(x.dtype)
    return (result if exponent >= 0 else 1.0 / result).to(x.dtype)


@define(aten.pow.Scalar, example=lambda s: (s.choose(10000.0, 2.0, 0.5), s.tensor((9,), spread=2)))
def pow_of_number(base: float, exponent: Tensor) -> Tensor:
    """base^exponent, by exp and log in float64, rounded once."""
    wide = torch.tensor(float(base), dtype=torch.float64, device=exponent.device)
    return functions.exp(widened(exponent) * functions.log(wide)).to(exponent.dtype)


@define(
    aten.sort.default, example=lambda s: (s.tensor((s.whole(0, 40),)), 0, s.choose(True, False))
)
def sort(x: Tensor, dim: int = -1, descending: bool = False) -> tuple[Tensor, Tensor]:
    """Stable sort along `dim`: values and int64 indices."""
    return aten.sort.stable(x, stable=True, dim=dim, descending=descending)


@define(aten.topk.default, example=lambda s: (s.tensor((s.whole(3, 40),)), s.whole(0, 3)))
def topk(
    x: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> tuple[Tensor, Tensor]:
    """The k largest or smallest values along `dim`, in order, and their indices. Equal values keep
    their order in x."""
    values, indices = aten.sort.stable(x, stable=True, dim=dim, descending=largest)
    return values.narrow(dim, 0, k), indices.narrow(dim, 0, k)
