"""Convolutions with the fast matrix product and windows gathered in one pass."""

from functools import partial

import torch
from numba import prange

from workloads.numerics.fused.gemm import matmul
from workloads.numerics.fused.kernel import array, kernel
from workloads.numerics.fused.reductions import exact_sums
from workloads.numerics.plain import convolution as plain
from workloads.numerics.registry import fuse

Tensor = torch.Tensor
aten = torch.ops.aten


@kernel
def gather_windows(images, first, kernel, counts, stride, dilation, out):
    """Windows of images (N, H, W, C) as rows (N down across, KH KW D): the D channels from the
    one at `first`."""
    down, across = counts
    for image in prange(images.shape[0] * down):
        n, top = image // down, (image % down) * stride[0]
        for place in range(across):
            row, at = out[image * across + place], 0
            depth = row.size // (kernel[0] * kernel[1])
            for y in range(kernel[0]):
                for x in range(kernel[1]):
                    pixel = images[n, top + y * dilation[0], place * stride[1] + x * dilation[1]]
                    for c in range(depth):
                        row[at + c] = pixel[first + c]
                    at += depth


def _gather(x: Tensor, kernel: list[int], counts: list[int], shape: plain.Shape) -> list[Tensor]:
    if x.dtype != torch.float32:
        return plain.gather_plainly(x, kernel, counts, shape)
    images = array(x.permute(0, 2, 3, 1))
    depth = x.shape[1] // shape.groups
    matrices: list[Tensor] = []
    for group in range(shape.groups):
        rows = torch.empty((x.shape[0] * counts[0] * counts[1], kernel[0] * kernel[1] * depth))
        sizes = (tuple(one) for one in (kernel, counts, shape.stride, shape.dilation))
        gather_windows(images, group * depth, *sizes, array(rows))
        matrices.append(rows)
    return matrices


def _multiply(a: Tensor, b: Tensor, bias: Tensor | None, bits: int) -> Tensor:
    return matmul(a, b, bias, bits=bits)


def _total(x: Tensor) -> Tensor:
    sums = exact_sums(x.contiguous(), [0, 2, 3])
    return plain.total_plainly(x) if sums is None else sums


_MEANS = plain.Means(multiply=_multiply, gather=_gather, total=_total)
fuse(aten.convolution.default)(partial(plain.convolution, means=_MEANS))
fuse(aten.convolution_backward.default)(partial(plain.convolution_backward, means=_MEANS))
