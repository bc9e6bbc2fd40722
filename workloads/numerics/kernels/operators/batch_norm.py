"""The kernel of batch normalisation in training. A thread computes one channel at a time and keeps
it in the core's cache."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numba import prange

from workloads.numerics.kernels.primitives.compilation import array, kernel
from workloads.numerics.kernels.primitives.grid import channel_exponent, power, snap
from workloads.numerics.reference.operators import batch_norm as reference
from workloads.numerics.reference.operators.layer_norm import norm_exponent
from workloads.numerics.reference.primitives.grid import NotFinite, sum_bits
from workloads.numerics.registry import kernel_for

aten = torch.ops.aten
Tensor = torch.Tensor


@kernel
def normalise(x, weight, bias, bits, eps, out, means, squares, scales):
    """Normalise each channel of x, (N, C, L) float32, into `out`. Returns how many channels are not
    finite.

    `weight`, `bias`: float32 (C,) or empty. Filled, float64 (C,): `means`; `squares`, the sums of
    squared distances from the mean; `scales`, 1 / sqrt(variance + eps).
    """
    broken = 0
    count = x.shape[0] * x.shape[2]
    for channel in prange(x.shape[1]):
        exponent = channel_exponent(x, channel)
        if exponent > 128:
            broken += 1
        scale, total = power(bits - exponent), np.int64(0)
        for n in range(x.shape[0]):
            line = x[n, channel]
            for k in range(line.size):
                total += snap(np.float64(line[k]), scale)
        mean = np.float64(total) * power(exponent - bits) / count
        square = 2 * exponent + 2
        scale, total = power(bits - square), np.int64(0)
        for n in range(x.shape[0]):
            line = x[n, channel]
            for k in range(line.size):
                distance = np.float64(line[k]) - mean
                total += snap(distance * distance, scale)
        squared = np.float64(total) * power(square - bits)
        inverse = 1.0 / math.sqrt(squared / count + eps)
        means[channel], squares[channel], scales[channel] = mean, squared, inverse
        slope = np.float64(weight[channel]) if weight.size else 1.0
        shift = np.float64(bias[channel]) if bias.size else -0.0
        for n in range(x.shape[0]):
            line, row = x[n, channel], out[n, channel]
            for k in range(line.size):
                row[k] = np.float32((np.float64(line[k]) - mean) * inverse * slope + shift)
    return broken


@kernel
def gradients(g, x, means, scales, weight, bits, reach, out, weight_out, bias_out):
    """Gradients of x, (N, C, L) float32, of weight and of bias, (C,) float32. Returns how many
    channels are not finite.

    `g`: gradient of the output; `means`, `scales`: saved by the forward pass, float32 (C,).
    """
    broken = 0
    count = x.shape[0] * x.shape[2]
    for channel in prange(x.shape[1]):
        mean, inverse = np.float64(means[channel]), np.float64(scales[channel])
        exponent = channel_exponent(g, channel)
        if exponent > 128:
            broken += 1
        plain_scale, steered_scale = power(bits - exponent), power(bits - exponent - reach)
        plain_total, steered_total = np.int64(0), np.int64(0)
        for n in range(x.shape[0]):
            gradient, line = g[n, channel], x[n, channel]
            for k in range(line.size):
                normal = (np.float64(line[k]) - mean) * inverse
                plain_total += snap(np.float64(gradient[k]), plain_scale)
                steered_total += snap(np.float64(gradient[k]) * normal, steered_scale)
        plain_sum = np.float64(plain_total) * power(exponent - bits)
        steered_sum = np.float64(steered_total) * power(exponent + reach - bits)
        weight_out[channel], bias_out[channel] = np.float32(steered_sum), np.float32(plain_sum)
        along, steered = plain_sum / count, steered_sum / count
        slope = np.float64(weight[channel]) if weight.size else 1.0
        for n in range(x.shape[0]):
            gradient, line, row = g[n, channel], x[n, channel], out[n, channel]
            for k in range(line.size):
                normal = (np.float64(line[k]) - mean) * inverse
                inner = (np.float64(gradient[k]) - along) - normal * steered
                row[k] = np.float32(inner * inverse * slope)
    return broken


_NOTHING = np.zeros(0, dtype=np.float32)


def _flat(x: Tensor | None) -> "np.ndarray[Any, Any]":
    return _NOTHING if x is None else array(x).reshape(-1)


def _channels(x: Tensor) -> "np.ndarray[Any, Any]":
    """x (N, C, ...) as (N, C, L)."""
    return array(x).reshape(*x.shape[:2], -1)


def _fits(x: Tensor, *others: Tensor | None) -> bool:
    """Whether the kernels can take these tensors: x is not empty, and all are float32."""
    given = [one for one in others if one is not None]
    return x.numel() > 0 and all(one.dtype == torch.float32 for one in (x, *given))


@kernel_for(aten.native_batch_norm.default)
def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """(y, mean, 1 / sqrt(variance + eps)): y has the shape of x, the others are float32 (C,).

    Updates the running statistics in place. Raises `NotFinite`. Evaluation and other dtypes go to
    the reference definition.
    """
    if not training or not _fits(x, weight, bias):
        return reference.batch_norm(
            x, weight, bias, running_mean, running_var, training, momentum, eps
        )
    count = x.numel() // x.shape[1]
    out = torch.empty(x.shape)
    mean, squares, scale = (torch.empty(x.shape[1], dtype=torch.float64) for _ in range(3))
    broken = normalise(
        _channels(x),
        _flat(weight),
        _flat(bias),
        sum_bits(count),
        float(eps),
        _channels(out),
        array(mean),
        array(squares),
        array(scale),
    )
    if broken:
        raise NotFinite(f"batch_norm of a tensor of shape {tuple(x.shape)} met NaN or infinity")
    reference.remember(running_mean, mean, momentum)
    reference.remember(running_var, squares / max(count - 1, 1), momentum)
    return out, mean.to(torch.float32), scale.to(torch.float32)


@kernel_for(aten.native_batch_norm_backward.default)
def batch_norm_backward(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    save_mean: Tensor | None,
    save_invstd: Tensor | None,
    train: bool,
    eps: float,
    output_mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of x, weight and bias. None for a gradient that `output_mask` does not ask for.
    Raises `NotFinite`."""
    if not train or not _fits(x, gradient, weight, save_mean, save_invstd):
        return reference.batch_norm_backward(
            gradient,
            x,
            weight,
            running_mean,
            running_var,
            save_mean,
            save_invstd,
            train,
            eps,
            output_mask,
        )
    count, channels = x.numel() // x.shape[1], x.shape[1]
    gx, gw, gb = torch.empty(x.shape), torch.empty(channels), torch.empty(channels)
    broken = gradients(
        _channels(gradient),
        _channels(x),
        _flat(save_mean),
        _flat(save_invstd),
        _flat(weight),
        sum_bits(count),
        norm_exponent(count),
        _channels(gx),
        array(gw),
        array(gb),
    )
    if broken:
        raise NotFinite(f"batch_norm of a gradient of shape {tuple(x.shape)} met NaN or infinity")
    kept = [one if wanted else None for one, wanted in zip((gx, gw, gb), output_mask, strict=True)]
    return kept[0], kept[1], kept[2]
