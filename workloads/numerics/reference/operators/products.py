"""Matrix products: exact integer products of rows and columns snapped to their own grids.

Each row of A and each column of B is snapped to `bits` magnitude bits below its own power of two.
The integers' product C is exact whatever multiplies it (float64 while every partial sum stays below
2^53, int8 slices into int32, int64), so no order of additions can show. Then one float64 product
with the scale, a power of two, one addition of the bias in float64 and one rounding to float32.

|C - A B| <= K * 2^(ea + eb - bits) * (1 + 2^-bits), where 2^ea and 2^eb bound row and column.
"""

import torch

from workloads.numerics.reference.primitives.grid import exponents, power, snap
from workloads.numerics.registry import Source, define

aten = torch.ops.aten


def product(a: torch.Tensor, b: torch.Tensor, bits: int) -> torch.Tensor:
    """(..., M, K) x (..., K, N) -> (..., M, N) float64, before the rounding to float32.

    Raises `NotFinite` for NaN or infinity in `a` or `b`.
    """
    ea, eb = exponents(a, [a.dim() - 1]), exponents(b, [b.dim() - 2])
    total = exact_integers(snap(a, ea, bits), snap(b, eb, bits), bits)
    return total.to(torch.float64) * power(ea - bits) * power(eb - bits) + 0.0


def exact_integers(a: torch.Tensor, b: torch.Tensor, bits: int) -> torch.Tensor:
    """The product of int64 matrices of magnitudes up to 2^bits, int64; K up to 2^(63 - 2 bits)."""
    chunk = 1 << (53 - 2 * bits)
    total = torch.zeros(1, dtype=torch.int64, device=a.device)
    for at in range(0, max(a.shape[-1], 1), chunk):
        left = a[..., at : at + chunk].to(torch.float64)
        right = b[..., at : at + chunk, :].to(torch.float64)
        total = total + torch.matmul(left, right).to(torch.int64)
    return total


def _matrices(s: Source) -> tuple[torch.Tensor, torch.Tensor]:
    m, k, n = s.whole(0, 40), s.whole(0, 200), s.whole(0, 40)
    return s.tensor((m, k)), s.tensor((k, n))


def _biased(s: Source) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    a, b = _matrices(s)
    m, n = a.shape[0], b.shape[1]
    return s.tensor(s.choose((n,), (1, n), (m, n), (m, 1), ())), a, b


def _batches(s: Source) -> tuple[torch.Tensor, torch.Tensor]:
    batch, m, k, n = s.whole(0, 3), s.whole(0, 40), s.whole(0, 90), s.whole(0, 40)
    return s.tensor((batch, m, k)), s.tensor((batch, k, n))


def _biased_batches(s: Source) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    a, b = _batches(s)
    return s.tensor((a.shape[0], a.shape[1], b.shape[2])), a, b


@define(aten.mm.default, example=_matrices, takes_bits=True)
@define(aten.bmm.default, example=_batches, takes_bits=True)
def mm(a: torch.Tensor, b: torch.Tensor, *, bits: int) -> torch.Tensor:
    return product(a, b, bits).to(torch.float32)


@define(aten.addmm.default, example=_biased, takes_bits=True)
@define(aten.baddbmm.default, example=_biased_batches, takes_bits=True)
def addmm(
    bias: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    *,
    beta: float = 1,
    alpha: float = 1,
    bits: int,
) -> torch.Tensor:
    total = product(a, b, bits) * float(alpha)
    # As documented for beta = 0: what the bias holds is ignored, NaN included.
    added = bias.to(torch.float64) * float(beta) if beta != 0 else 0.0
    return (total + added).to(torch.float32)
