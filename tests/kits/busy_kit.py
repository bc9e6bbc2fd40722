"""One ledger with records in all states, for tests of refusals."""

import functools

from ledger.core import invariants
from ledger.core.commands import (
    Bond,
    CloseJob,
    Deposit,
    Jail,
    ResolveChallenge,
    Unbond,
)
from ledger.core.journal import Entry, Journal
from tests.kits.book_kit import (
    FIRST,
    FOURTH,
    SECOND,
    CouncilKit,
    open_challenge,
    state_of,
)
from tests.kits.ledger_kit import (
    PRICE_MICRO,
    Kit,
    key_of,
    open_job,
    party_of,
    slot_of,
    start_task,
)

NOW = 1_700_000_000_000
"""The time of the busy kit. Its clock stands still."""

CHEATED = slot_of("job-1", "task-cheat", 0)
CHEATED_TOO = slot_of("job-1", "task-cheat", 1)
PAID = slot_of("job-1", "task-b", 0)
DONE = slot_of("job-done", "task-0", 0)
DONE_BY_A_CHEAT = slot_of("job-done", "task-1", 0)
ASKED = slot_of("job-asked", "task-0", 0)
ASKED_BEFORE = slot_of("job-asked", "task-0", 1)
UNSETTLED = slot_of("job-asked", "task-0", 2)
DEAD = slot_of("job-1", "task-old", 0)
SMALL = slot_of("job-small", "task-0", 0)


def busy_kit() -> CouncilKit:
    """A ledger with records in all states, for the table of refusals.

    `task-0` of `job-1` belongs to op-a: its segment 0 is committed, 1 and 3 are issued. `task-1` is
    free, `task-done` is finished, `task-old` is at attempt 1, `task-b` is paid to op-b. `job-done`
    is closed. `job-b` has another driver and submitter. `job-small` can pay one segment, which is
    promised. `job-asked` has an open challenge and an ended one. `op-cheat` was slashed in `job-1`.
    `op-late` was slashed in `job-done` after its end, and challenges that. `op-jailed` is in jail,
    `op-poor` has no stake, op-b unbonds stake, and one proposal waits.
    """
    kit = CouncilKit()
    kit.join("submitter", "submitter", deposit_micro=10_000)
    kit.join("submitter-b", "submitter", deposit_micro=1_000)
    kit.join("verifier", "verifier")
    for name in ("op-a", "op-b", "op-cheat", "op-late"):
        kit.join(name, "operator", deposit_micro=1_000, bond_micro=500)
    for name in ("op-poor", "op-jailed"):
        kit.join(name, "operator", deposit_micro=50, bond_micro=50)
    kit.open_job(
        "job-1", "task-0", "task-1", "task-b", "task-cheat", "task-done", "task-old", "task-free"
    )
    kit.issue("op-a", DEAD)
    kit.accept("driver", "driver", start_task("job-1", "task-old", 1))
    kit.finish_task("job-1", "task-done")
    kit.commit("op-cheat", CHEATED, CHEATED_TOO)
    kit.settle("job-1", {CHEATED: False})
    kit.slash("job-1", "op-cheat", CHEATED)
    kit.commit("op-a", FIRST)
    kit.issue("op-a", SECOND, FOURTH)
    kit.earn("op-b", PAID)
    kit.open_job("job-done", "task-0", "task-1")
    kit.earn("op-b", DONE)
    kit.earn("op-late", DONE_BY_A_CHEAT)
    kit.accept("driver", "driver", CloseJob(job="job-done"))
    kit.slash("job-done", "op-late", DONE_BY_A_CHEAT)
    kit.accept("op-late", "operator", open_challenge("d-appeal", DONE_BY_A_CHEAT))
    kit.open_job("job-small", "task-0", "task-1", budget_micro=PRICE_MICRO)
    kit.issue("op-a", SMALL)
    other = open_job("job-b", budget_micro=100, driver_key=key_of("driver-b").public.hex())
    kit.accept("submitter-b", "submitter", other)
    kit.accept("driver-b", "driver", start_task("job-b", "task-0"))
    kit.open_job("job-asked", "task-0")
    kit.earn("op-b", ASKED, ASKED_BEFORE)
    kit.commit("op-b", UNSETTLED)
    kit.accept("submitter", "submitter", open_challenge("d-open", ASKED))
    kit.accept("submitter", "submitter", open_challenge("d-ended", ASKED_BEFORE))
    ended = ResolveChallenge(challenge="d-ended", upheld=True, reason="it was")
    kit.accept("network", "network", ended)
    kit.accept("op-b", "operator", Unbond(amount_micro=50))
    jail = Jail(operator=party_of("op-jailed"), until_ms=kit.clock() + 5_000, reason="slow")
    kit.accept("network", "network", jail)
    kit.propose(Deposit(party=party_of("verifier"), amount_micro=1))
    once = kit.send("op-a", "operator", Bond(amount_micro=1), nonce="once")
    assert isinstance(once, Entry)
    return kit


@functools.cache
def shared_kit() -> CouncilKit:
    """The kit of all tests that must not change it. They compare it with `as_it_was`."""
    return busy_kit()


@functools.cache
def as_it_was() -> Journal:
    kept = Journal()
    for entry in busy_kit().entries:
        kept.apply(entry)
    return kept


def assert_unchanged(kit: Kit) -> None:
    assert invariants.check(kit.journal.book) == []
    assert kit.journal.tree.root() == as_it_was().tree.root()
    assert state_of(kit.journal.book) == state_of(as_it_was().book)
