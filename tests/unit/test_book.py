"""Every command of the ledger: what it does when it is accepted, and every reason to refuse it."""

from collections.abc import Callable
from typing import Any

import pytest

from gensyn_ray.domain import canonical, records, signing
from gensyn_ray.domain.money import MAX_MICRO
from gensyn_ray.domain.signing import Envelope, seal
from ledger.core import accounts, invariants
from ledger.core.book import SlotState
from ledger.core.commands import (
    ALLOWED_ROLES,
    ROLES,
    Bond,
    CloseJob,
    Command,
    Commit,
    Deposit,
    FinishTask,
    Join,
    Record,
    Settle,
    SettleItem,
    Slash,
)
from ledger.core.events import (
    Founded,
    JobClosed,
    Moved,
    PartyJoined,
    Recorded,
    SlotCommitted,
    SlotIssued,
    SlotSettled,
    TaskFinished,
    TaskStarted,
    Tombstoned,
)
from ledger.core.journal import CorruptJournal, Duplicate, Entry, Journal, make_entry
from ledger.core.refusals import Reason, Rejected
from tests.unit.ledger_kit import (
    PRICE_MICRO,
    RESERVE_MICRO,
    Answer,
    Kit,
    commit,
    found,
    key_of,
    kit_with_job,
    kit_with_parties,
    leaf_of,
    open_job,
    party_of,
    request_slot,
    slot_of,
    start_task,
)

FIRST = slot_of("job-1", "task-0", 0)
SECOND = slot_of("job-1", "task-0", 1)
THIRD = slot_of("job-1", "task-0", 2)
UNISSUED = slot_of("job-1", "task-0", 99)
HIGH = 10**16


def reason_of(answer: Answer) -> Reason | None:
    return answer.reason if isinstance(answer, Rejected) else None


def moves(entry: Entry) -> list[tuple[str, str, int, str]]:
    """The money that an entry moved: debit, credit, amount, memo."""
    return [
        (event.debit, event.credit, event.amount_micro, event.memo)
        for event in entry.events
        if isinstance(event, Moved)
    ]


def busy_kit() -> Kit:
    """Something of everything: what the table of refusals is tried on.

    `task-0` of `job-1` is worked on by op-a: its segment 0 is committed, 1 issued. `task-1` is
    free, `task-done` finished, `task-old` at attempt 1. `job-done` is closed, `job-b` belongs to
    another driver and submitter, `job-small` can pay one segment, which is promised. `op-cheat`
    was slashed in `job-1`; `op-poor` has no stake.
    """
    kit = kit_with_parties()
    kit.join("op-cheat", "operator", deposit_micro=1_000, bond_micro=500)
    kit.join("op-poor", "operator", deposit_micro=50, bond_micro=50)
    kit.join("submitter-b", "submitter", deposit_micro=1_000)
    kit.open_job("job-1", "task-0", "task-1", "task-cheat", "task-done", "task-old")
    kit.accept("driver", "driver", start_task("job-1", "task-old", 1))
    kit.finish_task("job-1", "task-done")
    kit.commit("op-cheat", slot_of("job-1", "task-cheat", 0))
    kit.settle("job-1", {slot_of("job-1", "task-cheat", 0): False})
    kit.slash("job-1", "op-cheat", slot_of("job-1", "task-cheat", 0))
    kit.commit("op-a", FIRST)
    kit.issue("op-a", SECOND)
    kit.open_job("job-done", "task-0")
    kit.accept("driver", "driver", CloseJob(job="job-done"))
    kit.open_job("job-small", "task-0", "task-1", budget_micro=PRICE_MICRO)
    kit.issue("op-a", slot_of("job-small", "task-0", 0))
    other = open_job("job-b", budget_micro=100, driver_key=key_of("driver-b").public.hex())
    kit.accept("submitter-b", "submitter", other)
    kit.accept("driver-b", "driver", start_task("job-b", "task-0"))
    return kit


def raw(kit: Kit, **changes: Any) -> Envelope:
    """A signed body with fields as given; a field that is `...` is left out."""
    body = canonical.decode(kit.sign("op-a", "operator", Bond(amount_micro=1)).body)
    body = {name: item for name, item in {**body, **changes}.items() if item is not ...}
    data = canonical.encode(body)
    return Envelope(body=data, signature=key_of("op-a").sign(signing.COMMAND, data))


def with_signature(envelope: Envelope, signature: bytes) -> Envelope:
    return Envelope(body=envelope.body, signature=signature)


def signed_by_another(kit: Kit) -> Envelope:
    envelope = kit.sign("op-a", "operator", Bond(amount_micro=1))
    return with_signature(envelope, key_of("op-b").sign(signing.COMMAND, envelope.body))


def sealed_as_a_receipt(kit: Kit) -> Envelope:
    body = canonical.decode(kit.sign("op-a", "operator", Bond(amount_micro=1)).body)
    return seal(key_of("op-a"), signing.RECEIPT, body)


def reuse_a_nonce(kit: Kit) -> Answer:
    kit.send("op-a", "operator", Bond(amount_micro=1), nonce="once")
    return kit.send("op-a", "operator", Bond(amount_micro=2), nonce="once")


def settle(job: str, *slots: str) -> Settle:
    return Settle(job=job, items=[SettleItem(slot=slot, pay=True, reason="") for slot in slots])


def slash(job: str, operator: str, evidence: str, *spoilt: str) -> Slash:
    return Slash(job=job, operator=operator, evidence=evidence, spoilt=list(spoilt))


Attempt = Callable[[Kit], Answer]


def by(name: str, role: str, command: Command, **header: Any) -> Attempt:
    return lambda kit: kit.send(name, role, command, **header)


def op(command: Command) -> Attempt:
    return by("op-a", "operator", command)


def driver(command: Command) -> Attempt:
    return by("driver", "driver", command)


def network(command: Command) -> Attempt:
    return by("network", "network", command)


def submitter(command: Command) -> Attempt:
    return by("submitter", "submitter", command)


def treasury(command: Command) -> Attempt:
    return by("treasury", "treasury", command)


def leaf(slot: str = SECOND, operator: str = "op-a", **changes: Any) -> dict[str, Any]:
    return leaf_of(slot, operator, **changes)


