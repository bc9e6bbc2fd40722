"""Reference definitions of activations and their gradients.

Each value is computed in float64 and rounded once to the dtype of the argument. Tensors have any
shape. The result has the shape of the argument.
"""

import torch

from workloads.numerics.reference.operators.elementwise import moderate, one, widened
from workloads.numerics.reference.primitives import functions
from workloads.numerics.registry import Source, define

aten = torch.ops.aten
Tensor = torch.Tensor
ROOT_TWO_OVER_PI = 0.7978845608028654
CUBIC = 0.044715
ROOT_TWO = 1.4142135623730951
TWO_OVER_ROOT_PI = 1.1283791670955126
BELL_HEIGHT = 0.3989422804014327
"""1 / sqrt(2 pi)."""


def _two(s: Source) -> tuple[Tensor, Tensor]:
    shape = s.shape()
    return s.tensor(shape, spread=3.0), s.tensor(shape, spread=20.0)


def _unit(s: Source) -> tuple[Tensor, Tensor]:
    shape = s.shape()
    return s.tensor(shape, spread=3.0), s.tensor(shape, spread=1.0)


def _elu(s: Source) -> tuple[object, ...]:
    gradient, x = _two(s)
    return gradient, 1, 1, 1, False, x


@define(
    aten.gelu.default,
    example=lambda s: (*moderate(s), {"approximate": s.choose("none", "tanh")}),
)
def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """x * P(Z <= x). `approximate="tanh"`: x * sigmoid(2 u), with the argument u of tanh in the
    approximation."""
    wide = widened(x)
    if approximate == "none":
        return (wide * functions.normal_tail(wide)[0]).to(x.dtype)
    return (wide * functions.sigmoid(_twice_inner(wide))).to(x.dtype)


def _twice_inner(x: Tensor) -> Tensor:
    """2 u, with the argument u of tanh in the approximation of GELU: (1 + tanh u) / 2 is sigmoid(2
    u)."""
    return (x * (2.0 * ROOT_TWO_OVER_PI)) * (x * x * CUBIC + 1.0)


@define(
    aten.gelu_backward.default,
    example=lambda s: (*_two(s), {"approximate": s.choose("none", "tanh")}),
)
def gelu_backward(gradient: Tensor, x: Tensor, *, approximate: str = "none") -> Tensor:
    """gradient * (x * density(x) + P(Z <= x)), or the derivative of the approximation."""
    wide = widened(x)
    if approximate == "none":
        tail, bell = functions.normal_tail(wide)
        slope = wide * (bell * BELL_HEIGHT) + tail
    else:
        s = functions.sigmoid(_twice_inner(wide))
        inner = (wide * wide * (3.0 * CUBIC) + 1.0) * (2.0 * ROOT_TWO_OVER_PI)
        slope = (s * (1.0 - s)) * (wide * inner) + s
    return (widened(gradient) * slope).to(x.dtype)


@define(aten.silu.default, example=one)
def silu(x: Tensor) -> Tensor:
    """x * sigmoid(x)."""
    wide = widened(x)
    return (wide * functions.sigmoid(wide)).to(x.dtype)


@define(aten.silu_backward.default, example=_two)
def silu_backward(gradient: Tensor, x: Tensor) -> Tensor:
    """gradient * ((1 - s) * s * x + s), s = sigmoid(x)."""
    wide = widened(x)
    s = functions.sigmoid(wide)
    return (widened(gradient) * ((1.0 - s) * (s * wide) + s)).to(x.dtype)


@define(aten.sigmoid.default, example=one)
def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e^-x)."""
    return functions.sigmoid(widened(x)).to(x.dtype)


@define(aten.sigmoid_backward.default, example=_unit)
def sigmoid_backward(gradient: Tensor, y: Tensor) -> Tensor:
    """gradient * y * (1 - y), y = sigmoid(x)."""
    wide = widened(y)
    return (widened(gradient) * (wide * (1.0 - wide))).to(y.dtype)


@define(aten.tanh.default, example=one)
def tanh(x: Tensor) -> Tensor:
    """tanh x."""
    return functions.tanh(widened(x)).to(x.dtype)


@define(aten.tanh_backward.default, example=_unit)
def tanh_backward(gradient: Tensor, y: Tensor) -> Tensor:
    """gradient * (1 - y^2), y = tanh(x)."""
    wide = widened(y)
    return (widened(gradient) * (1.0 - wide * wide)).to(y.dtype)


@define(aten.erf.default, example=one)
def erf(x: Tensor) -> Tensor:
    """2 P(Z <= x sqrt 2) - 1. For |x| < 2^-6, where this difference cancels, the first two terms of
    the power series."""
    wide = widened(x)
    near = wide * (wide * wide * (-1.0 / 3.0) + 1.0) * TWO_OVER_ROOT_PI
    far = 2.0 * functions.normal_tail(wide * ROOT_TWO)[0] - 1.0
    return torch.where(wide.abs() < 2.0**-6, near, far).to(x.dtype)


@define(aten.softplus.default, example=moderate)
def softplus(x: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """ln(1 + e^(beta x)) / beta. x where beta x > threshold."""
    scaled = widened(x) * float(beta)
    soft = functions.log1p(functions.exp(scaled)) / float(beta)
    return torch.where(scaled > threshold, widened(x), soft).to(x.dtype)


@define(aten.softplus_backward.default, example=lambda s: (*_two(s), 1, 20))
def softplus_backward(gradient: Tensor, x: Tensor, beta: float, threshold: float) -> Tensor:
    """gradient * sigmoid(beta x). gradient where beta x > threshold."""
    scaled = widened(x) * float(beta)
    slope = torch.where(scaled > threshold, 1.0, functions.sigmoid(scaled))
    return (widened(gradient) * slope).to(x.dtype)


@define(aten.leaky_relu.default, example=one)
def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else x * negative_slope."""
    return torch.where(x > 0, x, x * negative_slope)


@define(aten.leaky_relu_backward.default, example=lambda s: (*_two(s), 0.1, False))
def leaky_relu_backward(
    gradient: Tensor, x: Tensor, negative_slope: float, self_is_result: bool
) -> Tensor:
    """gradient where x > 0, else gradient * negative_slope."""
    return torch.where(x > 0, gradient, gradient * negative_slope)


@define(aten.elu.default, example=moderate)
def elu(x: Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Tensor:
    """scale * input_scale * x where x > 0, else scale * alpha * (e^(input_scale x) - 1)."""
    wide = widened(x) * float(input_scale)
    low = functions.expm1(torch.where(wide > 0, 0.0, wide)) * float(alpha)
    return (torch.where(widened(x) > 0, wide, low) * float(scale)).to(x.dtype)


@define(aten.elu_backward.default, example=_elu)
def elu_backward(
    gradient: Tensor,
    alpha: float,
    scale: float,
    input_scale: float,
    is_result: bool,
    x: Tensor,
) -> Tensor:
    """Gradient of `elu`. `is_result`: x is the output of `elu` instead of its input."""
    wide = widened(x)
    if is_result:
        low = (wide + float(alpha) * float(scale)) * float(input_scale)
    else:
        grown = functions.exp(torch.where(wide > 0, 0.0, wide) * float(input_scale))
        low = grown * (float(alpha) * float(input_scale) * float(scale))
    slope = torch.where(wide > 0, float(scale) * float(input_scale), low)
    return (widened(gradient) * slope).to(x.dtype)
