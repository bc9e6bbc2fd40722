"""What the examples do not reach: sums whose digits are all at their limit, and every route."""

import pytest
import torch

from tests.unit.numerics.drawn import bits_of
from workloads.numerics.fused import gemm, pairs
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


@pytest.mark.parametrize("bits", [20, 13])
@pytest.mark.parametrize(
    "size", [(1, 1, 1), (17, 63, 15), (33, 65, 31), (48, 641, 80), (7, 9001, 9)]
)
@pytest.mark.parametrize("lies", ["in rows", "in columns"])
def test_every_route_of_this_machine_multiplies_the_same_integers(
    size: tuple[int, int, int], bits: int, lies: str
) -> None:
    generator = torch.Generator().manual_seed(1)
    task = _task(*(_drawn(shape, lies, generator) for shape in (size[:2], size[1:])), bits)
    expected = bits_of(products.mm(task.a, task.b, bits=bits))
    for route in gemm._routes(task):
        assert bits_of(route(task)) == expected, route.__name__


@pytest.mark.parametrize("depth", [2 * pairs.LONGEST, 2 * pairs.LONGEST + 1, 10_000])
def test_pairs_of_the_largest_digits_do_not_overflow(depth: int) -> None:
    for value in (1.0 - 2.0**-24, 0.0078):  # q = 2^13; a lower digit of -64
        task = _task(torch.full((7, depth), -0.99999), torch.full((depth, 3), value), 13)
        expected = products.mm(task.a, task.b, bits=13)
        assert bits_of(gemm._by_pairs(task)) == bits_of(expected)


def _drawn(shape: tuple[int, ...], lies: str, generator: torch.Generator) -> torch.Tensor:
    if lies == "in rows":
        return torch.randn(shape, generator=generator)
    return torch.randn(shape[::-1], generator=generator).t()


def _task(a: torch.Tensor, b: torch.Tensor, bits: int) -> gemm._Task:
    bias = torch.zeros((1, -(-b.shape[1] // 16) * 16)).numpy()
    return gemm._Task(a=a, b=b, bias=bias, alpha=1.0, beta=1.0, bits=bits)


def test_what_is_not_finite_is_refused() -> None:
    a = torch.ones(3, 4)
    a[1, 2] = float("nan")
    with pytest.raises(NotFinite, match="holds NaN or infinity"):
        gemm.mm(a, torch.ones(4, 2), bits=20)