REFUSALS: dict[Reason, dict[str, Attempt]] = {
    Reason.MALFORMED: {
        "not JSON": lambda kit: kit.submit(Envelope(body=b"{", signature=b"")),
        "not UTF-8": lambda kit: kit.submit(Envelope(body=b"\xff", signature=b"")),
        "not canonical": lambda kit: kit.submit(Envelope(body=b'{"a": 1}', signature=b"")),
        "not an object": lambda kit: kit.submit(Envelope(body=b"5", signature=b"")),
        "nothing": lambda kit: kit.submit(Envelope(body=b"{}", signature=b"")),
        "a field is missing": lambda kit: kit.submit(raw(kit, nonce=...)),
        "a field too many": lambda kit: kit.submit(raw(kit, more=1)),
        "a field of another type": lambda kit: kit.submit(raw(kit, expiry_ms="soon")),
        "no arguments": lambda kit: kit.submit(raw(kit, arguments=...)),
        "arguments are a list": lambda kit: kit.submit(raw(kit, arguments=[])),
        "an argument is missing": lambda kit: kit.submit(raw(kit, arguments={})),
        "an argument too many": lambda kit: kit.submit(
            raw(kit, arguments={"amount_micro": 1, "more": 1})
        ),
        "an argument of another type": lambda kit: kit.submit(
            raw(kit, operation="Join", arguments={"name": 5})
        ),
        "the key is not hex": lambda kit: kit.submit(raw(kit, key="zz")),
    },
    Reason.BAD_SIGNATURE: {
        "another key": lambda kit: kit.submit(signed_by_another(kit)),
        "another purpose": lambda kit: kit.submit(sealed_as_a_receipt(kit)),
        "none": lambda kit: kit.submit(with_signature(raw(kit), b"")),
        "the named key is another": lambda kit: kit.submit(
            raw(kit, key=key_of("op-b").public.hex())
        ),
        "the named key is none": lambda kit: kit.submit(raw(kit, key="")),
    },
    Reason.WRONG_NETWORK: {
        "another genesis": by("op-a", "operator", Bond(amount_micro=1), genesis="00" * 32),
        "no genesis": by("op-a", "operator", Bond(amount_micro=1), genesis=""),
        "another name": by("op-a", "operator", Bond(amount_micro=1), network="mainnet"),
    },
    Reason.EXPIRED: {
        "a millisecond ago": lambda kit: kit.send(
            "op-a", "operator", Bond(amount_micro=1), expiry_ms=kit.clock() - 1
        ),
    },
    Reason.NONCE_REUSED: {"by the same key": reuse_a_nonce},
    Reason.UNKNOWN_OPERATION: {
        "none such": lambda kit: kit.submit(raw(kit, operation="Withdraw")),
        "empty": lambda kit: kit.submit(raw(kit, operation="")),
        "another case": lambda kit: kit.submit(raw(kit, operation="bond")),
    },
    Reason.ROLE_NOT_ALLOWED: {
        "no such role": by("op-a", "king", Bond(amount_micro=1)),
        "not the network's key": by("op-a", "network", settle("job-1", FIRST)),
        "not the treasury's key": by(
            "op-a", "treasury", Deposit(party=party_of("op-a"), amount_micro=1)
        ),
        "the network is no treasury": by(
            "network", "treasury", Deposit(party=party_of("op-a"), amount_micro=1)
        ),
        "joined as another": by("submitter", "operator", Bond(amount_micro=1)),
        "an operator opens no job": by("op-a", "submitter", open_job("job-2")),
        "a verifier runs nothing": by("verifier", "operator", request_slot(THIRD)),
    },
    Reason.ALREADY_FOUNDED: {"a second time": network(found(reserve_micro=1))},
    Reason.UNKNOWN_PARTY: {
        "did not join": by("stranger", "operator", Bond(amount_micro=1)),
        "a deposit for nobody": treasury(Deposit(party=party_of("stranger"), amount_micro=1)),
        "a driver without a job": by("stranger", "driver", start_task("job-1", "task-2")),
        "slash of a stranger": network(slash("job-1", party_of("stranger"), FIRST)),
        "slash of who never worked here": network(slash("job-1", party_of("op-b"), FIRST)),
    },
    Reason.PARTY_EXISTS: {
        "the same": by("op-a", "operator", Join(name="op-a")),
        "under another role": by("op-a", "verifier", Join(name="op-a")),
        "a cheat does not come back": by("op-cheat", "operator", Join(name="new")),
    },
    Reason.OPERATOR_TOMBSTONED: {
        "bonds": by("op-cheat", "operator", Bond(amount_micro=1)),
        "works": by("op-cheat", "operator", request_slot(slot_of("job-1", "task-1", 0))),
        "is slashed again": network(
            slash("job-1", party_of("op-cheat"), slot_of("job-1", "task-cheat", 0))
        ),
    },
    Reason.UNKNOWN_JOB: {
        "start": driver(start_task("job-9", "task-0")),
        "finish": driver(FinishTask(job="job-9", task="task-0")),
        "slot": op(request_slot(slot_of("job-9", "task-0", 0))),
        "commit": op(commit(leaf(slot_of("job-9", "task-0", 0)))),
        "settle": network(settle("job-9", FIRST)),
        "slash": network(slash("job-9", party_of("op-a"), FIRST)),
        "close": driver(CloseJob(job="job-9")),
    },
    Reason.JOB_EXISTS: {
        "open": submitter(open_job("job-1")),
        "closed": submitter(open_job("job-done")),
    },
    Reason.JOB_CLOSED: {
        "start": driver(start_task("job-done", "task-1")),
        "finish": driver(FinishTask(job="job-done", task="task-0")),
        "slot": op(request_slot(slot_of("job-done", "task-0", 0))),
        "commit": op(commit(leaf(slot_of("job-done", "task-0", 0)))),
        "settle": network(settle("job-done", FIRST)),
        "slash": network(slash("job-done", party_of("op-a"), FIRST)),
        "close": driver(CloseJob(job="job-done")),
    },
    Reason.NOT_YOUR_JOB: {
        "start": driver(start_task("job-b", "task-1")),
        "finish": driver(FinishTask(job="job-b", task="task-0")),
        "close by another driver": driver(CloseJob(job="job-b")),
        "close by another submitter": submitter(CloseJob(job="job-b")),
    },
    Reason.BAD_ID: {
        "party": by("stranger", "operator", Join(name="a b")),
        "party, empty": by("stranger", "operator", Join(name="")),
        "job": submitter(open_job("job/2")),
        "job, too long": submitter(open_job("j" * 65)),
        "task": driver(start_task("job-1", "task/0")),
        "task, a path": driver(start_task("job-1", "..")),
    },
    Reason.UNKNOWN_TASK: {
        "finish": driver(FinishTask(job="job-1", task="task-9")),
        "slot": op(request_slot(slot_of("job-1", "task-9", 0))),
    },
    Reason.TASK_FINISHED: {"slot": op(request_slot(slot_of("job-1", "task-done", 0)))},
    Reason.TASK_EXISTS: {
        "another spec": driver(start_task("job-1", "task-0", 1, spec="other")),
        "another trial": driver(start_task("job-1", "task-0", 1, trial="other")),
    },
    Reason.STALE_ATTEMPT: {
        "start again": driver(start_task("job-1", "task-0", 0)),
        "start ahead": driver(start_task("job-1", "task-0", 2)),
        "start late": driver(start_task("job-1", "task-2", 1)),
        "slot of an old one": op(request_slot(slot_of("job-1", "task-old", 0, 0))),
        "slot of a later one": op(request_slot(slot_of("job-1", "task-1", 0, 1))),
    },
    Reason.ATTEMPT_TAKEN: {"slot": by("op-b", "operator", request_slot(THIRD))},
    Reason.SLOT_EXISTS: {
        "issued": op(request_slot(SECOND)),
        "committed": op(request_slot(FIRST)),
    },
    Reason.UNKNOWN_SLOT: {
        "commit": op(commit(leaf(UNISSUED))),
        "settle": network(settle("job-1", UNISSUED)),
        "settle another job's": network(settle("job-1", slot_of("job-small", "task-0", 0))),
        "slash on no evidence": network(slash("job-1", party_of("op-a"), UNISSUED)),
        "spoilt": network(slash("job-1", party_of("op-a"), FIRST, UNISSUED)),
    },
    Reason.NOT_YOUR_SLOT: {"commit": by("op-b", "operator", commit(leaf(operator="op-b")))},
    Reason.SLOT_NOT_OPEN: {
        "committed before": op(commit(leaf(FIRST))),
        "settle what is not committed": network(settle("job-1", SECOND)),
        "settle twice in one": network(settle("job-1", FIRST, FIRST)),
        "settle what is settled": network(settle("job-1", slot_of("job-1", "task-cheat", 0))),
    },
    Reason.WRONG_LEAF: {
        "none": op(commit()),
        "empty": op(commit({})),
        "no slot": op(commit({"job": "job-1", "task": "task-0", "segment": 1})),
        "the segment is text": op(commit({**leaf(), "segment": "1"})),
        "another operator": op(commit(leaf(operator="op-b"))),
        "other data": op(commit(leaf(data_digest="other"))),
        "no data": op(commit({k: v for k, v in leaf().items() if k != "data_digest"})),
        "twice": op(commit(leaf(), leaf())),
        "twice, and another result": op(commit(leaf(), leaf(state_after="other"))),
        "one of two": lambda kit: (
            kit.issue("op-a", THIRD),
            kit.send("op-a", "operator", commit(leaf(), leaf(THIRD, data_digest="other"))),
        )[1],
    },
    Reason.WRONG_ROOT: {
        "another": op(Commit(root="00" * 32, leaves=[leaf()])),
        "none": op(Commit(root="", leaves=[leaf()])),
        "of another leaf": op(Commit(root=commit(leaf(state_after="other")).root, leaves=[leaf()])),
        "in capitals": op(Commit(root=commit(leaf()).root.upper(), leaves=[leaf()])),
    },
    Reason.AMOUNT_OUT_OF_RANGE: {
        **{
            f"{name} {amount}": attempt(amount)
            for amount in (0, -1, MAX_MICRO + 1)
            for name, attempt in {
                "deposit": lambda amount: treasury(
                    Deposit(party=party_of("op-a"), amount_micro=amount)
                ),
                "bond": lambda amount: op(Bond(amount_micro=amount)),
                "budget": lambda amount: submitter(open_job("job-2", budget_micro=amount)),
                "price": lambda amount: submitter(open_job("job-2", price_micro=amount)),
            }.items()
        },
        "rate below zero": submitter(open_job("job-2", audit_ppm=-1)),
        "rate above one": submitter(open_job("job-2", audit_ppm=1_000_001)),
        "batch of none": submitter(open_job("job-2", draw_batch=0)),
    },
    Reason.INSUFFICIENT_FUNDS: {
        "bond": op(Bond(amount_micro=501)),
        "open": submitter(open_job("job-2", budget_micro=10_000)),
    },
    Reason.INSUFFICIENT_STAKE: {
        "slot": by("op-poor", "operator", request_slot(slot_of("job-1", "task-1", 0))),
    },
    Reason.BUDGET_EXHAUSTED: {
        "another slot": op(request_slot(slot_of("job-small", "task-0", 1))),
        "another task": by("op-b", "operator", request_slot(slot_of("job-small", "task-1", 0))),
    },
    Reason.SEGMENTS_UNSETTLED: {
        "by the driver": driver(CloseJob(job="job-1")),
        "by the submitter": submitter(CloseJob(job="job-1")),
    },
}

