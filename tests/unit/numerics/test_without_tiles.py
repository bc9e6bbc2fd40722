"""The routes of a processor without AMX, on whatever processor this is."""

from typing import Any

import pytest
import torch

from tests.unit.numerics.drawn import bits_of
from workloads.numerics import operators
from workloads.numerics.examples import Drawn, arguments
from workloads.numerics.fused import amx
from workloads.numerics.registry import definitions

operators.load()
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
    assert definition.fused is not None
    for seed in range(25):
        args, kwargs = arguments(definition.example, Tame("without tiles", str(operator), seed))
        for bits in (20, 13):
            expected = bits_of(definition.plain(*args, **kwargs, bits=bits))
            assert bits_of(definition.fused(*args, **kwargs, bits=bits)) == expected, seed


@pytest.mark.parametrize("bits", [20, 13])
@pytest.mark.parametrize("queries", [65, 128, 150])
def test_later_keys_are_left_out(queries: int, bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amx, "available", lambda: False)
    drawn = Tame("long and causal", queries)
    q, k, v, g = (drawn.tensor((1, 2, queries, 8), spread=2.0) for _ in range(4))
    forward, backward = (definitions()[operator] for operator in TILED[-2:])
    assert forward.fused is not None
    assert backward.fused is not None
    out, logs = forward.plain(q, k, v, 0.0, True, bits=bits)
    assert bits_of(forward.fused(q, k, v, 0.0, True, bits=bits)) == bits_of((out, logs))
    rest = (g, q, k, v, out, logs, 0.0, True)
    assert bits_of(backward.fused(*rest, bits=bits)) == bits_of(backward.plain(*rest, bits=bits))


def test_sums_over_many_keys_do_not_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amx, "available", lambda: False)
    q, k = torch.zeros(1, 1, 7, 2), Tame("keys", 1).tensor((1, 1, 4200, 2))
    v = torch.full((1, 1, 4200, 2), 0.99999)
    forward = definitions()[TILED[-2]]
    assert forward.fused is not None
    expected = bits_of(forward.plain(q, k, v, bits=13))
    assert bits_of(forward.fused(q, k, v, bits=13)) == expected


def test_keys_with_fewer_heads_are_the_definitions_to_refuse() -> None:
    drawn = Tame("grouped", 1)
    q, k = drawn.tensor((1, 4, 5, 8)), drawn.tensor((1, 2, 5, 8))
    forward = definitions()[TILED[-2]]
    assert forward.fused is not None
    for run in (forward.plain, forward.fused):
        with pytest.raises(RuntimeError):
            run(q, k, k, bits=20)


class Tame(Drawn):
    """Finite values: refusals are compared elsewhere."""

    def tensor(self, shape: tuple[int, ...], spread: float | None = None) -> torch.Tensor:
        return super().tensor(shape, spread or 4.0)
