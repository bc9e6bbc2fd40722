"""Kernels of activations and their gradients: one pass over float32."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import prange

from workloads.numerics.kernels.primitives import functions as f
from workloads.numerics.kernels.primitives.compilation import array, kernel
from workloads.numerics.reference.operators import activations as reference
from workloads.numerics.reference.operators import elementwise
from workloads.numerics.registry import definitions, kernel_for

aten = torch.ops.aten
Tensor = torch.Tensor
_BELL_HEIGHT, _INNER, _CUBIC = (
    reference.BELL_HEIGHT,
    2.0 * reference.ROOT_TWO_OVER_PI,
    reference.CUBIC,
)
_INNER_CUBIC = 3.0 * reference.CUBIC


@kernel
def _gelu(x, out):
    for i in prange(x.size):
        v = np.float64(x[i])
        out[i] = np.float32(v * f.normal_tail(v, f.bell(v)))


@kernel
def _gelu_tanh(x, out):
    for i in prange(x.size):
        v = np.float64(x[i])
        out[i] = np.float32(v * f.sigmoid((v * _INNER) * (v * v * _CUBIC + 1.0)))


@kernel
def _gelu_backward(g, x, out):
    for i in prange(x.size):
        v = np.float64(x[i])
        bell = f.bell(v)
        slope = v * (bell * _BELL_HEIGHT) + f.normal_tail(v, bell)
        out[i] = np.float32(np.float64(g[i]) * slope)


@kernel
def _gelu_tanh_backward(g, x, out):
    for i in prange(x.size):
        v = np.float64(x[i])
        s = f.sigmoid((v * _INNER) * (v * v * _CUBIC + 1.0))
        inner = (v * v * _INNER_CUBIC + 1.0) * _INNER
        out[i] = np.float32(np.float64(g[i]) * ((s * (1.0 - s)) * (v * inner) + s))


@kernel
def _silu(x, out):
    for i in prange(x.size):
        v = np.float64(x[i])
        out[i] = np.float32(v * f.sigmoid(v))


@kernel
def _silu_backward(g, x, out):
    for i in prange(x.size):
        v = np.float64(x[i])
        s = f.sigmoid(v)
        out[i] = np.float32(np.float64(g[i]) * ((1.0 - s) * (s * v) + s))


@kernel
def _sigmoid(x, out):
    for i in prange(x.size):
        out[i] = np.float32(f.sigmoid(np.float64(x[i])))


@kernel
def _sigmoid_backward(g, y, out):
    for i in prange(y.size):
        v = np.float64(y[i])
        out[i] = np.float32(np.float64(g[i]) * (v * (1.0 - v)))


@kernel
def _tanh(x, out):
    for i in prange(x.size):
        out[i] = np.float32(f.tanh(np.float64(x[i])))


@kernel
def _tanh_backward(g, y, out):
    for i in prange(y.size):
        v = np.float64(y[i])
        out[i] = np.float32(np.float64(g[i]) * (1.0 - v * v))


@kernel
def _exp(x, out):
    for i in prange(x.size):
        out[i] = np.float32(f.exp(np.float64(x[i])))


@kernel
def _relu(x, out):
    for i in prange(x.size):
        out[i] = np.float32(0.0) if x[i] <= 0 else x[i]


@kernel
def _threshold_backward(g, x, threshold, out):
    for i in prange(x.size):
        out[i] = np.float32(0.0) if x[i] <= threshold else g[i]


def _one_pass(operator: Any, run: Callable[..., None]) -> None:
    """Register a kernel for an operator of float32 tensors of one shape. Other arguments go to the
    reference definition."""
    definition = definitions()[operator].reference

    def run_kernel(*tensors: Tensor) -> Tensor:
        shape = tensors[0].shape
        if any(one.dtype != torch.float32 or one.shape != shape for one in tensors):
            return definition(*tensors)
        out = torch.empty(shape, dtype=torch.float32)
        run(*[flat(one) for one in tensors], array(out).reshape(-1))
        return out

    kernel_for(operator)(run_kernel)


def flat(x: Tensor) -> "np.ndarray[Any, Any]":
    """A tensor as a flat array (n,), in the sense of `compilation.array`."""
    return array(x).reshape(-1)


_one_pass(aten.silu.default, _silu)
_one_pass(aten.silu_backward.default, _silu_backward)
_one_pass(aten.sigmoid.default, _sigmoid)
_one_pass(aten.sigmoid_backward.default, _sigmoid_backward)
_one_pass(aten.tanh.default, _tanh)
_one_pass(aten.tanh_backward.default, _tanh_backward)
_one_pass(aten.exp.default, _exp)
_one_pass(aten.relu.default, _relu)


@kernel_for(aten.threshold_backward.default)
def threshold_backward(gradient: Tensor, x: Tensor, threshold: float) -> Tensor:
    """0 where x <= threshold, else gradient. Float32 of one shape; other arguments go to the
    reference definition."""
    if x.dtype != torch.float32 or gradient.dtype != x.dtype or gradient.shape != x.shape:
        return elementwise.threshold_backward(gradient, x, threshold)
    out = torch.empty(x.shape, dtype=torch.float32)
    _threshold_backward(flat(gradient), flat(x), np.float32(threshold), array(out).reshape(-1))
    return out


@kernel_for(aten.gelu.default)
def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """GELU of a float32 tensor of any shape. Other dtypes go to the reference definition."""
    if x.dtype != torch.float32:
        return reference.gelu(x, approximate=approximate)
    out = torch.empty(x.shape, dtype=torch.float32)
    run = _gelu if approximate == "none" else _gelu_tanh
    run(flat(x), array(out).reshape(-1))
    return out


@kernel_for(aten.gelu_backward.default)
def gelu_backward(gradient: Tensor, x: Tensor, *, approximate: str = "none") -> Tensor:
    """Gradient of GELU, float32 of the shape of x. Other dtypes go to the reference definition."""
    if x.dtype != torch.float32 or gradient.dtype != torch.float32:
        return reference.gelu_backward(gradient, x, approximate=approximate)
    out = torch.empty(x.shape, dtype=torch.float32)
    run = _gelu_backward if approximate == "none" else _gelu_tanh_backward
    run(flat(gradient), flat(x), array(out).reshape(-1))
    return out
