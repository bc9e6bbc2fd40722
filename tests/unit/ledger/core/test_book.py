"""The book: repeated commands, the postings of a job from start to end, and invariants."""

import copy
from collections.abc import Callable

import pytest

from gensyn_ray.domain.evidence import Flush
from gensyn_ray.domain.money import MAX_MICRO
from ledger.core import accounts, invariants
from ledger.core.book_state import JobState, SlashState, SlotState
from ledger.core.commands import (
    Bond,
    CloseJob,
    Deposit,
    DistributeSlash,
    ExpireJob,
    Join,
    Record,
)
from ledger.core.events import (
    JobClosed,
    Moved,
    Recorded,
    SlotCommitted,
    SlotIssued,
    SlotReleased,
    SlotSettled,
    StakeReserved,
    TaskFinished,
    TaskStarted,
)
from ledger.core.journal import CorruptJournal, Duplicate, Entry, Journal, make_entry
from ledger.core.orders import Order, read
from ledger.core.refusals import Reason, Rejected
from tests.kits.book_kit import (
    FIRST,
    SECOND,
    THIRD,
    CouncilKit,
    available,
    free,
    leaf,
    memos,
    moves,
    reason_of,
    release,
    slot_in,
)
from tests.kits.busy_kit import (
    PAID,
    shared_kit,
)
from tests.kits.ledger_kit import (
    PRICE_MICRO,
    RESERVE_MICRO,
    Kit,
    commit,
    found,
    kit_with_job,
    kit_with_parties,
    parameters,
    party_of,
    request_slot,
    slot_of,
    start_task,
)

SET = parameters()
OP_A, OP_B = accounts.available(party_of("op-a")), accounts.available(party_of("op-b"))


# -- repeated commands -----------------------------------------------------------------------


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


def test_each_key_has_its_own_nonces() -> None:
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


def test_a_command_may_quote_any_earlier_head() -> None:
    kit = kit_with_parties()
    heads = ["", *(kit.journal.head_at(size) for size in range(len(kit.entries) + 1))]
    for head in heads:
        answer = kit.send("op-a", "operator", Bond(amount_micro=1), head=head)
        assert isinstance(answer, Entry)


def test_a_command_with_a_head_of_another_branch_is_refused() -> None:
    here, there = kit_with_parties(), kit_with_parties()
    there.accept("op-a", "operator", Bond(amount_micro=1))
    here.accept("op-a", "operator", Bond(amount_micro=2))
    head = there.journal.head_at(len(there.entries))
    answer = here.send("op-b", "operator", Bond(amount_micro=1), head=head)
    assert answer == Rejected(reason=Reason.UNKNOWN_HEAD, detail=head[:100])


def test_a_command_is_refused_in_another_network_of_the_same_name() -> None:
    here, there = kit_with_parties(), Kit(found(parameters=parameters(reserve_micro=7)))
    there.join("op-a", "operator", deposit_micro=1_000)
    assert here.network == there.network
    envelope = here.sign("op-a", "operator", Bond(amount_micro=1))
    assert reason_of(there.submit(envelope)) is Reason.WRONG_NETWORK
    assert isinstance(here.submit(envelope), Entry)


def test_an_entry_out_of_its_place_is_not_folded() -> None:
    kit = kit_with_parties()
    envelope = kit.sign("op-a", "operator", Bond(amount_micro=1))
    proposed, order = kit.journal.propose(envelope, kit.clock()), read(envelope)
    assert isinstance(proposed, Entry)
    assert isinstance(order, Order)
    wrong = make_entry(proposed.index + 1, kit.clock(), order, proposed.events)
    with pytest.raises(CorruptJournal, match="stands where"):
        kit.journal.apply(wrong)


# -- accepted commands -----------------------------------------------------------------------


def test_opening_a_job_puts_its_budget_into_escrow() -> None:
    kit = kit_with_parties()
    kit.open_job("job-1", budget_micro=10_000)
    assert kit.balance(accounts.escrow("job-1")) == 10_000
    assert kit.balance(accounts.available(party_of("submitter"))) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"audit_ppm": 0},
        {"audit_ppm": 1_000_000},
        {"draw_batch": 1},
        {"budget_micro": 1},
        {"price_micro": 1},
        {"price_micro": MAX_MICRO},
    ],
)
def test_a_job_may_ask_for_the_least_and_the_most(changes: dict[str, int]) -> None:
    kit = kit_with_parties()
    kit.open_job("job-1", **changes)
    assert not kit.journal.book.jobs["job-1"].closed