OF_SETTLEMENT = {Reason.NO_VERIFIER, Reason.WRONG_PREDECESSOR}
"""Reasons that are given above this core, by `admit`."""


# -- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "attempt"),
    [
        pytest.param(reason, attempt, id=f"{reason.name}: {name}")
        for reason, attempts in REFUSALS.items()
        for name, attempt in attempts.items()
    ],
)
def test_it_is_refused_for_its_reason_and_changes_nothing(reason: Reason, attempt: Attempt) -> None:
    kit = busy_kit()
    answer = attempt(kit)
    assert isinstance(answer, Rejected)
    assert answer.reason is reason
    assert invariants.check(kit.journal.book) == []
    kept = Journal()
    for entry in kit.entries:
        kept.apply(entry)
    assert kit.journal.tree.root() == kept.tree.root()
    assert kit.balances() == dict(kept.book.balances)
    assert kit.journal.book.jobs == kept.book.jobs
    assert kit.journal.book.parties == kept.book.parties


def test_every_reason_of_this_core_is_in_the_table() -> None:
    assert set(REFUSALS) | OF_SETTLEMENT == set(Reason)


@pytest.mark.parametrize("kind", ALLOWED_ROLES, ids=lambda kind: kind.__name__)
def test_a_command_is_refused_in_every_role_but_its_own(kind: type[Command]) -> None:
    samples: list[Command] = [
        found(),
        Deposit(party=party_of("op-a"), amount_micro=1),
        Join(name="a"),
        Bond(amount_micro=1),
        open_job("job-2"),
        start_task("job-1", "task-2"),
        FinishTask(job="job-1", task="task-0"),
        request_slot(FIRST),
        commit(leaf()),
        Record(kind="any", content={}),
        settle("job-1", FIRST),
        slash("job-1", party_of("op-a"), FIRST),
        CloseJob(job="job-1"),
    ]
    command = next(one for one in samples if isinstance(one, kind))
    kit = kit_with_job()
    for role in ROLES:
        if role not in ALLOWED_ROLES[kind]:
            for name in ("network", "treasury", "driver", "submitter", "op-a", "verifier"):
                answer = kit.send(name, role, command)
                assert reason_of(answer) is Reason.ROLE_NOT_ALLOWED, (name, role)


