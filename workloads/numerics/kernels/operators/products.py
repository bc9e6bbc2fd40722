"""The kernel of matrix products: arguments of any strides, with bias and batch dimensions, for
`matmul.routes`."""

from typing import Any

import numpy as np
import torch

from workloads.numerics.kernels.matmul.micro_kernel import ROWS
from workloads.numerics.kernels.matmul.routes import Gemm, run_fastest
from workloads.numerics.kernels.primitives.compilation import array
from workloads.numerics.reference.operators import products as reference
from workloads.numerics.registry import kernel_for

aten = torch.ops.aten
Tensor = torch.Tensor
Array = np.ndarray[Any, Any]


def matmul(
    a: Tensor,
    b: Tensor,
    bias: Tensor | None = None,
    *,
    alpha: float = 1,
    beta: float = 1,
    bits: int,
) -> Tensor:
    """(..., M, K) x (..., K, N) * alpha + bias * beta: float32 (..., M, N). Any strides; `bias`
    broadcasts. `bits`: magnitude bits of each factor.

    Raises `NotFinite` if a factor has NaN or infinity.
    """
    if a.dim() > 2:
        batch = a.shape[:-2]
        shape = (*batch, a.shape[-2], b.shape[-1])
        factors = zip(a.flatten(0, -3), b.flatten(0, -3), strict=True)
        biases = [None] * batch.numel() if bias is None else bias.expand(shape).flatten(0, -3)
        done = [
            matmul(one, other, added, alpha=alpha, beta=beta, bits=bits)
            for (one, other), added in zip(factors, biases, strict=True)
        ]
        return torch.stack(done).reshape(shape) if done else a.new_empty(shape)
    (m, depth), n = a.shape, b.shape[1]
    if b.shape[0] != depth:  # the kernels check nothing; the reference definition raises
        return reference.mm(a, b, bits=bits)
    if m == 0 or n == 0 or depth == 0 or a.dtype != torch.float32 or b.dtype != torch.float32:
        if bias is None:
            return reference.mm(a, b, bits=bits)
        return reference.addmm(bias, a, b, beta=beta, alpha=alpha, bits=bits)
    added = fill_panels(bias if beta != 0 else None, m, n)
    return run_fastest(Gemm(a=a, b=b, bias=added, alpha=float(alpha), beta=float(beta), bits=bits))


def fill_panels(bias: Tensor | None, m: int, n: int) -> Array:
    """The bias of a `Gemm`: float32 with 1 row or M rows, padded with zeros to whole panels. `bias`
    broadcasts to (M, N); None gives zeros."""
    one = bias is None or bias.dim() < 2 or bias.shape[0] == 1
    spread = torch.zeros((1 if one else -(-m // ROWS) * ROWS, -(-n // 16) * 16))
    if bias is not None:
        spread[: 1 if one else m, :n] = bias
    return array(spread)


@kernel_for(aten.mm.default)
@kernel_for(aten.bmm.default)
def mm(a: Tensor, b: Tensor, *, bits: int) -> Tensor:
    """A x B: float32 (M, N) or (batch, M, N). Raises `NotFinite`."""
    return matmul(a, b, bits=bits)


@kernel_for(aten.addmm.default)
@kernel_for(aten.baddbmm.default)
def addmm(
    bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1, bits: int
) -> Tensor:
    """bias * beta + A x B * alpha: float32 (M, N) or (batch, M, N). Raises `NotFinite`."""
    return matmul(a, b, bias, alpha=alpha, beta=beta, bits=bits)
