"""The kernel of layer normalisation over the last dimensions: one row at a time. Column sums are
added in parts, and threads divide the parts."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numba import prange

from workloads.numerics.kernels.primitives.compilation import array, kernel
from workloads.numerics.kernels.primitives.grid import (
    exponent_of,
    float64_exponent,
    larger_magnitude,
    power,
    snap,
)
from workloads.numerics.reference.operators import layer_norm as reference
from workloads.numerics.reference.primitives.grid import NotFinite, sum_bits
from workloads.numerics.registry import kernel_for

aten = torch.ops.aten
Tensor = torch.Tensor


@kernel
def normalise(x, weight, bias, bits, eps, out, means, scales):
    """Normalise each row of x, (n, K) float32, into `out`. Returns how many rows are not finite.

    `weight`, `bias`: float32 (K,) or empty. Filled, float32 (n,): `means`; `scales`, 1 /
    sqrt(variance + eps).
    """
    broken = 0
    for i in prange(x.shape[0]):
        line, row = x[i], out[i]
        count = line.size
        largest = np.int32(0)
        for k in range(count):
            largest = larger_magnitude(largest, line[k])
        exponent = exponent_of(largest)
        if exponent > 128:
            broken += 1
        scale = power(bits - exponent)
        total = np.int64(0)
        for k in range(count):
            total += snap(np.float64(line[k]), scale)
        mean = np.float64(total) * power(exponent - bits) / count
        square = 2 * exponent + 2
        scale = power(bits - square)
        total = np.int64(0)
        for k in range(count):
            distance = np.float64(line[k]) - mean
            total += snap(distance * distance, scale)
        variance = np.float64(total) * power(square - bits) / count
        inverse = 1.0 / math.sqrt(variance + eps)
        means[i], scales[i] = np.float32(mean), np.float32(inverse)
        if weight.size and bias.size:
            for k in range(count):
                normal = (np.float64(line[k]) - mean) * inverse
                row[k] = np.float32(normal * np.float64(weight[k]) + np.float64(bias[k]))
        else:
            for k in range(count):
                normal = (np.float64(line[k]) - mean) * inverse
                normal = normal * np.float64(weight[k]) if weight.size else normal
                row[k] = np.float32(normal + np.float64(bias[k]) if bias.size else normal)
    return broken


@kernel
def input_gradient(g, x, means, scales, weight, bits, reach, out):
    """Fill `out`, float32 (n, K), with (h - mean(h) - normal * mean(h * normal)) * scale, h = g *
    weight. Returns how many rows are not finite."""
    broken = 0
    for i in prange(x.shape[0]):
        gradient, line, row = g[i], x[i], out[i]
        count = line.size
        mean, inverse = np.float64(means[i]), np.float64(scales[i])
        h = np.empty(count, dtype=np.float64)
        if weight.size:
            for k in range(count):
                h[k] = np.float64(gradient[k]) * np.float64(weight[k])
        else:
            for k in range(count):
                h[k] = np.float64(gradient[k])
        exponent = float64_exponent(h)
        broken += exponent > 1023
        plain_scale, steered_scale = power(bits - exponent), power(bits - exponent - reach)
        plain_total, steered_total = np.int64(0), np.int64(0)
        for k in range(count):
            normal = (np.float64(line[k]) - mean) * inverse
            plain_total += snap(h[k], plain_scale)
            steered_total += snap(h[k] * normal, steered_scale)
        along = np.float64(plain_total) * power(exponent - bits) / count
        steered = np.float64(steered_total) * power(exponent + reach - bits) / count
        for k in range(count):
            normal = (np.float64(line[k]) - mean) * inverse
            row[k] = np.float32(((h[k] - along) - normal * steered) * inverse)
    return broken


@kernel
def affine_gradients(g, x, means, scales, bits, reach, weight_out, bias_out):
    """Fill `weight_out` and `bias_out`, float32 (K,), with the column sums of g * normal and of g.
    Returns how many columns are not finite."""
    depth, n = x.shape
    parts = max(1, min(64, depth // 16))
    largest = np.zeros((parts, n), dtype=np.int32)
    for part in prange(parts):
        mine = largest[part]
        for k in range(part * depth // parts, (part + 1) * depth // parts):
            line = g[k]
            for i in range(n):
                mine[i] = larger_magnitude(mine[i], line[i])
    broken = 0
    exponents = np.empty(n, dtype=np.int64)
    steered_scales, plain_scales = np.empty(n), np.empty(n)
    for i in range(n):
        top = largest[0, i]
        for part in range(1, parts):
            top = max(top, largest[part, i])
        exponents[i] = exponent_of(top)
        if exponents[i] > 128:
            broken += 1
        plain_scales[i] = power(bits - exponents[i])
        steered_scales[i] = power(bits - exponents[i] - reach)
    steered = np.zeros((parts, n), dtype=np.int64)
    plainly = np.zeros((parts, n), dtype=np.int64)
    for part in prange(parts):
        mine, others = steered[part], plainly[part]
        for k in range(part * depth // parts, (part + 1) * depth // parts):
            gradient, line = g[k], x[k]
            mean, inverse = np.float64(means[k]), np.float64(scales[k])
            for i in range(n):
                normal = (np.float64(line[i]) - mean) * inverse
                mine[i] += snap(np.float64(gradient[i]) * normal, steered_scales[i])
                others[i] += snap(np.float64(gradient[i]), plain_scales[i])
    for i in range(n):
        one, other = steered[0, i], plainly[0, i]
        for part in range(1, parts):
            one += steered[part, i]
            other += plainly[part, i]
        weight_out[i] = np.float32(np.float64(one) * power(exponents[i] + reach - bits))
        bias_out[i] = np.float32(np.float64(other) * power(exponents[i] - bits))
    return broken


_NOTHING = np.zeros(0, dtype=np.float32)


def _fits(x: Tensor, *others: Tensor | None) -> bool:
    """Whether the kernels can take these tensors: x is not empty, and all are float32."""
    given = [one for one in others if one is not None]
    return x.numel() > 0 and all(one.dtype == torch.float32 for one in (x, *given))


def _flat(x: Tensor | None) -> np.ndarray:
    return _NOTHING if x is None else array(x).reshape(-1)


@kernel_for(aten.native_layer_norm.default)
def layer_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(y, mean, 1 / sqrt(variance + eps)), float32: y has the shape of x; the others have 1 in
    place of each normalised dimension.

    Raises `NotFinite`. Other dtypes go to the reference definition.
    """
    if not _fits(x, weight, bias):
        return reference.layer_norm(x, shape, weight, bias, eps)
    width = torch.Size(shape).numel()
    rows = x.contiguous().view(-1, width)
    out = torch.empty(x.shape, dtype=torch.float32)
    outer = (*x.shape[: x.dim() - len(shape)], *[1] * len(shape))
    mean, scale = torch.empty(outer), torch.empty(outer)
    broken = normalise(
        array(rows),
        _flat(weight),
        _flat(bias),
        sum_bits(width),
        float(eps),
        array(out).reshape(-1, width),
        _flat(mean),
        _flat(scale),
    )
    if broken:
        raise NotFinite(f"layer_norm of a tensor of shape {tuple(x.shape)} met NaN or infinity")
    return out, mean, scale


@kernel_for(aten.native_layer_norm_backward.default)
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
    if not _fits(x, gradient, mean, scale, weight):
        return reference.layer_norm_backward(
            gradient, x, shape, mean, scale, weight, bias, output_mask
        )
    width = torch.Size(shape).numel()
    g, rows = (array(one).reshape(-1, width) for one in (gradient, x))
    reach, broken = reference.norm_exponent(width), 0
    gx = gw = gb = None
    if output_mask[0]:
        gx = torch.empty(x.shape, dtype=torch.float32)
        out = array(gx).reshape(-1, width)
        broken += input_gradient(
            g, rows, _flat(mean), _flat(scale), _flat(weight), sum_bits(width), reach, out
        )
    if output_mask[1] or output_mask[2]:
        gw, gb = torch.empty(tuple(shape)), torch.empty(tuple(shape))
        bits = sum_bits(len(rows))
        broken += affine_gradients(
            g, rows, _flat(mean), _flat(scale), bits, reach, _flat(gw), _flat(gb)
        )
    if broken:
        raise NotFinite(f"layer_norm of a gradient of shape {tuple(x.shape)} met NaN or infinity")
    return gx, gw if output_mask[1] else None, gb if output_mask[2] else None
