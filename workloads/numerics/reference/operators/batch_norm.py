"""Reference definition of batch normalisation: over all dimensions but the second."""

from collections.abc import Sequence
from typing import Any

import torch

from workloads.numerics.reference.operators.elementwise import widened
from workloads.numerics.reference.operators.layer_norm import norm_exponent
from workloads.numerics.reference.operators.reductions import moments
from workloads.numerics.reference.primitives import functions
from workloads.numerics.reference.primitives.grid import exact_sum, exponents
from workloads.numerics.registry import Source, define

aten = torch.ops.aten
Tensor = torch.Tensor


def _batch(s: Source) -> tuple[Any, ...]:
    channels = s.whole(1, 5)
    rest = s.choose((), (s.whole(1, 6),), (s.whole(1, 5), s.whole(1, 5)))
    x = s.tensor((s.whole(2, 6), channels, *rest), spread=3.0)
    affine = s.choose(
        (s.tensor((channels,), spread=2.0), s.tensor((channels,), spread=1.0)), (None, None)
    )
    running = s.tensor((channels,), spread=1.0).clone(), s.tensor((channels,), spread=1.0).abs()
    return x, *affine, *running, s.choose(True, False), 0.1, 1e-5


def _batch_gradients(s: Source) -> tuple[Any, ...]:
    x, weight, bias, mean, variance, training, momentum, eps = _batch(s)
    means, variances = mean.clone(), variance.clone()
    _, save_mean, save_scale = batch_norm(
        x, weight, bias, means, variances, training, momentum, eps
    )
    mask = [s.choose(True, True, False), weight is not None, weight is not None]
    saved = (mean, variance, save_mean, save_scale, training, eps, mask)
    return s.tensor(tuple(x.shape), spread=1.0), x, weight, *saved


def along_channels(x: Tensor, like: Tensor) -> Tensor:
    """x (C,) as float64 (C, 1, ...), which broadcasts with `like` (N, C, ...)."""
    return widened(x).reshape(-1, *[1] * (like.dim() - 2))


def affine(normal: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """normal * weight + bias, float64. A missing weight or bias is skipped."""
    scaled = normal if weight is None else normal * along_channels(weight, normal)
    return scaled if bias is None else scaled + along_channels(bias, normal)


def statistics(running_mean: Tensor, running_var: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and 1 / sqrt(variance + eps) in evaluation, float64 (C,)."""
    return widened(running_mean), 1.0 / functions.root(widened(running_var) + eps)


def remember(running: Tensor | None, observed: Tensor, momentum: float) -> None:
    """running = running * (1 - momentum) + observed * momentum, in place, with float32
    roundings."""
    if running is not None:
        running.copy_(running * (1.0 - momentum) + observed.to(running.dtype) * momentum)


@define(aten.native_batch_norm.default, example=_batch)
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
    """(y, mean, 1 / sqrt(variance + eps)): y has the shape and dtype of x, the others are float32
    (C,).

    Training updates the running statistics in place. Evaluation returns empty tensors for the last
    two. Raises `NotFinite`.
    """
    if not training:
        assert running_mean is not None
        assert running_var is not None
        mean, scale = statistics(running_mean, running_var, eps)
        saved = x.new_empty(0), x.new_empty(0)
    else:
        dims = [at for at in range(x.dim()) if at != 1]
        count = x.numel() // x.shape[1]
        means, squares = moments(x, dims)
        mean, total = means.reshape(-1), squares.reshape(-1)
        scale = 1.0 / functions.root(total / count + eps)
        remember(running_mean, mean, momentum)
        remember(running_var, total / max(count - 1, 1), momentum)
        saved = mean.to(torch.float32), scale.to(torch.float32)
    centre, width = along_channels(mean, x), along_channels(scale, x)
    return affine((widened(x) - centre) * width, weight, bias).to(x.dtype), *saved


@define(aten.native_batch_norm_backward.default, example=_batch_gradients)
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
    dims = [at for at in range(x.dim()) if at != 1]
    count = x.numel() // x.shape[1]
    if train:
        assert save_mean is not None
        assert save_invstd is not None
        mean, scale = save_mean, save_invstd
    else:
        assert running_mean is not None
        assert running_var is not None
        mean, scale = statistics(running_mean, running_var, eps)
    centre, width = along_channels(mean, x), along_channels(scale, x)
    normal = (widened(x) - centre) * width
    g, bound = widened(gradient), exponents(gradient, dims)
    # Evaluation does not normalise x by its own statistics: the bound sqrt(count) does not hold.
    steered_bound = bound + norm_exponent(count) if train else exponents(g * normal, dims)
    plain_sum, steered_sum = exact_sum(g, dims, bound), exact_sum(g * normal, dims, steered_bound)
    gx = None
    if output_mask[0]:
        inner = (g - plain_sum / count) - normal * (steered_sum / count) if train else g
        gx = affine(inner * width, weight, None).to(x.dtype)
    gw = steered_sum.reshape(-1).to(x.dtype) if output_mask[1] else None
    gb = plain_sum.reshape(-1).to(x.dtype) if output_mask[2] else None
    return gx, gw, gb
