"""The routes for processors without AMX, on any processor."""

import math
from typing import Any

import pytest
import torch

from tests.kits.drawn import bits_of
from workloads.numerics import operator_set
from workloads.numerics.examples import Drawn, arguments
from workloads.numerics.kernels.matmul import amx
from workloads.numerics.reference.primitives.grid import NotFinite
from workloads.numerics.registry import definitions

pytestmark = pytest.mark.usefixtures("poisoned")

operator_set.load()
aten = torch.ops.aten
TILED = (
    aten.mm.default,
    aten.baddbmm.default,
    aten.convolution.default,
    aten._scaled_dot_product_flash_attention_for_cpu.default,
    aten._scaled_dot_product_flash_attention_for_cpu_backward.default,
)


@pytest.mark.parametrize("operator", TILED, ids=str)
def test_float64_gives_the_bits_of_the_definition(
    operator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amx, "available", lambda: False)
    definition = definitions()[operator]
    assert definition.kernel is not None
    for seed in range(25):
        args, kwargs = arguments(definition.example, Tame("without tiles", str(operator), seed))
        for bits in (20, 13):
            expected = bits_of(definition.reference(*args, **kwargs, bits=bits))
            assert bits_of(definition.kernel(*args, **kwargs, bits=bits)) == expected, seed


@pytest.mark.parametrize("bits", [20, 13])
@pytest.mark.parametrize("queries", [65, 128, 150])
def test_later_keys_are_left_out(queries: int, bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amx, "available", lambda: False)
    drawn = Tame("long and causal", queries)
    q, k, v, g = (drawn.tensor((1, 2, queries, 8), spread=2.0) for _ in range(4))
    forward, backward = (definitions()[operator] for operator in TILED[-2:])
    assert forward.kernel is not None
    assert backward.kernel is not None
    out, logs = forward.reference(q, k, v, 0.0, True, bits=bits)
    assert bits_of(forward.kernel(q, k, v, 0.0, True, bits=bits)) == bits_of((out, logs))
    rest = (g, q, k, v, out, logs, 0.0, True)
    assert bits_of(backward.kernel(*rest, bits=bits)) == bits_of(
        backward.reference(*rest, bits=bits)
    )


@pytest.mark.parametrize(("queries", "keys"), [(7, 8300), (8300, 9)])
def test_sums_that_float64_cannot_hold_go_in_parts(
    queries: int, keys: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amx, "available", lambda: False)
    drawn = Tame("many", keys)
    q, g = (drawn.tensor((1, 1, queries, 2)) for _ in range(2))
    k, v = drawn.tensor((1, 1, keys, 2)), torch.full((1, 1, keys, 2), 0.99999)
    forward, backward = (definitions()[operator] for operator in TILED[-2:])
    assert forward.kernel is not None
    assert backward.kernel is not None
    out, logs = forward.reference(q, k, v, bits=20)
    assert bits_of(forward.kernel(q, k, v, bits=20)) == bits_of((out, logs))
    rest = (g, q, k, v, out, logs, 0.0, False)
    assert bits_of(backward.kernel(*rest, bits=20)) == bits_of(backward.reference(*rest, bits=20))


@pytest.mark.parametrize("has_tiles", [True, False])
@pytest.mark.parametrize("at", range(5))
@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_what_is_not_finite_is_refused_wherever_it_stands(
    value: float, at: int, has_tiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_tiles:
        monkeypatch.setattr(amx, "available", lambda: False)
    drawn = Tame("not finite", at)
    tensors = [drawn.tensor((1, 2, 9, 8)) for _ in range(5)]
    tensors[at][0, 1, 3, 5] = value
    backward = definitions()[TILED[-1]]
    assert backward.kernel is not None
    for run in (backward.reference, backward.kernel):
        with pytest.raises(NotFinite):
            run(*tensors, torch.zeros(1, 2, 9), 0.0, False, bits=20)


def test_keys_with_fewer_heads_are_left_to_the_definition() -> None:
    drawn = Tame("grouped", 1)
    q, k = drawn.tensor((1, 4, 5, 8)), drawn.tensor((1, 2, 5, 8))
    forward = definitions()[TILED[-2]]
    assert forward.kernel is not None
    for run in (forward.reference, forward.kernel):
        with pytest.raises(RuntimeError):
            run(q, k, k, bits=20)


class Tame(Drawn):
    """Only finite values: other tests compare refusals."""

    def tensor(self, shape: tuple[int, ...], spread: float | None = None) -> torch.Tensor:
        return super().tensor(shape, spread or 4.0)