def test_a_commit_of_an_old_attempt_comes_too_late() -> None:
    kit = kit_with_job()
    kit.issue("op-a", FIRST)
    kit.accept("driver", "driver", start_task("job-1", "task-0", 1))
    late = kit.send("op-a", "operator", commit(leaf(FIRST)))
    assert late == Rejected(reason=Reason.SLOT_NOT_OPEN, detail="dead")
    kit.commit("op-b", slot_of("job-1", "task-0", 0, 1))


def test_a_commit_after_the_task_is_finished_comes_too_late() -> None:
    kit = kit_with_job()
    kit.issue("op-a", FIRST)
    kit.finish_task("job-1", "task-0")
    late = kit.send("op-a", "operator", commit(leaf(FIRST)))
    assert late == Rejected(reason=Reason.SLOT_NOT_OPEN, detail="dead")


def test_before_the_founding_nothing_else_is_taken() -> None:
    envelope = Kit().sign("op-a", "operator", Join(name="op-a"))
    answer = Journal().propose(envelope, 0)
    assert reason_of(answer) is Reason.WRONG_NETWORK


@pytest.mark.parametrize(
    ("signer", "changes", "header"),
    [("op-a", {}, {}), ("network", {"network": "a"}, {"network": "b"})],
)
def test_only_its_own_key_founds_a_network_of_its_own_name(
    signer: str, changes: dict[str, Any], header: dict[str, Any]
) -> None:
    envelope = Kit().sign(signer, "network", found(**changes), genesis="", **header)
    assert reason_of(Journal().propose(envelope, 0)) is Reason.ROLE_NOT_ALLOWED


def test_a_further_check_has_the_last_word() -> None:
    kit = kit_with_job()
    no = Rejected(reason=Reason.NO_VERIFIER, detail="class-a")
    envelope = kit.sign("op-a", "operator", request_slot(FIRST))
    assert kit.journal.propose(envelope, kit.clock(), lambda order: no) == no
    assert isinstance(kit.journal.propose(envelope, kit.clock(), lambda order: None), Entry)
    unknown = kit.sign("op-a", "operator", request_slot(slot_of("job-9", "t", 0)))
    assert reason_of(kit.journal.propose(unknown, kit.clock(), lambda order: no)) is (
        Reason.UNKNOWN_JOB
    )


# -- precedence ------------------------------------------------------------------------------

