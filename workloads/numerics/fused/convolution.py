"""Convolutions with the fast matrix product."""

from functools import partial

import torch

from workloads.numerics.fused.gemm import matmul
from workloads.numerics.plain import convolution as plain
from workloads.numerics.registry import fuse

Tensor = torch.Tensor
aten = torch.ops.aten


def _multiply(a: Tensor, b: Tensor, bias: Tensor | None, bits: int) -> Tensor:
    return matmul(a, b, bias, bits=bits)


fuse(aten.convolution.default)(partial(plain.convolution, multiply=_multiply))
fuse(aten.convolution_backward.default)(partial(plain.convolution_backward, multiply=_multiply))
