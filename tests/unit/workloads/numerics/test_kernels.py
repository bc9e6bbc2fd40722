"""Each kernel gives the bits of its reference definition, on examples that hypothesis draws."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kits.drawn import Explored, bits_of
from workloads.numerics import operator_set
from workloads.numerics.examples import arguments
from workloads.numerics.mode import BITS
from workloads.numerics.reference.primitives.grid import NotFinite
from workloads.numerics.registry import definitions

operator_set.load()
WITH_KERNEL = {operator: one for operator, one in definitions().items() if one.kernel is not None}


def _outcome(run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """The bits of the result and of overwritten arguments, or the refusal."""
    own = copy.deepcopy(args)
    torch.manual_seed(7)
    try:
        result = run(*own, **kwargs)
    except (NotFinite, ValueError, IndexError) as refusal:
        return type(refusal)
    return bits_of(result), bits_of(own)


@pytest.mark.parametrize("operator", WITH_KERNEL, ids=str)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_kernel_gives_the_bits_of_its_reference_definition(operator: Any, data: Any) -> None:
    definition = WITH_KERNEL[operator]
    source = Explored(data)
    args, kwargs = arguments(definition.example, source)
    if definition.takes_bits:
        kwargs = {**kwargs, "bits": source.choose(*BITS.values())}
    assert definition.kernel is not None
    expected = _outcome(definition.reference, args, kwargs)
    assert _outcome(definition.kernel, args, kwargs) == expected
