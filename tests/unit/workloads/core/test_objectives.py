"""The leading candidates of a search."""

from hypothesis import given
from hypothesis import strategies as st

from workloads.core.objectives import leaders

NUMBERS = st.integers(0, 5).map(float)


def test_with_one_objective_all_that_share_the_best_value_lead() -> None:
    values = {"a": {"loss": 1.0}, "b": {"loss": 0.5}, "c": {"loss": 0.5}}
    assert leaders(values, {"loss": "min"}) == ["b", "c"]
    assert leaders(values, {"loss": "max"}) == ["a"]
    assert leaders({}, {"loss": "max"}) == []


def test_with_two_objectives_only_candidates_beaten_in_both_do_not_lead() -> None:
    values = {
        "exact": {"accuracy": 0.9, "size": 900.0},
        "small": {"accuracy": 0.7, "size": 10.0},
        "between": {"accuracy": 0.8, "size": 100.0},
        "worse": {"accuracy": 0.75, "size": 200.0},
        "as exact, larger": {"accuracy": 0.9, "size": 1000.0},
    }
    front = leaders(values, {"accuracy": "max", "size": "min"})
    assert front == ["exact", "small", "between", "as exact, larger"]


@given(
    st.dictionaries(
        st.text(max_size=3), st.fixed_dictionaries({"a": NUMBERS, "b": NUMBERS}), min_size=1
    )
)
def test_the_best_of_each_objective_leads_and_only_beaten_ones_do_not(
    values: dict[str, dict[str, float]],
) -> None:
    front = leaders(values, {"a": "max", "b": "min"})
    most, least = max(one["a"] for one in values.values()), min(one["b"] for one in values.values())
    assert {who for who, one in values.items() if one["a"] == most or one["b"] == least} <= {*front}
    for who, one in values.items():
        others = [values[name] for name in front]
        beaten = any(other["a"] > one["a"] and other["b"] < one["b"] for other in others)
        assert beaten == (who not in front)
