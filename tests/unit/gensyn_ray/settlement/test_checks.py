"""`verify --draws` finds wrong batches, draws and rulings of a network."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from gensyn_ray.domain.evidence import Assignment, Batch, Draw, Flush, RefereeCall, Ruling
from gensyn_ray.settlement.checks import problem_with
from gensyn_ray.settlement.state import Settlement
from ledger.core.events import Event, Recorded
from ledger.core.journal import Entry, parse_entry
from tests.kits.authority_kit import AuthorityKit
from verifier_actors.core.sampling import REVEAL_WAIT_MS


def history() -> list[Entry]:
    """A job of two operators with a rate of one half. Its last replays differ from the claims."""
    kit = AuthorityKit().begin(audit_ppm=500_000, draw_batch=3)
    for segment in range(8):
        kit.work("op-a", "task-0", segment)
        kit.work("op-b", "task-1", segment)
        kit.reveal()
    kit.replay()
    kit.accept("driver", "driver", kit.record(Flush(job="job-1")))
    kit.pass_time(REVEAL_WAIT_MS)
    kit.replay(honest=False)
    return [parse_entry(line) for line in kit.store.read(0)]


def problems(entries: list[Entry], change: Callable[[Any], Any] = lambda one: one) -> list[str]:
    """The problems of a history with changed evidence. The first wrong entry ends the check."""
    settlement, found = Settlement(), []
    for entry in entries:
        events: list[Event] = [
            replace(event, evidence=change(event.evidence))
            if isinstance(event, Recorded)
            else event
            for event in entry.events
        ]
        found += [
            problem
            for event in events
            if (problem := problem_with(settlement, event, entry.time_ms))
        ]
        if found:
            break
        settlement.fold(events, entry.time_ms)
    return found


def test_a_right_history_has_every_kind_of_the_networks_evidence_and_no_problem() -> None:
    entries = history()
    kinds = {type(e.evidence) for one in entries for e in one.events if isinstance(e, Recorded)}
    assert kinds >= {Batch, Draw, RefereeCall, Ruling}
    assert problems(entries) == []


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        (Batch, {"rate_ppm": 499_999}, "rate"),
        (Batch, {"rate_ppm": 1_000_000}, "rate"),
        (Batch, {"slots": ["job-1/task-0/0/0"]}, "slots"),
        (Batch, {"slots": []}, "slots"),
        (Batch, {"job": "no-job"}, "does not fit"),
        (Draw, {"drawn": []}, "other segments"),
        (Draw, {"drawn": [Assignment(slot="job-1/task-0/0/0", verifier="x")]}, "other segments"),
        (Draw, {"index": 77}, "numbered"),
        (Draw, {"link": "zz"}, "does not fit"),
        (Draw, {"secret": "ab" * 32}, "secret"),
        (RefereeCall, {"referee": "x"}, "another"),
        (Ruling, {"outcome": "INCONCLUSIVE"}, "another"),
        (Ruling, {"outcome": "MAYBE"}, "another"),
        (Ruling, {"at_fault": "someone"}, "another"),
        (Ruling, {"slot": "job-1/task-9/0/0"}, "waits"),
    ],
)
def test_wrong_evidence_is_found(kind: type, changes: dict[str, Any], said: str) -> None:
    def change(evidence: Any) -> Any:
        is_it = isinstance(evidence, kind)
        return msgspec.structs.replace(evidence, **changes) if is_it else evidence

    found = problems(history(), change)
    assert found
    assert said in found[0]
