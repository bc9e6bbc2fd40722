"""Reference definitions of pooling.

A maximum is exact. The gradient of a maximum over overlapping windows, and averages, are exact sums
on a grid.
"""

from collections.abc import Sequence
from typing import Any

import torch

from workloads.numerics.reference.operators.convolution import padded, windows
from workloads.numerics.reference.operators.elementwise import widened
from workloads.numerics.reference.primitives.grid import exact_sum, exponents, power, snap, sum_bits
from workloads.numerics.registry import Source, define, exact_stock

aten = torch.ops.aten
Tensor = torch.Tensor

# The stock kernel scans each window in one order and keeps the first of equal values.
exact_stock(aten.max_pool2d_with_indices.default)


def pair(value: Sequence[int], other: Sequence[int] = ()) -> list[int]:
    """Two numbers from a list of one or two. An empty list gives `other`."""
    numbers = list(value) or list(other)
    return numbers * 2 if len(numbers) == 1 else numbers


def _pooled(s: Source) -> tuple[Any, ...]:
    shape = (s.whole(1, 2), s.whole(1, 3), s.whole(6, 9), s.whole(6, 9))
    kernel = [s.whole(1, 3), s.whole(1, 3)]
    return s.tensor(shape), kernel, [s.whole(1, 3)] * 2, [s.choose(0, min(kernel) // 2)] * 2


def _pooled_gradients(s: Source) -> tuple[Any, ...]:
    x, kernel, stride, padding = _pooled(s)
    plain = x.contiguous()
    out, indices = aten.max_pool2d_with_indices.default(plain, kernel, stride, padding)
    return s.tensor(tuple(out.shape)), plain, kernel, stride, padding, [1, 1], False, indices


@define(aten.max_pool2d_with_indices_backward.default, example=_pooled_gradients)
def max_pool_backward(
    gradient: Tensor,
    x: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
    indices: Tensor,
) -> Tensor:
    """Gradient of x, of its shape and dtype. The gradients of overlapping windows are added
    exactly. Raises `NotFinite` if one of them is not finite."""
    kernel = pair(kernel_size)
    jump = pair(stride, kernel)
    flat = gradient.flatten(-2), indices.flatten(-2)
    shape = (*x.shape[:-2], x.shape[-2] * x.shape[-1])
    apart = all(j >= k for j, k in zip(jump, kernel, strict=True)) and max(pair(dilation)) == 1
    if apart:
        out = torch.zeros(shape, dtype=x.dtype, device=x.device)
        return out.scatter_(-1, flat[1], flat[0]).reshape(x.shape)
    # A pixel is the maximum of at most KH * KW windows.
    exponent = exponents(gradient, list(range(gradient.dim())))
    bits = sum_bits(kernel[0] * kernel[1])
    whole = snap(flat[0], exponent.reshape(()), bits)
    totals = torch.zeros(shape, dtype=torch.int64, device=x.device)
    totals = totals.scatter_add(-1, flat[1], whole)
    unit = power(exponent - bits).reshape(())
    return (totals.to(torch.float64) * unit).to(x.dtype).reshape(x.shape)


def _divisor(kernel: list[int], padding: list[int], counted: bool, given: int | None) -> int:
    """The divisor of an average. Raises `ValueError` if padding is present and not counted."""
    if max(padding) and not counted:
        raise ValueError("a canonical average pool counts its padding: count_include_pad=True")
    return given or kernel[0] * kernel[1]


@define(aten.avg_pool2d.default, example=_pooled)
def avg_pool(
    x: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Averages of the windows of x, (C, H, W) or (N, C, H, W), in the dtype of x.

    Raises `ValueError` for `ceil_mode`, for padding that is not counted, or if no window fits, and
    `NotFinite`.
    """
    if ceil_mode:
        raise ValueError("a canonical average pool has whole windows: ceil_mode=False")
    kernel, edge = pair(kernel_size), pair(padding)
    divisor = _divisor(kernel, edge, count_include_pad, divisor_override)
    image = x if x.dim() == 4 else x[None]
    view = windows(padded(image, edge, edge), kernel, pair(stride, kernel), [1, 1])
    out = (exact_sum(view, [4, 5])[..., 0, 0] / divisor).to(x.dtype)
    return out if x.dim() == 4 else out[0]


def _averaged_gradients(s: Source) -> tuple[Any, ...]:
    x, kernel, stride, padding = _pooled(s)
    out = avg_pool(x, kernel, stride, padding)
    return s.tensor(tuple(out.shape)), x, kernel, stride, padding, False, True, None


@define(aten.avg_pool2d_backward.default, example=_averaged_gradients)
def avg_pool_backward(
    gradient: Tensor,
    x: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    """Gradient of x, of its shape and dtype: for each pixel, the sum of the gradients of its
    windows. Raises `ValueError` for padding that is not counted, and `NotFinite`."""
    kernel, edge = pair(kernel_size), pair(padding)
    jump = pair(stride, kernel)
    divisor = _divisor(kernel, edge, count_include_pad, divisor_override)
    image = gradient if gradient.dim() == 4 else gradient[None]
    spread = [(image.shape[2 + i] - 1) * jump[i] + 1 for i in range(2)]
    thin = torch.zeros((*image.shape[:2], *spread), dtype=torch.float64, device=x.device)
    thin[:, :, :: jump[0], :: jump[1]] = widened(image) / divisor
    before = [kernel[i] - 1 - edge[i] for i in range(2)]
    after = [x.shape[i - 2] + kernel[i] - 1 - spread[i] - before[i] for i in range(2)]
    view = windows(padded(thin, before, after), kernel, [1, 1], [1, 1])
    return exact_sum(view, [4, 5])[..., 0, 0].to(x.dtype).reshape(x.shape)


def _even(s: Source) -> tuple[Any, ...]:
    out = [s.whole(1, 3), s.whole(1, 3)]
    shape = (s.whole(1, 2), s.whole(1, 3), out[0] * s.whole(1, 3), out[1] * s.whole(1, 3))
    return s.tensor(shape), out


def _kernel_of(x: Tensor, size: Sequence[int]) -> list[int]:
    """The window size of an adaptive average. Raises `ValueError` if the windows would have
    different sizes."""
    if any(x.shape[i - 2] % size[i] for i in range(2)):
        raise ValueError("a canonical adaptive average pool divides its input evenly")
    return [x.shape[i - 2] // size[i] for i in range(2)]


@define(aten._adaptive_avg_pool2d.default, example=_even)
def adaptive_avg_pool(x: Tensor, output_size: Sequence[int]) -> Tensor:
    """Averages of equal windows, (..., *output_size). Raises `ValueError` if `output_size` does not
    divide the size of x, and `NotFinite`."""
    return avg_pool(x, _kernel_of(x, output_size))


@define(
    aten._adaptive_avg_pool2d_backward.default,
    example=lambda s: ((x := _even(s)[0])[..., :1, :1].clone(), x),
)
def adaptive_avg_pool_backward(gradient: Tensor, x: Tensor) -> Tensor:
    """Gradient of x, of its shape and dtype."""
    kernel = _kernel_of(x, gradient.shape[-2:])
    return avg_pool_backward(gradient, x, kernel, kernel, [0], False, True, None)
