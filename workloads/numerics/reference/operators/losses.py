"""Reference definitions of softmax and losses. exp(x - max) is at most 1, which bounds every sum of
exponentials."""

from typing import Any

import torch

from workloads.numerics.reference.operators.elementwise import widened
from workloads.numerics.reference.primitives import functions
from workloads.numerics.reference.primitives.grid import NotFinite, exact_sum, exponents
from workloads.numerics.registry import Source, define

aten = torch.ops.aten
Tensor = torch.Tensor
VANISHED = -110.0
"""e^-110 rounds to 0 in float32. Exponentials of smaller numbers are 0."""
MEAN, SUM = 1, 2
"""ATen's numbers of the reductions. 0 is no reduction."""


def _rows(s: Source) -> tuple[Any, ...]:
    shape = s.shape(1)
    return s.tensor(shape, spread=30.0), s.whole(0, len(shape) - 1), False


def _row_gradients(s: Source) -> tuple[Any, ...]:
    shape = s.shape(1)
    dim = s.whole(0, len(shape) - 1)
    y = softmax(s.tensor(shape, spread=5.0), dim, False)
    return s.tensor(shape), y, dim, torch.float32


def _log_row_gradients(s: Source) -> tuple[Any, ...]:
    gradient, y, dim, kind = _row_gradients(s)
    return gradient, y.clamp_min(1e-30).log().clamp(-60.0, 0.0), dim, kind


