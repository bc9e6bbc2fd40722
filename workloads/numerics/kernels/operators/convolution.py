"""The kernel of convolutions: the fast matrix product, and windows gathered in one pass."""

from functools import partial

import torch
from numba import prange

from workloads.numerics.kernels.operators.products import matmul
from workloads.numerics.kernels.operators.reductions import exact_sums
from workloads.numerics.kernels.primitives.compilation import array, kernel
from workloads.numerics.reference.operators import convolution as reference
from workloads.numerics.registry import kernel_for

Tensor = torch.Tensor
aten = torch.ops.aten


@kernel
def gather_windows(images, first, stride, down, across, height, dilation, runs, step, length, out):
    """Fill `out`, (N * down * across, height * runs * length), with the windows of images, (N, H, W
    * C), one per row.

    A window has `height` lines, `dilation` lines apart. A line gives `runs` runs of `length`
    numbers, `step` numbers apart. The first window begins at number `first` of its line. `stride`:
    (lines, numbers) from window to window.
    """
    for band in prange(images.shape[0] * down):
        n, top = band // down, (band % down) * stride[0]
        for place in range(across):
            row, at = band * across + place, 0
            for y in range(height):
                for run in range(runs):
                    begin = first + place * stride[1] + run * step
                    for k in range(length):
                        out[row, at + k] = images[n, top + y * dilation, begin + k]
                    at += length


def _gather(
    x: Tensor, kernel: list[int], counts: list[int], shape: reference.Shape
) -> list[Tensor]:
    """The windows of each group as a matrix: the kernel version of `reference.gather_plainly`."""
    if x.dtype != torch.float32:
        return reference.gather_plainly(x, kernel, counts, shape)
    images = array(x.permute(0, 2, 3, 1)).reshape(x.shape[0], x.shape[2], -1)
    channels, depth = x.shape[1], x.shape[1] // shape.groups
    step = shape.dilation[1] * channels
    # Adjacent pixels form one run.
    runs = (1, 0, kernel[1] * depth) if step == depth else (kernel[1], step, depth)
    stride = (shape.stride[0], shape.stride[1] * channels)
    matrices: list[Tensor] = []
    for group in range(shape.groups):
        rows = torch.empty((x.shape[0] * counts[0] * counts[1], kernel[0] * kernel[1] * depth))
        lines = (*counts, kernel[0], shape.dilation[0])
        gather_windows(images, group * depth, stride, *lines, *runs, array(rows))
        matrices.append(rows)
    return matrices


def _multiply(a: Tensor, b: Tensor, bias: Tensor | None, bits: int) -> Tensor:
    return matmul(a, b, bias, bits=bits)


def _total(x: Tensor) -> Tensor:
    """Exact sums of the channels of x, (N, C, H, W): float64."""
    sums = exact_sums(x.contiguous(), [0, 2, 3])
    return reference.total_plainly(x) if sums is None else sums


_MEANS = reference.Means(multiply=_multiply, gather=_gather, total=_total)
kernel_for(aten.convolution.default)(partial(reference.convolution, means=_MEANS))
kernel_for(aten.convolution_backward.default)(partial(reference.convolution_backward, means=_MEANS))
