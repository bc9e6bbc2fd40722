"""The kernels of parameter updates: one pass over the memory of each tensor."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numba import prange

from workloads.numerics.kernels.primitives.compilation import array, kernel
from workloads.numerics.reference.operators import optimizers as reference
from workloads.numerics.registry import kernel_for

Tensor = torch.Tensor


@kernel
def adamw_pass(p, g, m, v, b1, rest1, b2, rest2, eps, decay, step_size, root_correction):
    """The update of `reference.operators.optimizers.adamw` on flat float32 arrays of one size."""
    for i in prange(p.size):
        m[i] = m[i] * b1 + g[i] * rest1
        v[i] = v[i] * b2 + (g[i] * g[i]) * rest2
        divisor = math.sqrt(v[i]) / root_correction + eps
        p[i] = p[i] * decay - (m[i] / divisor) * step_size


@kernel
def momentum_pass(p, g, b, lr, momentum, rest, weight_decay, nesterov):
    """The update of `reference.operators.optimizers.sgd` with momentum, on flat float32 arrays of
    one size."""
    for i in prange(p.size):
        d = g[i] + p[i] * weight_decay if weight_decay else g[i]
        b[i] = b[i] * momentum + d * rest
        d = d + b[i] * momentum if nesterov else b[i]
        p[i] = p[i] - d * lr


@kernel
def descent_pass(p, g, lr, weight_decay):
    """The update of `reference.operators.optimizers.sgd` without momentum, on flat float32 arrays
    of one size."""
    for i in prange(p.size):
        d = g[i] + p[i] * weight_decay if weight_decay else g[i]
        p[i] = p[i] - d * lr


@kernel
def lion_pass(p, g, m, lr, b1, rest1, b2, rest2, decay):
    """The update of `reference.operators.optimizers.lion` on flat float32 arrays of one size."""
    zero, one = np.float32(0.0), np.float32(1.0)
    for i in prange(p.size):
        mixed = m[i] * b1 + g[i] * rest1
        direction = one if mixed > zero else (-one if mixed < zero else zero)
        p[i] = p[i] * decay - direction * lr
        m[i] = m[i] * b2 + g[i] * rest2


def _flat(tensors: Sequence[Tensor]) -> list["np.ndarray[Any, Any]"]:
    return [array(one).reshape(-1) for one in tensors]


def _fits(*lists: Sequence[Tensor]) -> bool:
    """Whether each tensor is float32 and contiguous, so that a kernel can update its memory in
    place."""
    return all(x.dtype == torch.float32 and x.is_contiguous() for xs in lists for x in xs)


def _singles(*values: float) -> tuple[np.float32, ...]:
    """Each number rounded to float32."""
    return tuple(np.float32(one) for one in values)


@kernel_for(reference.ops.adamw_.default)
def adamw(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    beta1: float,
    beta2: float,
    eps: float,
    decay: float,
    step_size: float,
    root_correction: float,
) -> None:
    """AdamW update in place, as `reference.operators.optimizers.adamw` defines it."""
    lists = (params, grads, exp_avgs, exp_avg_sqs)
    if not _fits(params, exp_avgs, exp_avg_sqs):
        return reference.adamw(*lists, beta1, beta2, eps, decay, step_size, root_correction)
    numbers = _singles(
        beta1, 1.0 - beta1, beta2, 1.0 - beta2, eps, decay, step_size, root_correction
    )
    for tensors in zip(*(_flat(one) for one in lists), strict=True):
        adamw_pass(*tensors, *numbers)
    return None


@kernel_for(reference.ops.sgd_.default)
def sgd(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    buffers: Sequence[Tensor],
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
) -> None:
    """SGD update in place, as `reference.operators.optimizers.sgd` defines it."""
    if not _fits(params, buffers):
        numbers = (lr, momentum, dampening, weight_decay)
        return reference.sgd(params, grads, buffers, *numbers, nesterov)
    rate, factor, rest, decay = _singles(lr, momentum, 1.0 - dampening, weight_decay)
    for p, g, b in zip(_flat(params), _flat(grads), _flat(buffers), strict=True):
        if momentum:
            momentum_pass(p, g, b, rate, factor, rest, decay, nesterov)
        else:
            descent_pass(p, g, rate, decay)
    return None


@kernel_for(reference.ops.lion_.default)
def lion(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    lr: float,
    beta1: float,
    beta2: float,
    decay: float,
) -> None:
    """Lion update in place, as `reference.operators.optimizers.lion` defines it."""
    if not _fits(params, exp_avgs):
        return reference.lion(params, grads, exp_avgs, lr, beta1, beta2, decay)
    numbers = _singles(lr, beta1, 1.0 - beta1, beta2, 1.0 - beta2, decay)
    for p, g, m in zip(_flat(params), _flat(grads), _flat(exp_avgs), strict=True):
        lion_pass(p, g, m, *numbers)
    return None