def test_tasks_start_and_finish() -> None:
    kit = kit_with_job()
    assert kit.entries[-1].events == [
        TaskStarted(
            job="job-1", task="task-1", trial="trial-task-1", spec="spec", attempt=0, inputs=[]
        )
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
        StakeReserved(job="job-1", operator=party, amount_micro=RESERVE_MICRO),
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


def test_slots_cannot_promise_more_than_the_budget() -> None:
    kit = kit_with_parties()
    kit.open_job("job-1", "task-0", budget_micro=3 * PRICE_MICRO - 1)
    kit.issue("op-a", FIRST, SECOND)
    assert reason_of(kit.send("op-a", "operator", request_slot(THIRD))) is Reason.BUDGET_EXHAUSTED


def test_a_replaced_attempt_frees_its_part_of_the_budget() -> None:
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
    evidence = Flush(job="job-1")
    entry = kit.accept(name, role, Record(evidence=evidence))
    assert entry.events == [Recorded(evidence=evidence, role=role, party=party_of(name))]
    assert kit.balances() == before


def test_settling_holds_pay_back_and_refuses_the_rest() -> None:
    kit = kit_with_job()
    kit.commit("op-a", FIRST, SECOND)
    entry = kit.settle("job-1", {FIRST: True, SECOND: False})
    holdback = accounts.holdback("job-1", party_of("op-a"))
    release_ms = kit.clock() + SET.holdback_ms
    assert entry.events == [
        SlotSettled(slot=FIRST, paid=True, reason="test", release_ms=release_ms),
        Moved(
            debit=accounts.escrow("job-1"),
            credit=holdback,
            amount_micro=PRICE_MICRO,
            memo="earn",
            slot=FIRST,
        ),
        SlotSettled(slot=SECOND, paid=False, reason="test", release_ms=release_ms),
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


# -- releasing and closing -------------------------------------------------------------------


def test_held_pay_is_released_when_its_window_is_over_and_not_before() -> None:
    kit = kit_with_job()
    kit.earn("op-a", FIRST, SECOND)
    kit.clock.advance(SET.holdback_ms - 1)
    early = kit.send("network", "network", release("job-1", FIRST))
    assert reason_of(early) is Reason.NOT_RELEASABLE
    kit.clock.advance(1)
    entry = kit.accept("network", "network", release("job-1", FIRST, FIRST))
    party = party_of("op-a")
    assert entry.events == [
        Moved(
            debit=accounts.holdback("job-1", party),
            credit=accounts.available(party),
            amount_micro=PRICE_MICRO,
            memo="release",
            slot=FIRST,
        ),
        SlotReleased(slot=FIRST),
    ]
    assert slot_in(kit, FIRST).state is SlotState.RELEASED
    assert available(kit, "op-a") == 500 + PRICE_MICRO
    assert kit.balance(accounts.holdback("job-1", party)) == PRICE_MICRO
    again = kit.send("network", "network", release("job-1", FIRST))
    assert reason_of(again) is Reason.NOT_RELEASABLE


def test_a_segment_that_was_refused_its_pay_has_nothing_to_release() -> None:
    kit = kit_with_job()
    kit.commit("op-a", FIRST)
    kit.settle("job-1", {FIRST: False})
    kit.clock.advance(SET.holdback_ms)
    answer = kit.send("network", "network", release("job-1", FIRST))
    assert reason_of(answer) is Reason.NOT_RELEASABLE


def test_what_was_released_is_not_paid_again_when_the_job_closes() -> None:
    kit = kit_with_job()
    kit.earn("op-a", FIRST, SECOND)
    kit.clock.advance(SET.holdback_ms)
    kit.accept("network", "network", release("job-1", FIRST))
    entry = kit.accept("driver", "driver", CloseJob(job="job-1"))
    assert memos(entry) == ["release", "release stake", "refund"]
    assert available(kit, "op-a") == 500 + 2 * PRICE_MICRO
    assert available(kit, "submitter") == 10_000 - 2 * PRICE_MICRO


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
    assert [event for event in entry.events if not isinstance(event, Moved)] == [
        SlotReleased(slot=FIRST),
        SlotReleased(slot=SECOND),
        JobClosed(job="job-1", expired=False, evidence_until_ms=kit.clock() + SET.evidence_ms),
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
    assert isinstance(entry.events[-1], JobClosed)
    assert kit.journal.book.jobs["job-1"].state is JobState.CLOSED
    assert slot_in(kit, slot_of("job-1", "task-1", 1)).state is SlotState.DEAD
    assert kit.balance(accounts.escrow("job-1")) == 0
    assert free(kit, "op-a") == free(kit, "op-b") == 500
    assert available(kit, "op-a") == 500 + 2 * PRICE_MICRO
    assert available(kit, "submitter") == 10_000 - 2 * PRICE_MICRO
    assert invariants.check(kit.journal.book) == []


def test_a_job_that_was_never_worked_on_returns_its_whole_budget() -> None:
    kit = kit_with_job()
    kit.accept("submitter", "submitter", CloseJob(job="job-1"))
    assert available(kit, "submitter") == 10_000


def test_a_budget_that_is_spent_to_the_last_credit_is_not_refunded() -> None:
    kit = kit_with_parties()
    kit.open_job("job-1", "task-0", budget_micro=PRICE_MICRO)
    kit.earn("op-a", FIRST)
    entry = kit.accept("driver", "driver", CloseJob(job="job-1"))
    assert memos(entry) == ["release", "release stake"]


def test_a_job_that_is_not_closed_in_time_expires() -> None:
    kit = kit_with_job()
    kit.earn("op-a", FIRST)
    kit.clock.advance(SET.job_ms)
    last = kit.accept("op-a", "operator", request_slot(SECOND))
    assert last.events
    early = kit.send("network", "network", ExpireJob(job="job-1"))
    assert reason_of(early) is Reason.JOB_NOT_EXPIRED
    kit.clock.advance(1)
    late = kit.send("op-a", "operator", request_slot(THIRD))
    assert reason_of(late) is Reason.JOB_EXPIRED
    entry = kit.accept("network", "network", ExpireJob(job="job-1"))
    assert memos(entry) == ["release", "release stake", "refund"]
    assert entry.events[-1] == JobClosed(
        job="job-1", expired=True, evidence_until_ms=kit.clock() + SET.evidence_ms
    )
    assert kit.journal.book.jobs["job-1"].state is JobState.EXPIRED
    assert available(kit, "op-a") == 500 + PRICE_MICRO
    assert available(kit, "submitter") == 10_000 - PRICE_MICRO
    assert free(kit, "op-a") == 500


def test_a_job_that_has_outlived_its_time_can_still_be_closed() -> None:
    kit = kit_with_job()
    kit.commit("op-a", FIRST)
    kit.clock.advance(SET.job_ms + 1)
    kit.settle("job-1", {FIRST: True})
    kit.accept("driver", "driver", CloseJob(job="job-1"))
    assert kit.journal.book.jobs["job-1"].state is JobState.CLOSED
    assert available(kit, "op-a") == 500 + PRICE_MICRO


def test_the_end_of_a_job_releases_nothing_to_a_cheat() -> None:
    kit = kit_with_job()
    kit.earn("op-a", FIRST)
    kit.earn("op-b", slot_of("job-1", "task-1", 0))
    kit.slash("job-1", "op-a", FIRST, slot_of("job-1", "task-1", 0))
    entry = kit.accept("driver", "driver", CloseJob(job="job-1"))
    assert memos(entry) == ["release", "release stake", "refund"]
    assert available(kit, "op-a") == 500
    assert available(kit, "op-b") == 500 + PRICE_MICRO
    # The honest operator is paid. The submitter bears that until the slash is distributed.
    assert available(kit, "submitter") == 10_000 - PRICE_MICRO
    kit.clock.advance(SET.appeal_ms)
    entry = kit.accept("network", "network", DistributeSlash(operator=party_of("op-a")))
    assert memos(entry) == ["make good", "jackpot share", "burn"]
    # The price of each segment returned: one was forfeited, one was refunded from the slash.
    assert available(kit, "submitter") == 10_000
    assert invariants.check(kit.journal.book) == []


def test_held_pay_of_a_cheat_in_another_job_returns_to_its_submitter() -> None:
    kit = kit_with_job()
    elsewhere = slot_of("job-2", "task-0", 0)
    kit.open_job("job-2", "task-0")
    kit.earn("op-a", elsewhere)
    kit.commit("op-a", FIRST)
    kit.slash("job-1", "op-a", FIRST)
    kit.settle("job-1", {FIRST: False})
    entry = kit.accept("driver", "driver", CloseJob(job="job-2"))
    assert memos(entry) == ["forfeit", "release stake", "refund"]
    assert not slot_in(kit, elsewhere).paid
    assert kit.balance(accounts.holdback("job-2", party_of("op-a"))) == 0
    assert free(kit, "op-a") == 500 - RESERVE_MICRO
    kit.accept("driver", "driver", CloseJob(job="job-1"))
    assert available(kit, "submitter") == 10_000
    assert invariants.check(kit.journal.book) == []


# -- invariants ------------------------------------------------------------------------------


def with_everything() -> CouncilKit:
    """New books with material for each check."""
    kit = copy.copy(shared_kit())
    kit.journal = Journal()
    for entry in kit.entries:
        kit.journal.apply(entry)
    assert invariants.check(kit.journal.book) == []
    return kit


def take(kit: Kit, account: str, amount_micro: int = 1) -> None:
    kit.journal.book.balances.move(debit=account, credit=accounts.BURN, amount_micro=amount_micro)


BROKEN: dict[str, tuple[str, Callable[[Kit], None]]] = {
    "promises": (
        "job-1 promises 5, its slots",
        lambda kit: setattr(kit.journal.book.jobs["job-1"], "promised_micro", 5),
    ),
    "escrow": (
        "job-1 promises 40 and has 39",
        lambda kit: take(kit, accounts.escrow("job-1"), kit.balance(accounts.escrow("job-1")) - 39),
    ),
    "closed": (
        "job-small is closed and still holds 10 and promises 10",
        lambda kit: setattr(kit.journal.book.jobs["job-small"], "state", JobState.CLOSED),
    ),
    "escrow of a closed job": (
        "job-done is closed and still holds 1 and promises 0",
        lambda kit: kit.journal.book.balances.move(
            debit=accounts.EXTERNAL, credit=accounts.escrow("job-done"), amount_micro=1
        ),
    ),
    "holdback": (
        "job-1 holds back for {op-b} another amount than its slots say",
        lambda kit: take(kit, accounts.holdback("job-1", party_of("op-b"))),
    ),
    "forfeited": (
        "job-1 holds back for {op-b} another amount than its slots say",
        lambda kit: setattr(slot_in(kit, PAID), "paid", False),
    ),
    "reserved": (
        "job-1 has 99 of {op-a}'s stake reserved, not 100",
        lambda kit: take(kit, accounts.reserved_stake(party_of("op-a"), "job-1")),
    ),
    "reserved for a closed job": (
        "job-done has 1 of {op-b}'s stake reserved, not 100",
        lambda kit: kit.journal.book.balances.move(
            debit=accounts.free_stake(party_of("op-b")),
            credit=accounts.reserved_stake(party_of("op-b"), "job-done"),
            amount_micro=1,
        ),
    ),
    "unbonding": (
        "{op-b} unbonds another amount than its entries say",
        lambda kit: take(kit, accounts.unbonding_stake(party_of("op-b"))),
    ),
    "slashed": (
        "the slash of {op-cheat} holds 99",
        lambda kit: take(kit, accounts.slashed("job-1", party_of("op-cheat"))),
    ),
    "slashed, and given out": (
        "the slash of {op-cheat} holds 100",
        lambda kit: setattr(
            kit.journal.book.slashes[party_of("op-cheat")], "state", SlashState.DISTRIBUTED
        ),
    ),
    "backing": (
        "{op-cheat} was slashed beyond what backed job-1",
        lambda kit: kit.journal.book.jobs["job-1"].backing_micro.update({party_of("op-cheat"): 99}),
    ),
    "a bond": (
        "the challenge d-open holds a bond of 6",
        lambda kit: take(kit, accounts.challenge_bond("d-open")),
    ),
    "an ended challenge's bond": (
        "the challenge d-ended holds a bond of 1",
        lambda kit: kit.journal.book.balances.move(
            debit=accounts.EXTERNAL, credit=accounts.challenge_bond("d-ended"), amount_micro=1
        ),
    ),
}


@pytest.mark.parametrize(("line", "breaks"), BROKEN.values(), ids=BROKEN)
def test_broken_books_are_noticed(line: str, breaks: Callable[[Kit], None]) -> None:
    kit = with_everything()
    breaks(kit)
    for name in ("op-a", "op-b", "op-cheat"):
        line = line.replace(f"{{{name}}}", party_of(name))
    assert any(found.startswith(line) for found in invariants.check(kit.journal.book))


def test_created_credits_are_noticed() -> None:
    kit = kit_with_parties()
    amounts = kit.journal.book.balances._micro  # pyright: ignore[reportPrivateUsage]
    amounts[accounts.BURN] = 5
    assert invariants.check(kit.journal.book) == ["the balances sum to 5, not to zero"]
    amounts[accounts.TREASURY] = -5
    assert invariants.check(kit.journal.book) == [f"{accounts.TREASURY} is below zero: -5"]


def test_an_account_is_never_overdrawn_and_nothing_moves_backwards() -> None:
    kit = kit_with_parties()
    before = kit.balances()
    for debit, amount_micro in ((accounts.TREASURY, 1), (OP_A, 501), (OP_A, -1)):
        with pytest.raises(accounts.Overdrawn):
            kit.journal.book.balances.move(debit=debit, credit=OP_B, amount_micro=amount_micro)
    assert kit.balances() == before
