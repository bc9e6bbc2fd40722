"""Reference definitions of matrix products: exact integer products of rows and columns that are
snapped to their own grids.

Each row of A and each column of B is snapped to `bits` magnitude bits below its own power of two.
The product C of the integers is exact for every method: float64 while each partial sum is below
2^53, int8 slices summed in int32, int64. The order of additions therefore does not matter. C is
multiplied by the scale, a power of two, in float64. The bias is added in float64. The result is
rounded to float32 once.

|C - A B| <= K * 2^(ea + eb - bits) * (1 + 2^-bits). 2^ea bounds the row, 2^eb bounds the column.
"""

import torch

from workloads.numerics.reference.primitives.grid import exponents, power, snap
from workloads.numerics.registry import Source, define

aten = torch.ops.aten


def product(a: torch.Tensor, b: torch.Tensor, bits: int) -> torch.Tensor:
    """(..., M, K) x (..., K, N) -> float64 (..., M, N), before the rounding to float32.

    Raises `NotFinite` for NaN or infinity in `a` or `b`.
    """
    ea, eb = exponents(a, [a.dim() - 1]), exponents(b, [b.dim() - 2])
    total = exact_integers(snap(a, ea, bits), snap(b, eb, bits), bits)
    return total.to(torch.float64) * power(ea - bits) * power(eb - bits) + 0.0


def exact_integers(a: torch.Tensor, b: torch.Tensor, bits: int) -> torch.Tensor:
    """The exact product of int64 matrices with magnitudes up to 2^bits, int64. K is at most 2^(63 -
    2 bits)."""
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
    """A x B: float32 (M, N) or (batch, M, N). Raises `NotFinite`."""
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
    """bias * beta + A x B * alpha: float32 (M, N) or (batch, M, N). `bias` broadcasts. Raises
    `NotFinite`."""
    total = product(a, b, bits) * float(alpha)
    # torch documents that beta = 0 ignores the bias, even if it is NaN.
    added = bias.to(torch.float64) * float(beta) if beta != 0 else 0.0
    return (total + added).to(torch.float32)