BOTH_HOLD: list[tuple[Reason, Reason, Attempt]] = [
    (
        Reason.MALFORMED,
        Reason.BAD_SIGNATURE,
        lambda kit: kit.submit(with_signature(raw(kit, more=1), b"")),
    ),
    (
        Reason.BAD_SIGNATURE,
        Reason.WRONG_NETWORK,
        lambda kit: kit.submit(with_signature(raw(kit, genesis=""), b"")),
    ),
    (
        Reason.BAD_SIGNATURE,
        Reason.UNKNOWN_OPERATION,
        lambda kit: kit.submit(with_signature(raw(kit, operation="x"), b"")),
    ),
    (
        Reason.WRONG_NETWORK,
        Reason.EXPIRED,
        by("op-a", "operator", Bond(amount_micro=1), genesis="", expiry_ms=0),
    ),
    (
        Reason.WRONG_NETWORK,
        Reason.EXPIRED,
        by("op-a", "operator", Bond(amount_micro=1), network="other", expiry_ms=0),
    ),
    (
        Reason.WRONG_NETWORK,
        Reason.NONCE_REUSED,
        by("op-a", "operator", Bond(amount_micro=1), genesis="", nonce="once"),
    ),
    (
        Reason.EXPIRED,
        Reason.ROLE_NOT_ALLOWED,
        by("op-a", "network", settle("job-1", FIRST), expiry_ms=0),
    ),
    (
        Reason.EXPIRED,
        Reason.UNKNOWN_PARTY,
        by("stranger", "operator", Bond(amount_micro=1), expiry_ms=0),
    ),
    (
        Reason.NONCE_REUSED,
        Reason.ROLE_NOT_ALLOWED,
        by("op-a", "network", settle("job-1", FIRST), nonce="once"),
    ),
    (
        Reason.UNKNOWN_OPERATION,
        Reason.ROLE_NOT_ALLOWED,
        lambda kit: kit.submit(raw(kit, operation="x", role="king")),
    ),
    (
        Reason.ROLE_NOT_ALLOWED,
        Reason.UNKNOWN_JOB,
        by("op-a", "network", settle("job-9", FIRST)),
    ),
    (
        Reason.ROLE_NOT_ALLOWED,
        Reason.OPERATOR_TOMBSTONED,
        by("op-cheat", "submitter", open_job("job-2")),
    ),
    (
        Reason.UNKNOWN_PARTY,
        Reason.UNKNOWN_JOB,
        by("stranger", "operator", request_slot(slot_of("job-9", "task-0", 0))),
    ),
    (
        Reason.UNKNOWN_PARTY,
        Reason.AMOUNT_OUT_OF_RANGE,
        treasury(Deposit(party="nobody", amount_micro=0)),
    ),
    (Reason.PARTY_EXISTS, Reason.BAD_ID, by("op-a", "operator", Join(name=""))),
    (
        Reason.OPERATOR_TOMBSTONED,
        Reason.AMOUNT_OUT_OF_RANGE,
        by("op-cheat", "operator", Bond(amount_micro=0)),
    ),
    (
        Reason.OPERATOR_TOMBSTONED,
        Reason.UNKNOWN_SLOT,
        network(slash("job-1", party_of("op-cheat"), UNISSUED)),
    ),
    (
        Reason.OPERATOR_TOMBSTONED,
        Reason.UNKNOWN_JOB,
        by("op-cheat", "operator", request_slot(slot_of("job-9", "task-0", 0))),
    ),
    (
        Reason.JOB_EXISTS,
        Reason.AMOUNT_OUT_OF_RANGE,
        submitter(open_job("job-1", budget_micro=0)),
    ),
    (
        Reason.JOB_CLOSED,
        Reason.NOT_YOUR_JOB,
        by("driver-b", "driver", CloseJob(job="job-done")),
    ),
    (
        Reason.JOB_CLOSED,
        Reason.UNKNOWN_TASK,
        op(request_slot(slot_of("job-done", "task-9", 0))),
    ),
    (Reason.NOT_YOUR_JOB, Reason.BAD_ID, driver(start_task("job-b", "a/b"))),
    (
        Reason.NOT_YOUR_JOB,
        Reason.UNKNOWN_TASK,
        driver(FinishTask(job="job-b", task="task-9")),
    ),
    (
        Reason.NOT_YOUR_JOB,
        Reason.SEGMENTS_UNSETTLED,
        by("driver-b", "driver", CloseJob(job="job-1")),
    ),
    (Reason.BAD_ID, Reason.STALE_ATTEMPT, driver(start_task("job-1", "a/b", 7))),
    (
        Reason.BAD_ID,
        Reason.INSUFFICIENT_FUNDS,
        submitter(open_job("a/b", budget_micro=HIGH)),
    ),
    (
        Reason.TASK_FINISHED,
        Reason.STALE_ATTEMPT,
        op(request_slot(slot_of("job-1", "task-done", 0, 1))),
    ),
    (
        Reason.STALE_ATTEMPT,
        Reason.ATTEMPT_TAKEN,
        by("op-b", "operator", request_slot(slot_of("job-1", "task-0", 0, 1))),
    ),
    (Reason.ATTEMPT_TAKEN, Reason.SLOT_EXISTS, by("op-b", "operator", request_slot(FIRST))),
    (
        Reason.ATTEMPT_TAKEN,
        Reason.INSUFFICIENT_STAKE,
        by("op-poor", "operator", request_slot(THIRD)),
    ),
    (
        Reason.SLOT_EXISTS,
        Reason.BUDGET_EXHAUSTED,
        op(request_slot(slot_of("job-small", "task-0", 0))),
    ),
    (
        Reason.NOT_YOUR_SLOT,
        Reason.SLOT_NOT_OPEN,
        by("op-b", "operator", commit(leaf(FIRST, "op-b"))),
    ),
    (
        Reason.NOT_YOUR_SLOT,
        Reason.WRONG_LEAF,
        by("op-b", "operator", commit(leaf(data_digest="other"))),
    ),
    (Reason.SLOT_NOT_OPEN, Reason.WRONG_LEAF, op(commit(leaf(FIRST, data_digest="other")))),
    (
        Reason.WRONG_LEAF,
        Reason.WRONG_ROOT,
        op(Commit(root="", leaves=[leaf(data_digest="other")])),
    ),
    (
        Reason.UNKNOWN_SLOT,
        Reason.WRONG_ROOT,
        op(Commit(root="", leaves=[leaf(UNISSUED)])),
    ),
    (
        Reason.AMOUNT_OUT_OF_RANGE,
        Reason.INSUFFICIENT_FUNDS,
        op(Bond(amount_micro=MAX_MICRO + 1)),
    ),
    (
        Reason.INSUFFICIENT_STAKE,
        Reason.BUDGET_EXHAUSTED,
        by("op-poor", "operator", request_slot(slot_of("job-small", "task-1", 0))),
    ),
]


@pytest.mark.parametrize(
    ("given", "also_holds", "attempt"),
    [
        pytest.param(given, also, attempt, id=f"{given.name} before {also.name} {number}")
        for number, (given, also, attempt) in enumerate(BOTH_HOLD)
    ],
)
def test_where_two_reasons_hold_the_first_is_given(
    given: Reason, also_holds: Reason, attempt: Attempt
) -> None:
    kit = busy_kit()
    kit.send("op-a", "operator", Bond(amount_micro=1), nonce="once")
    order = list(Reason)
    assert order.index(given) < order.index(also_holds)
    assert reason_of(attempt(kit)) is given


# -- sending again ---------------------------------------------------------------------------


def test_the_same_envelope_again_is_answered_with_its_first_place() -> None:
    kit = kit_with_job()
    before = kit.balances()
    for entry, envelope in zip(list(kit.entries), list(kit.envelopes), strict=True):
        assert kit.submit(envelope) == Duplicate(index=entry.index)
    assert kit.balances() == before
    assert len(kit.journal.tree) == len(kit.entries)


def test_the_same_envelope_after_its_expiry_is_still_answered_with_its_first_place() -> None:
    kit = Kit()
    envelope = kit.sign("op-a", "operator", Join(name="op-a"))
    assert isinstance(kit.submit(envelope), Entry)
    kit.clock.advance(10**9)
    assert kit.submit(envelope) == Duplicate(index=1)


def test_a_refused_command_can_be_sent_again_and_be_accepted() -> None:
    kit = kit_with_parties()
    envelope = kit.sign("op-a", "operator", Bond(amount_micro=600))
    assert reason_of(kit.submit(envelope)) is Reason.INSUFFICIENT_FUNDS
    kit.accept("treasury", "treasury", Deposit(party=party_of("op-a"), amount_micro=100))
    assert isinstance(kit.submit(envelope), Entry)
    assert isinstance(kit.submit(envelope), Duplicate)


def test_a_nonce_is_one_keys_own() -> None:
    kit = kit_with_parties()
    for name in ("op-a", "op-b"):
        answer = kit.send(name, "operator", Bond(amount_micro=1), nonce="the same")
        assert isinstance(answer, Entry)


