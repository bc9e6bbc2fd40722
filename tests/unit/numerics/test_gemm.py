"""What the examples do not reach: sums whose digits are all at their limit, and every route."""

import pytest
import torch

from tests.unit.numerics.drawn import bits_of
from workloads.numerics.fused import amx, gemm
from workloads.numerics.plain import products
from workloads.numerics.plain.grid import NotFinite


@pytest.mark.parametrize("bits", [20, 13])
@pytest.mark.parametrize("depth", [gemm.DEEPEST, gemm.DEEPEST + 64, 200_000])
def test_the_longest_sums_of_the_largest_digits_do_not_overflow(depth: int, bits: int) -> None:
    # 0.75 has every signed digit at -64 or beyond the middle; 1 - 2^-24 rounds to the top.
    for value in (1.0 - 2.0**-24, 0.7578735):
        a = torch.full((2, depth), value)
        b = torch.full((depth, 3), -value)
        assert bits_of(gemm.mm(a, b, bits=bits)) == bits_of(products.mm(a, b, bits=bits))


@pytest.mark.skipif(not amx.available(), reason="this processor has no AMX")
@pytest.mark.parametrize("bits", [20, 13])
@pytest.mark.parametrize("size", [(1, 1, 1), (17, 63, 15), (33, 65, 31), (48, 640, 80)])
def test_tiles_and_float64_multiply_the_same_integers(
    size: tuple[int, int, int], bits: int
) -> None:
    m, depth, n = size
    generator = torch.Generator().manual_seed(1)
    a = torch.randn((m, depth), generator=generator)
    b = torch.randn((n, depth), generator=generator).t()
    bias = torch.zeros((1, -(-n // 16) * 16)).numpy()
    task = gemm._Task(a=a, b=b, bias=bias, alpha=1.0, beta=1.0, bits=bits)
    assert bits_of(gemm._by_tiles(task)) == bits_of(gemm._by_float64(task))


def test_what_is_not_finite_is_refused() -> None:
    a = torch.ones(3, 4)
    a[1, 2] = float("nan")
    with pytest.raises(NotFinite, match="holds NaN or infinity"):
        gemm.mm(a, torch.ones(4, 2), bits=20)
