"""Every fused operator gives its definition's bits, for whatever hypothesis can think of."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kits.drawn import Explored, bits_of
from workloads.numerics import operators
from workloads.numerics.examples import arguments
from workloads.numerics.mode import BITS
from workloads.numerics.plain.grid import NotFinite
from workloads.numerics.registry import definitions

operators.load()
FUSED = {operator: one for operator, one in definitions().items() if one.fused is not None}


def _outcome(run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """The bits of the result and of what was overwritten, or the refusal."""
    own = copy.deepcopy(args)
    torch.manual_seed(7)
    try:
        result = run(*own, **kwargs)
    except (NotFinite, ValueError, IndexError) as refusal:
        return type(refusal)
    return bits_of(result), bits_of(own)


@pytest.mark.parametrize("operator", FUSED, ids=str)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_fused_operator_gives_the_bits_of_its_definition(operator: Any, data: Any) -> None:
    definition = FUSED[operator]
    source = Explored(data)
    args, kwargs = arguments(definition.example, source)
    if definition.takes_bits:
        kwargs = {**kwargs, "bits": source.choose(*BITS.values())}
    assert definition.fused is not None
    expected = _outcome(definition.plain, args, kwargs)
    assert _outcome(definition.fused, args, kwargs) == expected
