"""Matrix products beyond the drawn examples: sums of largest digits, and all routes."""

import pytest
import torch

from tests.kits.drawn import bits_of
from workloads.numerics.kernels.matmul import routes
from workloads.numerics.kernels.operators import products
from workloads.numerics.reference.operators import products as reference
from workloads.numerics.reference.primitives.grid import NotFinite

pytestmark = pytest.mark.usefixtures("poisoned")


@pytest.mark.parametrize("bits", [20, 13])
@pytest.mark.parametrize("depth", [routes.DEEPEST, routes.DEEPEST + 64, 200_000])
def test_the_longest_sums_of_the_largest_digits_do_not_overflow(depth: int, bits: int) -> None:
    # 0.75 has every signed digit at -64 or beyond the middle; 1 - 2^-24 rounds to the top.
    for value in (1.0 - 2.0**-24, 0.7578735):
        a = torch.full((2, depth), value)
        b = torch.full((depth, 3), -value)
        assert bits_of(products.mm(a, b, bits=bits)) == bits_of(reference.mm(a, b, bits=bits))


@pytest.mark.parametrize("bits", [20, 13])
@pytest.mark.parametrize(
    "size", [(1, 1, 1), (17, 63, 15), (33, 65, 31), (48, 641, 80), (7, 9001, 9), (150, 20, 3_300)]
)
@pytest.mark.parametrize("lies", ["in rows", "in columns"])
@pytest.mark.parametrize("is_bias_full", [True, False])
def test_every_route_of_this_machine_multiplies_the_same_integers(
    size: tuple[int, int, int],
    bits: int,
    lies: str,
    is_bias_full: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = (_drawn(shape, lies, generator) for shape in (size[:2], size[1:]))
    bias = torch.randn((size[0] if is_bias_full else 1, size[2]), generator=generator)
    expected = bits_of(reference.addmm(bias, a, b, alpha=-0.7, beta=1.3, bits=bits))
    added = products.fill_panels(bias, size[0], size[2])
    gemm = routes.Gemm(a=a, b=b, bias=added, alpha=-0.7, beta=1.3, bits=bits)
    for shared_bytes in (routes.SHARED_BYTES, 1 << 14):
        monkeypatch.setattr(routes, "SHARED_BYTES", shared_bytes)
        for route in routes.available_routes(gemm):
            assert bits_of(route(gemm)) == expected, (route.__name__, shared_bytes)


@pytest.mark.parametrize(("depth", "is_exact"), [(4093, True), (4094, True), (4095, False)])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_pairs_of_the_largest_digits_do_not_overflow(
    depth: int, is_exact: bool, sign: float
) -> None:
    for value in (1.0 - 2.0**-24, 0.9921875):  # q = 2^13; digits of 64 and -64
        a, b = torch.full((7, depth), sign * 0.99999), torch.full((depth, 3), value)
        bias = products.fill_panels(None, 7, 3)
        gemm = routes.Gemm(a=a, b=b, bias=bias, alpha=1.0, beta=1.0, bits=13)
        assert (routes._by_int16_pairs in routes.available_routes(gemm)) is is_exact
        for route in routes.available_routes(gemm):
            assert bits_of(route(gemm)) == bits_of(reference.mm(a, b, bits=13)), route.__name__


def test_a_route_is_not_used_beyond_where_it_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = torch.Generator().manual_seed(2)
    a, b = (_drawn(shape, "in rows", drawn) for shape in ((6, 16_383), (16_383, 16)))
    gemm = routes.Gemm(
        a=a, b=b, bias=products.fill_panels(None, 6, 16), alpha=1.0, beta=1.0, bits=20
    )
    monkeypatch.setattr(
        routes, "available_routes", lambda _: [routes._by_library, routes._by_library]
    )
    key = (*(size.bit_length() for size in gemm.size), 20, torch.get_num_threads())
    monkeypatch.setitem(routes._fastest, key, routes._by_float64_panels)
    assert bits_of(routes.run_fastest(gemm)) == bits_of(reference.mm(a, b, bits=20))


@pytest.mark.parametrize("bits", [20, 13])
@pytest.mark.parametrize("depth", [90, 118, 130])
def test_factors_that_do_not_fit_are_refused_by_every_route(
    depth: int, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        products, "run_fastest", lambda _: pytest.fail("a kernel was given such factors")
    )
    with pytest.raises(RuntimeError):
        products.mm(torch.ones(32, 120), torch.ones(depth, 32), bits=bits)
    with pytest.raises(RuntimeError):
        products.addmm(torch.ones(32), torch.ones(32, 120), torch.ones(depth, 32), bits=bits)


def _drawn(shape: tuple[int, ...], lies: str, generator: torch.Generator) -> torch.Tensor:
    if lies == "in rows":
        return torch.randn(shape, generator=generator)
    return torch.randn(shape[::-1], generator=generator).t()


def test_what_is_not_finite_is_refused() -> None:
    a = torch.ones(3, 4)
    a[1, 2] = float("nan")
    with pytest.raises(NotFinite, match="holds NaN or infinity"):
        products.mm(a, torch.ones(4, 2), bits=20)
