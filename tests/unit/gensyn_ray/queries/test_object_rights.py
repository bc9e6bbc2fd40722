"""The rights of an operator by the books: objects to read, and slots to store states for."""

from dataclasses import replace
from typing import Any

import pytest

from ledger.core.commands import CloseJob, Join
from ledger.service.app import UnknownView
from tests.kits.authority_kit import AuthorityKit
from tests.kits.ledger_kit import party_of, start_task


@pytest.fixture
def kit() -> AuthorityKit:
    return AuthorityKit().begin()


def rights(
    kit: AuthorityKit, party: str = "op-a", kind: str = "states", digest: str = "", **other: str
) -> Any:
    asked = {"job": "job-1", "trial": "trial-task-0", "kind": kind, "digest": digest, **other}
    return kit.authority.read("object_rights", {**asked, "party": party_of(party)})


def reads(kit: AuthorityKit, kind: str, digest: str, party: str = "op-a", **other: str) -> bool:
    return rights(kit, party, kind, digest, **other)["reads"]


def test_a_fresh_task_is_read_by_any_operator_at_work(kit: AuthorityKit) -> None:
    for party in ("op-a", "op-b"):
        assert reads(kit, "bundles", "bundle", party)
        assert reads(kit, "specs", "spec", party)
        assert reads(kit, "manifests", "data", party)
        assert reads(kit, "data", "whatever its manifest names", party)
    for party in ("v-1", "submitter", "driver", "nobody"):
        assert not reads(kit, "bundles", "bundle", party)
        assert not reads(kit, "data", "anything", party)


@pytest.mark.parametrize(
    ("kind", "digest"),
    [
        ("bundles", "spec"),
        ("specs", "bundle"),
        ("manifests", "bundle"),
        ("states", "data"),
        ("states", ""),
        ("states", "state task-0 0"),
        ("files", "bundle"),
        ("files", "job-1.request"),
        ("", "bundle"),
    ],
)
def test_other_objects_are_not_read(kit: AuthorityKit, kind: str, digest: str) -> None:
    assert not reads(kit, kind, digest)


def test_only_its_operator_reads_a_task(kit: AuthorityKit) -> None:
    kit.accept("op-a", "operator", kit.request("job-1/task-0/0/0"))
    assert reads(kit, "specs", "spec", "op-a")
    assert not reads(kit, "specs", "spec", "op-b")
    assert reads(kit, "bundles", "bundle", "op-b"), "the program is the whole job's"
    kit.accept("driver", "driver", start_task("job-1", "task-0", 1))
    assert reads(kit, "specs", "spec", "op-b"), "a new attempt is anybody's"
    assert rights(kit, "op-a")["open_slots"] == [], "slots of the old attempt are dead"


def test_the_predecessor_alone_of_all_states_is_read(kit: AuthorityKit) -> None:
    kit.work("op-a", "task-0", 0)
    kit.work("op-a", "task-0", 1)
    kit.work("op-b", "task-1", 0)
    assert reads(kit, "states", "state task-0 1")
    for other in ("state task-0 0", "state task-1 0", "state task-0 2"):
        assert not reads(kit, "states", other)


def test_a_task_without_states_may_start_from_those_of_another(kit: AuthorityKit) -> None:
    kit.work("op-b", "task-1", 0)
    assert reads(kit, "states", "state task-1 0")
    assert not reads(kit, "states", "state task-1 1")


def test_open_slots_are_told_in_their_order(kit: AuthorityKit) -> None:
    assert rights(kit)["open_slots"] == []
    for segment in range(2):
        kit.accept("op-a", "operator", kit.request(f"job-1/task-0/{segment}/0"))
    assert rights(kit)["open_slots"] == ["job-1/task-0/0/0", "job-1/task-0/1/0"]
    assert rights(kit, "op-b")["open_slots"] == []
    kit.accept("op-a", "operator", kit.answer("op-a", "job-1/task-0/0/0"))
    assert rights(kit)["open_slots"] == ["job-1/task-0/1/0"]


def test_a_proven_cheat_gets_nothing(kit: AuthorityKit) -> None:
    kit.accept("op-a", "operator", kit.request("job-1/task-0/0/0"))
    kit.accept("op-a", "operator", kit.answer("op-a", "job-1/task-0/0/0", state_after="made up"))
    kit.reveal()
    kit.replay()
    assert kit.authority.journal.book.parties[party_of("op-a")].tombstoned
    assert not reads(kit, "bundles", "bundle", trial="trial-task-1")
    assert reads(kit, "bundles", "bundle", "op-b", trial="trial-task-1")


def test_a_closed_job_is_over(kit: AuthorityKit) -> None:
    kit.accept("driver", "driver", CloseJob(job="job-1"))
    assert not reads(kit, "bundles", "bundle")
    assert rights(kit)["open_slots"] == []


def test_an_unknown_job_or_trial_is_refused(kit: AuthorityKit) -> None:
    kit.accept("op-c", "operator", Join(name="op-c", numerics="class-a"))
    for wrong in ({"job": "job-2"}, {"trial": "trial-9"}):
        with pytest.raises(UnknownView):
            rights(kit, "op-c", **wrong)


def test_states_that_a_task_begins_with_are_read(kit: AuthorityKit) -> None:
    kit.work("op-b", "task-1", 0)
    command = replace(start_task("job-1", "task-2"), inputs=["state task-1 0", "state elsewhere"])
    kit.accept("driver", "driver", command)
    assert reads(kit, "states", "state elsewhere", trial="trial-task-2")
    assert not reads(kit, "states", "state elsewhere", trial="trial-task-0")