def test_a_command_is_good_until_the_millisecond_of_its_expiry() -> None:
    kit = kit_with_parties()
    now = kit.clock()
    last = kit.sign("op-a", "operator", Bond(amount_micro=1), expiry_ms=now + 5)
    missed = kit.sign("op-a", "operator", Bond(amount_micro=2), expiry_ms=now + 4)
    kit.clock.advance(5)
    assert reason_of(kit.submit(missed)) is Reason.EXPIRED
    assert isinstance(kit.submit(last), Entry)


def test_a_command_for_one_network_is_worthless_in_another_of_the_same_name() -> None:
    here, there = kit_with_parties(), Kit(found(reserve_micro=7))
    there.join("op-a", "operator", deposit_micro=1_000)
    assert here.network == there.network
    envelope = here.sign("op-a", "operator", Bond(amount_micro=1))
    assert reason_of(there.submit(envelope)) is Reason.WRONG_NETWORK
    assert isinstance(here.submit(envelope), Entry)


def test_an_entry_out_of_its_place_is_not_folded() -> None:
    kit = kit_with_parties()
    proposed = kit.journal.propose(kit.sign("op-a", "operator", Bond(amount_micro=1)), kit.clock())
    assert isinstance(proposed, Entry)
    wrong = make_entry(proposed.index + 1, kit.clock(), proposed.envelope, proposed.events)
    with pytest.raises(CorruptJournal, match="stands where"):
        kit.journal.apply(wrong)


# -- what is accepted ------------------------------------------------------------------------


def test_founding_names_the_network() -> None:
    kit = Kit()
    (founded,) = kit.entries[0].events
    assert founded == Founded(**records.to_json(found()))
    assert kit.journal.book.founded == founded
    assert kit.journal.genesis == kit.envelopes[0].body_hash


def test_joining_makes_a_key_a_party() -> None:
    kit = Kit()
    entry = kit.accept("op-a", "operator", Join(name="node-1", numerics="class-a"))
    assert entry.events == [
        PartyJoined(
            party=party_of("op-a"),
            role="operator",
            key=key_of("op-a").public.hex(),
            name="node-1",
            numerics="class-a",
        )
    ]


def test_a_deposit_comes_from_outside() -> None:
    kit = kit_with_parties()
    outside = kit.balance(accounts.EXTERNAL)
    entry = kit.accept(
        "treasury", "treasury", Deposit(party=party_of("verifier"), amount_micro=MAX_MICRO)
    )
    assert moves(entry) == [
        (accounts.EXTERNAL, accounts.available(party_of("verifier")), MAX_MICRO, "deposit")
    ]
    assert kit.balance(accounts.EXTERNAL) == outside - MAX_MICRO


def test_a_bond_makes_credits_stake() -> None:
    kit = kit_with_parties()
    kit.accept("op-a", "operator", Bond(amount_micro=500))
    assert kit.balance(accounts.available(party_of("op-a"))) == 0
    assert kit.balance(accounts.free_stake(party_of("op-a"))) == 1_000


def test_opening_a_job_puts_its_budget_into_escrow() -> None:
    kit = kit_with_parties()
    kit.open_job("job-1", budget_micro=10_000)
    assert kit.balance(accounts.escrow("job-1")) == 10_000
    assert kit.balance(accounts.available(party_of("submitter"))) == 0


def test_tasks_start_and_finish() -> None:
    kit = kit_with_job()
    assert kit.entries[-1].events == [
        TaskStarted(job="job-1", task="task-1", trial="trial-task-1", spec="spec", attempt=0)
    ]
    kit.finish_task("job-1", "task-1")
    assert kit.entries[-1].events == [TaskFinished(job="job-1", task="task-1")]
    kit.accept("driver", "driver", start_task("job-1", "task-1", 1))
    kit.issue("op-b", slot_of("job-1", "task-1", 0, 1))


def test_the_first_slot_in_a_job_reserves_stake_and_the_next_does_not() -> None:
    kit = kit_with_job()
    party = party_of("op-a")
    reserved = accounts.reserved_stake(party, "job-1")
    first = kit.accept("op-a", "operator", request_slot(FIRST))
    assert first.events == [
        Moved(
            debit=accounts.free_stake(party),
            credit=reserved,
            amount_micro=RESERVE_MICRO,
            memo="reserve",
        ),
        SlotIssued(slot=FIRST, operator=party, price_micro=PRICE_MICRO),
    ]
    second = kit.accept("op-a", "operator", request_slot(SECOND))
    assert second.events == [SlotIssued(slot=SECOND, operator=party, price_micro=PRICE_MICRO)]
    assert kit.balance(reserved) == RESERVE_MICRO


def test_one_stake_never_backs_two_jobs() -> None:
    kit = kit_with_parties()
    jobs = [f"job-{number}" for number in range(6)]
    for job in jobs:
        kit.open_job(job, "task-0")
    for job in jobs[:5]:
        kit.issue("op-a", slot_of(job, "task-0", 0))
    answer = kit.send("op-a", "operator", request_slot(slot_of(jobs[5], "task-0", 0)))
    assert reason_of(answer) is Reason.INSUFFICIENT_STAKE


def test_the_last_of_the_budget_can_be_promised_and_no_more() -> None:
    kit = kit_with_parties()
    kit.open_job("job-1", "task-0", budget_micro=3 * PRICE_MICRO - 1)
    kit.issue("op-a", FIRST, SECOND)
    assert reason_of(kit.send("op-a", "operator", request_slot(THIRD))) is Reason.BUDGET_EXHAUSTED


def test_a_promise_that_is_not_kept_frees_its_part_of_the_budget() -> None:
    kit = kit_with_parties()
    kit.open_job("job-1", "task-0", budget_micro=2 * PRICE_MICRO)
    kit.issue("op-a", FIRST, SECOND)
    kit.accept("driver", "driver", start_task("job-1", "task-0", 1))
    kit.commit("op-b", slot_of("job-1", "task-0", 0, 1), slot_of("job-1", "task-0", 1, 1))
    kit.settle("job-1", {slot_of("job-1", "task-0", 0, 1): False})
    kit.issue("op-b", slot_of("job-1", "task-0", 2, 1))


