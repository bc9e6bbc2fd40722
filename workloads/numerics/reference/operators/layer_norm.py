"""Reference definition of layer normalisation.

Known bounds replace a second search for the largest magnitude: |x - mean| is below twice the
largest |x|, and a normalised value is below sqrt(n).
"""

from collections.abc import Sequence
from typing import Any

import torch

from workloads.numerics.reference.operators.elementwise import widened
from workloads.numerics.reference.operators.reductions import moments
from workloads.numerics.reference.primitives import functions
from workloads.numerics.reference.primitives.grid import exact_sum, exponents
from workloads.numerics.registry import Source, define

aten = torch.ops.aten
Tensor = torch.Tensor


def norm_exponent(count: int) -> int:
    """An e with |normalised value| < 2^e for `count` values. It leaves room for a rounded mean and
    scale."""
    return (count.bit_length() + 1) // 2 + 1


def _normal(s: Source) -> tuple[Any, ...]:
    rows, width = s.whole(1, 9), s.whole(1, 40)
    weight, bias = s.tensor((width,), spread=2.0), s.tensor((width,), spread=1.0)
    affine = s.choose((weight, bias), (weight, None), (None, None))
    return s.tensor((rows, width)), [width], *affine, s.choose(1e-5, 1e-12)


def _normal_gradients(s: Source) -> tuple[Any, ...]:
    x, shape, weight, bias, eps = _normal(s)
    _, mean, scale = layer_norm(x, shape, weight, bias, eps)
    mask = [s.choose(True, True, False) for _ in range(3)]
    mask = [mask[0], mask[1] and weight is not None, mask[2] and bias is not None]
    return s.tensor(tuple(x.shape)), x, shape, mean, scale, weight, bias, mask


@define(aten.native_layer_norm.default, example=_normal)
def layer_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(y, mean, 1 / sqrt(variance + eps)): y has the shape and dtype of x; the others are float32
    with 1 in place of each normalised dimension. Raises `NotFinite`."""
    dims = list(range(x.dim() - len(shape), x.dim()))
    count = max(1, torch.Size(shape).numel())
    mean, squares = moments(x, dims)
    scale = 1.0 / functions.root(squares / count + eps)
    y = (widened(x) - mean) * scale
    if weight is not None:
        y = y * widened(weight)
    if bias is not None:
        y = y + widened(bias)
    return y.to(x.dtype), mean.to(torch.float32), scale.to(torch.float32)


@define(aten.native_layer_norm_backward.default, example=_normal_gradients)
def layer_norm_backward(
    gradient: Tensor,
    x: Tensor,
    shape: Sequence[int],
    mean: Tensor,
    scale: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    output_mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of x, weight and bias. None for a gradient that `output_mask` does not ask for.
    Raises `NotFinite`."""
    dims = list(range(x.dim() - len(shape), x.dim()))
    outer = list(range(x.dim() - len(shape)))
    count = max(1, torch.Size(shape).numel())
    reach = norm_exponent(count)
    g, wide_scale = widened(gradient), widened(scale)
    normal = (widened(x) - widened(mean)) * wide_scale
    gx = gw = gb = None
    if output_mask[0]:
        h = g if weight is None else g * widened(weight)
        bound = exponents(h, dims)
        plain_sum = exact_sum(h, dims, bound)
        steered_sum = exact_sum(h * normal, dims, bound + reach)
        inner = (h - plain_sum / count) - normal * (steered_sum / count)
        gx = (inner * wide_scale).to(x.dtype)
    bound = exponents(gradient, outer)
    if output_mask[1]:
        gw = exact_sum(g * normal, outer, bound + reach).reshape(tuple(shape)).to(x.dtype)
    if output_mask[2]:
        gb = exact_sum(g, outer, bound).reshape(tuple(shape)).to(x.dtype)
    return gx, gw, gb
