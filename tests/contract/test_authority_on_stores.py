"""The same commands give the same log on each storage, also after a restart."""

from pathlib import Path

import pytest

from ledger.core.commands import CloseJob, Unbond
from ledger.storage.journal import JournalStore, MemoryJournal
from tests.kits.authority_kit import AuthorityKit
from tests.kits.backends import Postgres, Sqlite
from tests.kits.ledger_kit import parameters, party_of


def story(store: JournalStore) -> AuthorityKit:
    """Segments, draws, verdicts, a cheat, a closed job, a distributed slash."""
    kit = AuthorityKit(store).begin()
    kit.work("op-b", "task-1", 0)
    kit.accept("op-a", "operator", kit.request("job-1/task-0/0/0"))
    kit.accept("op-a", "operator", kit.answer("op-a", "job-1/task-0/0/0", state_after="made up"))
    kit.reveal()
    kit.replay()
    kit.accept("op-b", "operator", Unbond(amount_micro=5))
    kit.accept("driver", "driver", CloseJob(job="job-1"))
    kit.pass_time(parameters().unbonding_ms + 1_000)
    return kit


@pytest.fixture(scope="module")
def expected() -> AuthorityKit:
    kit = story(MemoryJournal())
    assert kit.authority.journal.book.parties[party_of("op-a")].tombstoned
    return kit


def check(kit: AuthorityKit, expected: AuthorityKit) -> None:
    lines = list(expected.store.read())
    assert list(kit.store.read()) == lines
    health = expected.authority.read("health", {})
    assert kit.authority.read("health", {}) == health
    again = kit.boot()
    assert again.read("health", {}) == health
    assert again.read("operators", {}) == expected.authority.read("operators", {})
    kit.authority.stop()
    assert kit.boot().read("operators", {}) == expected.authority.read("operators", {})


def test_in_memory(expected: AuthorityKit) -> None:
    check(story(MemoryJournal()), expected)


def test_on_sqlite(expected: AuthorityKit, tmp_path: Path) -> None:
    check(story(Sqlite(tmp_path).open()), expected)


def test_on_postgresql(expected: AuthorityKit, server: str) -> None:
    check(story(Postgres(server).open()), expected)
