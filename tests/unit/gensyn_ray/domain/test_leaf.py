"""Leaves: parser, encoding, and the digest that compares replays."""

from typing import Any

import pytest

from gensyn_ray.domain import canonical
from gensyn_ray.domain.ids import Slot
from gensyn_ray.domain.leaf import Leaf, result_digest
from gensyn_ray.domain.records import BadRecord

FIELDS: dict[str, Any] = {
    "job": "job",
    "task": "t000",
    "segment": 2,
    "attempt": 1,
    "state_before": "aa" * 32,
    "state_after": "bb" * 32,
    "metrics": {"loss": 0.5, "steps": 3.0},
    "data_digest": "dd" * 32,
    "numerics": "reproducible/v1/highest",
    "operator": "op",
}


def test_a_leaf_is_its_json_and_names_its_slot() -> None:
    leaf = Leaf.parse(FIELDS)
    assert leaf.to_json() == FIELDS
    assert leaf.slot == Slot(job="job", task="t000", segment=2, attempt=1)
    assert leaf.encode() == canonical.encode(FIELDS)
    assert Leaf.parse(canonical.decode(leaf.encode())) == leaf


@pytest.mark.parametrize("value", [None, [], "leaf", 5, {}])
def test_what_is_no_leaf_is_refused(value: Any) -> None:
    with pytest.raises(BadRecord):
        Leaf.parse(value)


@pytest.mark.parametrize("name", sorted(FIELDS))
@pytest.mark.parametrize("odd", [None, [1], {"a": []}, True])
def test_a_field_of_another_type_is_refused(name: str, odd: Any) -> None:
    with pytest.raises(BadRecord):
        Leaf.parse({**FIELDS, name: odd})


@pytest.mark.parametrize("change", [{"extra": 1}, {"metrics": {"loss": "0.5"}}])
def test_an_unknown_field_and_a_metric_that_is_no_number_are_refused(
    change: dict[str, Any],
) -> None:
    with pytest.raises(BadRecord):
        Leaf.parse({**FIELDS, **change})


@pytest.mark.parametrize(
    "metrics", [{"pay_micro": 5}, {"loss": float("nan")}, {"loss": float("inf")}]
)
def test_a_metric_that_has_no_canonical_bytes_is_refused(metrics: dict[str, float]) -> None:
    """Regression: an amount among the metrics ended the authority when it computed the root."""
    with pytest.raises(ValueError, match="metric"):
        Leaf(**{**FIELDS, "metrics": metrics})


def test_a_replay_is_compared_by_state_and_metrics_to_the_bit() -> None:
    digest = result_digest("state", {"loss": 0.1, "accuracy": 0.5})
    assert digest == result_digest("state", {"accuracy": 0.5, "loss": 0.1})
    assert digest != result_digest("other", {"loss": 0.1, "accuracy": 0.5})
    assert digest != result_digest("state", {"loss": 0.1 + 2**-55, "accuracy": 0.5})
    assert digest != result_digest("state", {"loss": 0.1})