def shifted(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """x - max over `dim`, and max (kept as size 1), float64. A difference below VANISHED becomes
    -inf.

    Raises `NotFinite` for NaN and +inf.
    """
    if x.numel() == 0:
        return widened(x), widened(x).sum(dim, keepdim=True)
    largest = x.amax(dim, keepdim=True)
    if bool(torch.isnan(x).any()) or bool((largest == torch.inf).any()):
        raise NotFinite(f"a softmax over a tensor of shape {tuple(x.shape)} met NaN or infinity")
    difference = widened(x) - widened(largest)
    gone = torch.isnan(difference) | (difference < VANISHED)
    return torch.where(gone, -torch.inf, difference), widened(largest)


def weights(x: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """exp(x - max), its exact sum over `dim`, and max (both kept as size 1), float64. Raises
    `NotFinite` for NaN and +inf."""
    difference, largest = shifted(x, dim)
    grown = torch.where(difference == -torch.inf, 0.0, functions.exp(difference))
    at_most_one = torch.ones((), dtype=torch.int64, device=x.device)
    return grown, exact_sum(grown, [dim % max(x.dim(), 1)] if x.dim() else [], at_most_one), largest


@define(aten._softmax.default, example=_rows)
def softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    """Softmax over `dim`, float32. Raises `NotFinite` for NaN, +inf, or a row of -inf only."""
    if bool((x.amax(dim) == -torch.inf).any()) if x.numel() else False:
        raise NotFinite("a softmax over a row of -inf only")
    grown, total, _ = weights(x, dim)
    return (grown / total).to(torch.float32)


@define(aten._safe_softmax.default, example=_rows)
def safe_softmax(x: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """Softmax over `dim`, float32. A row of -inf only becomes zeros. Raises `NotFinite` for NaN and
    +inf."""
    grown, total, largest = weights(x, dim)
    return torch.where(largest == -torch.inf, 0.0, grown / total).to(torch.float32)


@define(aten._softmax_backward_data.default, example=_row_gradients)
def softmax_backward(gradient: Tensor, y: Tensor, dim: int, input_dtype: torch.dtype) -> Tensor:
    """y * (g - sum(g * y)) over `dim`, in `input_dtype`. The largest |g| bounds |g * y|. Raises
    `NotFinite`."""
    dims = [dim % y.dim()] if y.dim() else []
    wide_g, wide_y = widened(gradient), widened(y)
    total = exact_sum(wide_g * wide_y, dims, exponents(gradient, dims))
    return (wide_y * (wide_g - total)).to(input_dtype)


@define(aten._log_softmax.default, example=_rows)
def log_softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    """Log-softmax over `dim`, float32. Raises `NotFinite` for NaN and +inf."""
    _, total, largest = weights(x, dim)
    return ((widened(x) - largest) - functions.log(total)).to(torch.float32)


@define(aten._log_softmax_backward_data.default, example=_log_row_gradients)
def log_softmax_backward(gradient: Tensor, y: Tensor, dim: int, input_dtype: torch.dtype) -> Tensor:
    """g - exp(y) * sum(g) over `dim`, in `input_dtype`. Raises `NotFinite`."""
    dims = [dim % y.dim()] if y.dim() else []
    total = exact_sum(gradient, dims)
    return (widened(gradient) - functions.exp(widened(y)) * total).to(input_dtype)


@define(
    aten.logsumexp.default, example=lambda s: ((x := _rows(s))[0], [x[1]], s.choose(True, False))
)
def logsumexp(x: Tensor, dim: list[int], keepdim: bool = False) -> Tensor:
    """The log of the sum of exp(x) over one dimension, in the dtype of x. Raises `ValueError` for
    more dimensions, and `NotFinite` for NaN and +inf."""
    if len(dim) != 1:
        raise ValueError("a canonical logsumexp is over one dimension: flatten first")
    _, total, largest = weights(x, dim[0])
    result = (functions.log(total) + largest).to(x.dtype)
    return result if keepdim or not x.dim() else result.squeeze(dim[0])


def _classes(s: Source) -> tuple[Any, ...]:
    rows, classes = s.whole(1, 20), s.whole(1, 12)
    target = s.integers((rows,), classes)
    weight = s.choose(None, s.tensor((classes,), spread=1.0).abs() + 0.5)
    ignored = s.choose(-100, 0) if rows > 1 else -100
    if bool((target == ignored).all()):
        ignored = -100
    return s.tensor((rows, classes), spread=9.0), target, weight, s.choose(0, 1, 2), ignored


def _kept_weights(
    target: Tensor, weight: Tensor | None, ignored: int, classes: int
) -> tuple[Tensor, Tensor]:
    """The class index and the float64 weight of each row. Both are 0 for an ignored row. Raises
    `IndexError` for a target outside the classes."""
    counted = target != ignored
    index = torch.where(counted, target, torch.zeros_like(target))
    if bool(((index < 0) | (index >= classes)).any()):
        raise IndexError(f"a target is not one of {classes} classes")
    of_class = torch.ones_like(index, dtype=torch.float64)
    if weight is not None:
        of_class = widened(weight)[index]
    return index, torch.where(counted, of_class, 0.0)


@define(aten.nll_loss_forward.default, example=_classes)
def nll_loss(
    x: Tensor, target: Tensor, weight: Tensor | None, reduction: int, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """(loss, total weight) of log-probabilities x (N, C) or (C,), in the dtype of x.

    The mean is one rounding of the quotient of two exact sums. Without reduction the loss has the
    shape of the target. Raises `IndexError` for a target outside the classes, and `NotFinite`.
    """
    rows, flat = x.reshape(-1, x.shape[-1]), target.reshape(-1)
    index, each = _kept_weights(flat, weight, ignore_index, x.shape[-1])
    losses = -widened(rows.gather(1, index[:, None])[:, 0]) * each
    total_weight = exact_sum(each, [0])[0]
    if reduction == 0:
        return losses.to(x.dtype).reshape(target.shape), torch.zeros((), dtype=x.dtype)
    total = exact_sum(losses, [0])[0]
    loss = total / total_weight if reduction == MEAN else total
    return loss.to(x.dtype), total_weight.to(x.dtype)


@define(
    aten.nll_loss_backward.default,
    example=lambda s: (
        s.tensor((), spread=1.0),
        *(args := _classes(s))[:3],
        s.choose(1, 2),
        args[4],
        torch.tensor(7.5),
    ),
)
def nll_loss_backward(
    gradient: Tensor,
    x: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: int,
    ignore_index: int,
    total_weight: Tensor,
) -> Tensor:
    """Gradient of x, of the shape and dtype of x. Raises `IndexError` for a target outside the
    classes."""
    rows, flat = x.reshape(-1, x.shape[-1]), target.reshape(-1)
    index, each = _kept_weights(flat, weight, ignore_index, x.shape[-1])
    scaled = -(widened(gradient).reshape(-1) * each)
    if reduction == MEAN:
        scaled = scaled / widened(total_weight)
    result = torch.zeros_like(rows)
    result.scatter_(1, index[:, None], scaled.to(x.dtype)[:, None])
    return result.reshape(x.shape)


def _last(x: Tensor) -> Tensor:
    """x (N, C, H, W) as (N * H * W, C)."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _pixels(s: Source) -> tuple[Any, ...]:
    shape = (s.whole(1, 2), s.whole(1, 5), s.whole(1, 3), s.whole(1, 3))
    target = s.integers((shape[0], *shape[2:]), shape[1])
    return s.tensor(shape, spread=9.0), target, None, s.choose(0, 1, 2), -100


@define(aten.nll_loss2d_forward.default, example=_pixels)
def nll_loss2d(
    x: Tensor, target: Tensor, weight: Tensor | None, reduction: int, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """`nll_loss` of x (N, C, H, W) and target (N, H, W)."""
    loss, total = nll_loss(_last(x), target.reshape(-1), weight, reduction, ignore_index)
    return (loss.reshape(target.shape) if reduction == 0 else loss), total


@define(
    aten.nll_loss2d_backward.default,
    example=lambda s: (s.tensor((), spread=1.0), *_pixels(s)[:3], 1, -100, torch.tensor(3.0)),
)
def nll_loss2d_backward(
    gradient: Tensor,
    x: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: int,
    ignore_index: int,
    total_weight: Tensor,
) -> Tensor:
    """Gradient of x (N, C, H, W), of its shape and dtype."""
    rows = nll_loss_backward(
        gradient, _last(x), target.reshape(-1), weight, reduction, ignore_index, total_weight
    )
    n, classes, height, width = x.shape
    return rows.reshape(n, height, width, classes).permute(0, 3, 1, 2).contiguous()


def _reduced(each: Tensor, reduction: int, kind: torch.dtype) -> Tensor:
    """The values, their mean or their sum, in dtype `kind`. Raises `NotFinite`."""
    if reduction == 0:
        return each.to(kind)
    total = exact_sum(each, list(range(each.dim())))
    total = total.reshape(())
    return (total / each.numel() if reduction == MEAN else total).to(kind)


def _predictions(s: Source) -> tuple[Any, ...]:
    shape = s.shape(1)
    return s.tensor(shape), s.tensor(shape), s.choose(0, 1, 2)


@define(aten.mse_loss.default, example=_predictions)
def mse_loss(x: Tensor, y: Tensor, reduction: int = MEAN) -> Tensor:
    """(x - y)^2, or its mean or sum, in the dtype of x. Raises `NotFinite`."""
    distance = widened(x) - widened(y)
    return _reduced(distance * distance, reduction, x.dtype)


@define(
    aten.mse_loss_backward.default,
    example=lambda s: (s.tensor((), spread=1.0), *_predictions(s)[:2], s.choose(1, 2)),
)
def mse_loss_backward(gradient: Tensor, x: Tensor, y: Tensor, reduction: int) -> Tensor:
    """Gradient of x, of its shape and dtype."""
    slope = (widened(x) - widened(y)) * 2.0
    if reduction == MEAN:
        slope = slope / x.numel()
    return (slope * widened(gradient)).to(x.dtype)


def _chances(s: Source) -> tuple[Any, ...]:
    shape = s.shape(1)
    target = (s.tensor(shape, spread=1.0) + 1.0) / 2.0
    weights = s.choose(None, s.tensor(shape, spread=1.0).abs())
    positive = s.choose(None, s.tensor(shape[-1:], spread=1.0).abs())
    return s.tensor(shape, spread=40.0), target, weights, positive, s.choose(0, 1, 2)


@define(aten.binary_cross_entropy_with_logits.default, example=_chances)
def binary_cross_entropy_with_logits(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    reduction: int = MEAN,
) -> Tensor:
    """(1 - z) x + (1 + (p - 1) z) * (ln(1 + exp(-|x|)) + max(-x, 0)), z the target and p
    `pos_weight`: torch's formula. Raises `NotFinite`."""
    wide, z = widened(x), widened(target)
    soft = functions.log1p(functions.exp(-wide.abs()))
    soft = soft + torch.where(wide < 0, -wide, 0.0)
    if pos_weight is not None:
        soft = ((widened(pos_weight) - 1.0) * z + 1.0) * soft
    each = (1.0 - z) * wide + soft
    if weight is not None:
        each = each * widened(weight)
    return _reduced(each, reduction, x.dtype)


def _probabilities(s: Source) -> tuple[Any, ...]:
    shape = s.shape(1)
    inside = [(s.tensor(shape, spread=1.0) + 1.0) / 2.0 for _ in range(2)]
    return *inside, None, s.choose(1, 2)


@define(aten.binary_cross_entropy.default, example=_probabilities)
def binary_cross_entropy(
    x: Tensor, target: Tensor, weight: Tensor | None = None, reduction: int = MEAN
) -> Tensor:
    """-(z ln x + (1 - z) ln(1 - x)), z the target. Logarithms are at least -100. Raises
    `NotFinite`."""
    wide, z = widened(x), widened(target)
    yes = functions.log(wide)
    no = functions.log(1.0 - wide)
    yes, no = torch.where(yes < -100.0, -100.0, yes), torch.where(no < -100.0, -100.0, no)
    each = -(z * yes + (1.0 - z) * no)
    if weight is not None:
        each = each * widened(weight)
    return _reduced(each, reduction, x.dtype)


@define(
    aten.binary_cross_entropy_backward.default,
    example=lambda s: (s.tensor((), spread=1.0), *_probabilities(s)),
)
def binary_cross_entropy_backward(
    gradient: Tensor, x: Tensor, target: Tensor, weight: Tensor | None = None, reduction: int = MEAN
) -> Tensor:
    """Gradient of x, of its shape and dtype. The divisor x (1 - x) is at least 1e-12."""
    wide = widened(x)
    room = (1.0 - wide) * wide
    slope = (wide - widened(target)) / torch.where(room < 1e-12, 1e-12, room)
    if weight is not None:
        slope = slope * widened(weight)
    if reduction == MEAN:
        slope = slope / x.numel()
    return (slope * widened(gradient)).to(x.dtype)