def test_a_commitment_records_every_leaf_under_one_root() -> None:
    kit = kit_with_job()
    kit.issue("op-a", FIRST, SECOND)
    command = commit(leaf(FIRST), leaf(SECOND))
    entry = kit.accept("op-a", "operator", command)
    assert entry.events == [
        SlotCommitted(
            slot=slot,
            operator=party_of("op-a"),
            root=command.root,
            index=index,
            leaf=leaf(slot),
        )
        for index, slot in enumerate((FIRST, SECOND))
    ]
    assert kit.journal.book.jobs["job-1"].unsettled == 2


def test_slots_of_several_tasks_and_jobs_can_be_answered_together() -> None:
    kit = kit_with_job()
    kit.open_job("job-2", "task-0")
    kit.commit("op-a", FIRST, slot_of("job-1", "task-1", 0), slot_of("job-2", "task-0", 0))
    assert kit.journal.book.jobs["job-1"].unsettled == 2
    assert kit.journal.book.jobs["job-2"].unsettled == 1


@pytest.mark.parametrize(
    ("name", "role"), [("network", "network"), ("driver", "driver"), ("verifier", "verifier")]
)
def test_evidence_is_recorded_and_moves_nothing(name: str, role: str) -> None:
    kit = kit_with_job()
    before = kit.balances()
    entry = kit.accept(name, role, Record(kind="any", content={"a": [1, None]}))
    assert entry.events == [
        Recorded(kind="any", role=role, party=party_of(name), content={"a": [1, None]})
    ]
    assert kit.balances() == before


def test_settling_holds_pay_back_and_refuses_the_rest() -> None:
    kit = kit_with_job()
    kit.commit("op-a", FIRST, SECOND)
    entry = kit.settle("job-1", {FIRST: True, SECOND: False})
    holdback = accounts.holdback("job-1", party_of("op-a"))
    assert entry.events == [
        SlotSettled(slot=FIRST, paid=True, reason="test"),
        Moved(
            debit=accounts.escrow("job-1"),
            credit=holdback,
            amount_micro=PRICE_MICRO,
            memo="earn",
            slot=FIRST,
        ),
        SlotSettled(slot=SECOND, paid=False, reason="test"),
    ]
    assert kit.balance(holdback) == PRICE_MICRO
    job = kit.journal.book.jobs["job-1"]
    assert (job.unsettled, job.promised_micro) == (0, 0)


def test_a_commitment_of_an_attempt_that_was_replaced_is_still_paid() -> None:
    kit = kit_with_job()
    kit.commit("op-a", FIRST)
    kit.accept("driver", "driver", start_task("job-1", "task-0", 1))
    kit.settle("job-1", {FIRST: True})
    assert kit.balance(accounts.holdback("job-1", party_of("op-a"))) == PRICE_MICRO


def test_the_book_finds_a_slot_by_its_name() -> None:
    kit = kit_with_job()
    kit.issue("op-a", FIRST)
    entry = kit.journal.book.slot(FIRST)
    assert entry is not None
    assert (entry.operator, entry.state) == (party_of("op-a"), SlotState.ISSUED)
    for slot in (SECOND, slot_of("job-9", "task-0", 0), "", "nonsense"):
        assert kit.journal.book.slot(slot) is None


# -- slashing --------------------------------------------------------------------------------


def test_a_slash_takes_the_stake_the_held_pay_and_the_future() -> None:
    kit = kit_with_job()
    kit.earn("op-a", FIRST, SECOND)
    kit.issue("op-a", THIRD)
    party = party_of("op-a")
    escrow = kit.balance(accounts.escrow("job-1"))
    entry = kit.slash("job-1", "op-a", FIRST)
    assert entry.events[0] == Tombstoned(
        operator=party, job="job-1", evidence=FIRST, slashed_micro=RESERVE_MICRO
    )
    assert moves(entry) == [
        (
            accounts.reserved_stake(party, "job-1"),
            accounts.slashed("job-1"),
            RESERVE_MICRO,
            "slash",
        ),
        (accounts.holdback("job-1", party), accounts.escrow("job-1"), PRICE_MICRO, "forfeit"),
        (accounts.holdback("job-1", party), accounts.escrow("job-1"), PRICE_MICRO, "forfeit"),
    ]
    assert kit.balance(accounts.slashed("job-1")) == RESERVE_MICRO
    assert kit.balance(accounts.holdback("job-1", party)) == 0
    assert kit.balance(accounts.escrow("job-1")) == escrow + 2 * PRICE_MICRO
    assert kit.journal.book.parties[party].tombstoned
    assert kit.journal.book.parties[party].slashed_micro == RESERVE_MICRO
    third = kit.journal.book.slot(THIRD)
    assert third is not None
    assert third.state is SlotState.DEAD
    late = kit.send("op-a", "operator", commit(leaf(THIRD)))
    assert reason_of(late) is Reason.OPERATOR_TOMBSTONED
    assert invariants.check(kit.journal.book) == []


def test_a_slash_reaches_the_slots_of_every_job() -> None:
    kit = kit_with_job()
    elsewhere = slot_of("job-2", "task-0", 0)
    kit.open_job("job-2", "task-0")
    kit.issue("op-a", elsewhere)
    kit.commit("op-a", FIRST)
    kit.slash("job-1", "op-a", FIRST)
    entry = kit.journal.book.slot(elsewhere)
    assert entry is not None
    assert entry.state is SlotState.DEAD
    assert kit.balance(accounts.reserved_stake(party_of("op-a"), "job-2")) == RESERVE_MICRO


def test_honest_work_that_was_spoilt_is_made_good_from_the_slash() -> None:
    kit = kit_with_job()
    spoilt = [slot_of("job-1", "task-1", number) for number in range(3)]
    kit.commit("op-a", FIRST)
    kit.earn("op-b", *spoilt)
    entry = kit.slash("job-1", "op-a", FIRST, *spoilt, spoilt[0])
    assert [move for move in moves(entry) if move[3] == "make good"] == [
        (accounts.slashed("job-1"), accounts.escrow("job-1"), PRICE_MICRO, "make good")
    ] * 3
    assert kit.balance(accounts.slashed("job-1")) == RESERVE_MICRO - 3 * PRICE_MICRO
    assert kit.balance(accounts.holdback("job-1", party_of("op-b"))) == 3 * PRICE_MICRO
    assert invariants.check(kit.journal.book) == []


