"""The text of a record equals the canonical text of its JSON."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gensyn_ray.domain import canonical, records
from gensyn_ray.domain.evidence import Batch
from ledger.core import events
from tests.kits.ledger_kit import kit_with_job, parameters, slot_of

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(), inside, max_size=3),
    max_leaves=8,
)


def text_or_none(write: Any, value: Any) -> str | None:
    """The text of an encoder, or None if it refuses."""
    try:
        written: str = write(value)
        written.encode()
    except ValueError:
        return None
    return written


def check(record: Any) -> None:
    expected = text_or_none(canonical.text, records.to_tagged(record))
    assert text_or_none(records.tagged_text, record) == expected


@given(memo=st.text(), amount=st.integers(-(10**20), 10**20))
def test_of_amounts_and_text(memo: str, amount: int) -> None:
    check(events.Moved(debit=memo, credit="", amount_micro=amount, memo=memo, slot="\x00\x1f\x7f"))


@given(content=st.dictionaries(st.text(), anything, max_size=4))
def test_of_nested_values(content: dict[str, Any]) -> None:
    check(events.Proposed(proposal="", operation="", arguments=content, expires_ms=0))


@given(slots=st.lists(st.text(), max_size=4), rate_ppm=st.integers(-(2**60), 2**60))
def test_of_evidence(slots: list[str], rate_ppm: int) -> None:
    batch = Batch(job="j", batch="b", slots=slots, rate_ppm=rate_ppm)
    check(events.Recorded(evidence=batch, role="", party=""))


@given(number=st.integers(-(2**60), 2**60), flag=st.booleans())
def test_of_numbers_and_flags(number: int, flag: bool) -> None:
    check(events.SlotSettled(slot="s", paid=flag, reason="", release_ms=number))


def test_of_records_in_records() -> None:
    check(events.ParametersSet(parameters=parameters()))


@pytest.mark.parametrize("levels", range(canonical.MAX_DEPTH - 4, canonical.MAX_DEPTH + 2))
def test_an_entry_nests_as_deep_as_it_can_be_read_again(levels: int) -> None:
    kit = kit_with_job()
    kit.issue("op-a", slot_of("job-1", "task-0", 0))
    inside: Any = 1
    for _ in range(levels):
        inside = [inside]
    record = events.Proposed(proposal="", operation="", arguments={"inside": inside}, expires_ms=0)
    whole = text_or_none(lambda one: canonical.text({"events": [records.to_tagged(one)]}), record)
    part = text_or_none(lambda one: records.tagged_text(one, depth=2), record)
    assert (part is None) == (whole is None)
    if whole is not None:
        assert canonical.decode(whole.encode())