def test_no_more_is_made_good_than_was_slashed() -> None:
    kit = kit_with_job()
    spoilt = [slot_of("job-1", "task-1", number) for number in range(12)]
    kit.commit("op-a", FIRST)
    kit.earn("op-b", *spoilt)
    entry = kit.slash("job-1", "op-a", FIRST, *spoilt)
    made_good = [move for move in moves(entry) if move[3] == "make good"]
    assert len(made_good) == RESERVE_MICRO // PRICE_MICRO
    assert kit.balance(accounts.slashed("job-1")) == 0


def test_free_stake_and_earlier_earnings_outlive_a_slash() -> None:
    kit = kit_with_job()
    kit.commit("op-a", FIRST)
    kit.slash("job-1", "op-a", FIRST)
    assert kit.balance(accounts.free_stake(party_of("op-a"))) == 500 - RESERVE_MICRO
    assert kit.balance(accounts.available(party_of("op-a"))) == 500


# -- closing ---------------------------------------------------------------------------------


def test_closing_releases_pay_slot_by_slot_and_refunds_the_rest() -> None:
    kit = kit_with_job()
    kit.earn("op-a", FIRST, SECOND)
    kit.commit("op-b", slot_of("job-1", "task-1", 0))
    kit.settle("job-1", {slot_of("job-1", "task-1", 0): False})
    kit.issue("op-b", slot_of("job-1", "task-1", 1))
    a, b = party_of("op-a"), party_of("op-b")
    entry = kit.accept("driver", "driver", CloseJob(job="job-1"))
    assert [(event.slot, event.memo) for event in entry.events if isinstance(event, Moved)] == [
        (FIRST, "release"),
        (SECOND, "release"),
        ("", "release stake"),
        ("", "release stake"),
        ("", "refund"),
    ]
    assert moves(entry) == [
        (accounts.holdback("job-1", a), accounts.available(a), PRICE_MICRO, "release"),
        (accounts.holdback("job-1", a), accounts.available(a), PRICE_MICRO, "release"),
        (
            accounts.reserved_stake(a, "job-1"),
            accounts.free_stake(a),
            RESERVE_MICRO,
            "release stake",
        ),
        (
            accounts.reserved_stake(b, "job-1"),
            accounts.free_stake(b),
            RESERVE_MICRO,
            "release stake",
        ),
        (
            accounts.escrow("job-1"),
            accounts.available(party_of("submitter")),
            98 * PRICE_MICRO,
            "refund",
        ),
    ]
    assert entry.events[-1] == JobClosed(job="job-1")
    assert kit.balance(accounts.escrow("job-1")) == 0
    assert kit.balance(accounts.free_stake(a)) == kit.balance(accounts.free_stake(b)) == 500
    assert kit.balance(accounts.available(a)) == 500 + 2 * PRICE_MICRO
    assert kit.balance(accounts.available(party_of("submitter"))) == 10_000 - 2 * PRICE_MICRO
    assert invariants.check(kit.journal.book) == []


def test_a_job_that_was_never_worked_on_returns_its_whole_budget() -> None:
    kit = kit_with_job()
    kit.accept("submitter", "submitter", CloseJob(job="job-1"))
    assert kit.balance(accounts.available(party_of("submitter"))) == 10_000


def test_a_budget_that_is_spent_to_the_last_credit_is_not_refunded() -> None:
    kit = kit_with_parties()
    kit.open_job("job-1", "task-0", budget_micro=PRICE_MICRO)
    kit.earn("op-a", FIRST)
    entry = kit.accept("driver", "driver", CloseJob(job="job-1"))
    assert [move[3] for move in moves(entry)] == ["release", "release stake"]


def test_a_cheat_is_released_nothing_when_the_job_closes() -> None:
    kit = kit_with_job()
    kit.earn("op-a", FIRST)
    kit.earn("op-b", slot_of("job-1", "task-1", 0))
    kit.slash("job-1", "op-a", FIRST, slot_of("job-1", "task-1", 0))
    entry = kit.accept("driver", "driver", CloseJob(job="job-1"))
    assert [move[3] for move in moves(entry)] == ["release", "release stake", "refund"]
    assert kit.balance(accounts.available(party_of("op-a"))) == 500
    assert kit.balance(accounts.available(party_of("op-b"))) == 500 + PRICE_MICRO
    # Every segment's price came back: one forfeited, one made good; the honest one is paid.
    assert kit.balance(accounts.available(party_of("submitter"))) == 10_000
    assert kit.balance(accounts.slashed("job-1")) == RESERVE_MICRO - PRICE_MICRO
    assert invariants.check(kit.journal.book) == []


def test_what_a_cheat_of_one_job_earned_in_another_goes_back_to_its_submitter() -> None:
    kit = kit_with_job()
    kit.open_job("job-2", "task-0")
    kit.earn("op-a", slot_of("job-2", "task-0", 0))
    kit.commit("op-a", FIRST)
    kit.slash("job-1", "op-a", FIRST)
    kit.settle("job-1", {FIRST: False})
    entry = kit.accept("driver", "driver", CloseJob(job="job-2"))
    assert [move[3] for move in moves(entry)] == ["forfeit", "release stake", "refund"]
    assert kit.balance(accounts.holdback("job-2", party_of("op-a"))) == 0
    kit.accept("driver", "driver", CloseJob(job="job-1"))
    assert kit.balance(accounts.available(party_of("submitter"))) == 10_000
    assert invariants.check(kit.journal.book) == []


# -- the checks that watch the books ---------------------------------------------------------


def test_broken_books_are_noticed() -> None:
    kit = kit_with_job()
    kit.earn("op-a", FIRST)
    book = kit.journal.book
    assert invariants.check(book) == []
    book.balances.move(
        debit=accounts.holdback("job-1", party_of("op-a")),
        credit=accounts.available(party_of("op-a")),
        amount_micro=PRICE_MICRO,
    )
    assert any("its slots say otherwise" in line for line in invariants.check(book))
    book.balances.move(
        debit=accounts.escrow("job-1"),
        credit=accounts.EXTERNAL,
        amount_micro=100 * PRICE_MICRO,
    )
    assert any("is below zero" in line for line in invariants.check(book))
    book.jobs["job-1"].promised_micro = 5
    assert any("promises 5" in line for line in invariants.check(book))
    book.jobs["job-1"].closed = True
    assert any("is closed and still holds" in line for line in invariants.check(book))
