"""Proven fraud: amounts of a slash, its distribution, and its reversal."""

from collections.abc import Callable
from typing import Any

import pytest

from gensyn_ray.domain import canonical, signing
from gensyn_ray.domain.leaf import Leaf
from gensyn_ray.domain.signing import Envelope
from ledger.core import accounts, invariants
from ledger.core.book_state import SlashState, SlotState, Standing
from ledger.core.commands import (
    Bond,
    CloseJob,
    Commit,
    DistributeSlash,
    ExpireJob,
    Jail,
    Mature,
    ReportEquivocation,
    ReverseSlash,
    SetParameters,
    Unbond,
    Withdraw,
)
from ledger.core.events import (
    Moved,
    SlashDistributed,
    SlashReversed,
    Tombstoned,
    UnbondingCut,
)
from ledger.core.journal import Entry
from ledger.core.refusals import Reason, Rejected
from tests.kits.book_kit import (
    FIRST,
    SECOND,
    THIRD,
    available,
    free,
    held,
    memos,
    moves,
    reason_of,
    release,
    reserved,
    signed_answer,
    slash,
    slash_of,
    slot_in,
    standing,
    two_answers,
    unbonding,
)
from tests.kits.ledger_kit import (
    PRICE_MICRO,
    RESERVE_MICRO,
    Answer,
    Kit,
    commit,
    key_of,
    kit_with_job,
    kit_with_parties,
    leaf_of,
    parameters,
    party_of,
    request_slot,
    slot_of,
    start_task,
)

SET = parameters()
OP_A = party_of("op-a")
HONEST = [slot_of("job-1", "task-1", number) for number in range(12)]


def close(kit: Kit, job: str = "job-1") -> Entry:
    return kit.accept("driver", "driver", CloseJob(job=job))


def distribute(kit: Kit, name: str = "op-a") -> Entry:
    return kit.accept("network", "network", DistributeSlash(operator=party_of(name)))


def reverse(kit: Kit, name: str = "op-a") -> Entry:
    command = ReverseSlash(operator=party_of(name), reason="wrong")
    return kit.accept("treasury", "treasury", command)


def closed_kit(*, work: int = 1) -> Kit:
    """op-a was paid for `work` segments of `job-1`, which is closed."""
    kit = kit_with_job()
    kit.earn("op-a", *(slot_of("job-1", "task-0", number) for number in range(work)))
    close(kit)
    return kit


# -- taking stake while the job is open ------------------------------------------------------


def test_a_slash_takes_the_stake_the_held_pay_and_the_future() -> None:
    kit = kit_with_job()
    kit.earn("op-a", FIRST, SECOND)
    kit.issue("op-a", THIRD)
    escrow = kit.balance(accounts.escrow("job-1"))
    entry = kit.slash("job-1", "op-a", FIRST)
    assert entry.events[-1] == Tombstoned(
        operator=OP_A,
        job="job-1",
        evidence=FIRST,
        slashed_micro=RESERVE_MICRO,
        spoilt=[],
        reporter="",
        appeal_until_ms=kit.clock() + SET.appeal_ms,
    )
    assert moves(entry) == [
        (
            accounts.reserved_stake(OP_A, "job-1"),
            accounts.slashed("job-1", OP_A),
            RESERVE_MICRO,
            "slash",
        ),
        (accounts.holdback("job-1", OP_A), accounts.escrow("job-1"), PRICE_MICRO, "forfeit"),
        (accounts.holdback("job-1", OP_A), accounts.escrow("job-1"), PRICE_MICRO, "forfeit"),
    ]
    slots = [event.slot for event in entry.events if isinstance(event, Moved)]
    assert slots == [FIRST, FIRST, SECOND]
    assert held(kit, "job-1", "op-a") == RESERVE_MICRO
    assert kit.balance(accounts.holdback("job-1", OP_A)) == 0
    assert kit.balance(accounts.escrow("job-1")) == escrow + 2 * PRICE_MICRO
    assert standing(kit, "op-a") is Standing.TOMBSTONED
    assert kit.journal.book.parties[OP_A].slashed_micro == RESERVE_MICRO
    assert slash_of(kit, "op-a").state is SlashState.HELD
    assert slot_in(kit, THIRD).state is SlotState.DEAD
    late = kit.send("op-a", "operator", commit(leaf_of(THIRD, "op-a")))
    assert reason_of(late) is Reason.OPERATOR_TOMBSTONED
    assert invariants.check(kit.journal.book) == []


def test_a_slash_reaches_the_slots_of_every_job() -> None:
    kit = kit_with_job()
    elsewhere = slot_of("job-2", "task-0", 0)
    kit.open_job("job-2", "task-0")
    kit.issue("op-a", elsewhere)
    kit.commit("op-a", FIRST)
    kit.slash("job-1", "op-a", FIRST)
    assert slot_in(kit, elsewhere).state is SlotState.DEAD
    assert reserved(kit, "op-a", "job-2") == RESERVE_MICRO


def test_free_stake_and_earlier_earnings_outlive_a_slash() -> None:
    kit = kit_with_job()
    kit.commit("op-a", FIRST)
    kit.slash("job-1", "op-a", FIRST)
    assert free(kit, "op-a") == 500 - RESERVE_MICRO
    assert available(kit, "op-a") == 500


def test_the_rest_after_a_slash_can_be_withdrawn() -> None:
    kit = kit_with_job()
    kit.commit("op-a", FIRST)
    kit.slash("job-1", "op-a", FIRST)
    kit.accept("op-a", "operator", Unbond(amount_micro=400))
    kit.clock.advance(SET.unbonding_ms)
    kit.accept("op-a", "operator", Mature(party=OP_A))
    kit.accept("op-a", "operator", Withdraw(amount_micro=900))
    assert (available(kit, "op-a"), free(kit, "op-a")) == (0, 0)


def test_what_was_released_before_a_slash_is_not_forfeited() -> None:
    kit = kit_with_job()
    kit.earn("op-a", FIRST)
    kit.clock.advance(SET.holdback_ms)
    kit.accept("network", "network", release("job-1", FIRST))
    kit.earn("op-a", SECOND)
    assert memos(kit.slash("job-1", "op-a", FIRST)) == ["slash", "forfeit"]
    assert available(kit, "op-a") == 500 + PRICE_MICRO
    assert slot_in(kit, FIRST).paid
    assert not slot_in(kit, SECOND).paid


def test_stake_that_backs_another_job_is_not_taken() -> None:
    kit = kit_with_job()
    kit.open_job("job-2", "task-0")
    kit.issue("op-a", slot_of("job-2", "task-0", 0))
    kit.commit("op-a", FIRST)
    kit.accept("op-a", "operator", Unbond(amount_micro=300))
    entry = kit.slash("job-1", "op-a", FIRST)
    assert memos(entry) == ["slash"]
    assert reserved(kit, "op-a", "job-2") == RESERVE_MICRO
    assert unbonding(kit, "op-a") == 300


def test_jail_does_not_protect_from_a_slash() -> None:
    kit = kit_with_job()
    kit.commit("op-a", FIRST)
    jail = Jail(operator=OP_A, until_ms=kit.clock() + 5_000, reason="slow")
    kit.accept("network", "network", jail)
    kit.slash("job-1", "op-a", FIRST)
    assert standing(kit, "op-a") is Standing.TOMBSTONED


# -- taking stake once the job is closed -----------------------------------------------------


def test_fraud_in_a_closed_job_costs_free_stake() -> None:
    kit = closed_kit()
    entry = kit.slash("job-1", "op-a", FIRST)
    assert moves(entry) == [
        (accounts.free_stake(OP_A), accounts.slashed("job-1", OP_A), RESERVE_MICRO, "slash")
    ]
    assert free(kit, "op-a") == 500 - RESERVE_MICRO
    assert invariants.check(kit.journal.book) == []


def test_where_free_stake_is_not_enough_the_youngest_unbonding_is_cut() -> None:
    kit = closed_kit()
    for amount_micro in (400, 30, 40):
        kit.accept("op-a", "operator", Unbond(amount_micro=amount_micro))
        kit.clock.advance(1_000)
    entry = kit.slash("job-1", "op-a", FIRST)
    assert moves(entry) == [
        (accounts.free_stake(OP_A), accounts.slashed("job-1", OP_A), 30, "slash"),
        (accounts.unbonding_stake(OP_A), accounts.slashed("job-1", OP_A), 70, "slash"),
    ]
    assert entry.events[2] == UnbondingCut(party=OP_A, amount_micro=70)
    (oldest,) = kit.journal.book.parties[OP_A].unbonding
    assert oldest.amount_micro == 400
    assert (free(kit, "op-a"), unbonding(kit, "op-a")) == (0, 400)
    assert invariants.check(kit.journal.book) == []


def test_a_cut_can_leave_a_part_of_an_unbonding() -> None:
    kit = closed_kit()
    kit.accept("op-a", "operator", Unbond(amount_micro=500))
    entry = kit.slash("job-1", "op-a", FIRST)
    assert memos(entry) == ["slash"]
    (left,) = kit.journal.book.parties[OP_A].unbonding
    assert left.amount_micro == 400
    kit.clock.advance(SET.unbonding_ms)
    kit.accept("op-a", "operator", Mature(party=OP_A))
    assert available(kit, "op-a") == 900 + PRICE_MICRO


def test_a_cheat_without_stake_is_tombstoned() -> None:
    kit = closed_kit()
    kit.accept("op-a", "operator", Unbond(amount_micro=500))
    kit.clock.advance(SET.unbonding_ms)
    kit.accept("op-a", "operator", Mature(party=OP_A))
    entry = kit.slash("job-1", "op-a", FIRST)
    assert moves(entry) == []
    assert standing(kit, "op-a") is Standing.TOMBSTONED
    kit.clock.advance(SET.appeal_ms)
    distributed = distribute(kit)
    assert distributed.events == [SlashDistributed(operator=OP_A, refunded=[])]
    assert invariants.check(kit.journal.book) == []


def test_stake_that_backs_another_job_is_not_slashed_for_a_closed_one() -> None:
    kit = closed_kit()
    jobs = [f"job-{number}" for number in range(2, 7)]
    for job in jobs:
        kit.open_job(job, "task-0")
        kit.issue("op-a", slot_of(job, "task-0", 0))
    assert moves(kit.slash("job-1", "op-a", FIRST)) == []
    assert [reserved(kit, "op-a", job) for job in jobs] == [RESERVE_MICRO] * 5


@pytest.mark.parametrize("expired", [False, True])
def test_fraud_can_be_punished_as_long_as_evidence_is_valid_and_no_longer(expired: bool) -> None:
    kit = kit_with_job()
    kit.earn("op-a", FIRST)
    kit.earn("op-b", *HONEST[:1])
    if expired:
        kit.clock.advance(SET.job_ms + 1)
        kit.accept("network", "network", ExpireJob(job="job-1"))
    else:
        close(kit)
    kit.clock.advance(SET.evidence_ms)
    kit.slash("job-1", "op-a", FIRST)
    kit.clock.advance(1)
    late = kit.send("network", "network", slash("job-1", "op-b", HONEST[0]))
    assert reason_of(late) is Reason.EVIDENCE_TOO_OLD


def test_a_slash_does_not_exceed_the_stake_that_backed_the_job() -> None:
    kit = closed_kit()
    raised = SetParameters(parameters=parameters(reserve_micro=400))
    kit.accept("treasury", "treasury", raised)
    kit.slash("job-1", "op-a", FIRST)
    assert held(kit, "job-1", "op-a") == RESERVE_MICRO


# -- distribution ----------------------------------------------------------------------------


def test_a_slash_is_held_until_the_appeal_is_over_and_the_job_is_closed() -> None:
    kit = kit_with_job()
    kit.commit("op-a", FIRST)
    kit.slash("job-1", "op-a", FIRST)
    kit.settle("job-1", {FIRST: False})
    command = DistributeSlash(operator=OP_A)
    kit.clock.advance(SET.appeal_ms - 1)
    for _ in range(2):
        early = kit.send("network", "network", command)
        assert reason_of(early) is Reason.APPEAL_OPEN
        if not kit.journal.book.jobs["job-1"].closed:
            close(kit)
    kit.clock.advance(1)
    entry = distribute(kit)
    assert entry.events[-1] == SlashDistributed(operator=OP_A, refunded=[])
    assert held(kit, "job-1", "op-a") == 0
    assert slash_of(kit, "op-a").state is SlashState.DISTRIBUTED
    assert standing(kit, "op-a") is Standing.TOMBSTONED
    again = kit.send("network", "network", command)
    assert reason_of(again) is Reason.NO_SLASH_HELD


def test_the_slash_refunds_the_price_of_spoilt_honest_segments() -> None:
    kit = kit_with_job()
    spoilt = HONEST[:3]
    kit.commit("op-a", FIRST)
    kit.earn("op-b", *spoilt)
    kit.slash("job-1", "op-a", FIRST, *spoilt, spoilt[0])
    kit.settle("job-1", {FIRST: False})
    close(kit)
    kit.clock.advance(SET.appeal_ms)
    entry = distribute(kit)
    source, submitter = accounts.slashed("job-1", OP_A), accounts.available(party_of("submitter"))
    assert moves(entry)[:-2] == [(source, submitter, PRICE_MICRO, "make good")] * 3
    assert moves(entry)[-2:] == [
        (source, accounts.JACKPOT, 28, "jackpot share"),
        (source, accounts.BURN, 42, "burn"),
    ]
    assert entry.events[-1] == SlashDistributed(operator=OP_A, refunded=spoilt)
    assert all(slot_in(kit, slot).refunded for slot in spoilt)
    assert available(kit, "op-b") == 500 + 3 * PRICE_MICRO
    assert available(kit, "submitter") == 10_000
    assert invariants.check(kit.journal.book) == []


def test_the_slash_refunds_released_pay_of_the_cheat() -> None:
    kit = closed_kit(work=2)
    kit.slash("job-1", "op-a", SECOND)
    kit.clock.advance(SET.appeal_ms)
    assert distribute(kit).events[-1] == SlashDistributed(operator=OP_A, refunded=[FIRST, SECOND])
    assert available(kit, "submitter") == 10_000
    assert available(kit, "op-a") == 500 + 2 * PRICE_MICRO


def test_refunds_do_not_exceed_the_slash() -> None:
    kit = kit_with_job()
    kit.commit("op-a", FIRST)
    kit.earn("op-b", *HONEST)
    kit.slash("job-1", "op-a", FIRST, *HONEST)
    kit.settle("job-1", {FIRST: False})
    close(kit)
    kit.clock.advance(SET.appeal_ms)
    assert memos(distribute(kit)) == ["make good"] * (RESERVE_MICRO // PRICE_MICRO)
    assert held(kit, "job-1", "op-a") == kit.balance(accounts.BURN) == 0
    assert sum(slot_in(kit, slot).refunded for slot in HONEST) == RESERVE_MICRO // PRICE_MICRO


def test_a_price_is_refunded_in_full_or_not_at_all() -> None:
    kit = kit_with_parties()
    kit.open_job("job-1", "task-0", "task-1", price_micro=60)
    kit.commit("op-a", FIRST)
    kit.earn("op-b", *HONEST[:2])
    kit.slash("job-1", "op-a", FIRST, *HONEST[:2])
    kit.settle("job-1", {FIRST: False})
    close(kit)
    kit.clock.advance(SET.appeal_ms)
    entry = distribute(kit)
    assert [(memo, amount) for _, _, amount, memo in moves(entry)] == [
        ("make good", 60),
        ("jackpot share", 16),
        ("burn", 24),
    ]
    assert slot_in(kit, HONEST[0]).refunded
    assert not slot_in(kit, HONEST[1]).refunded


def test_unpaid_segments_are_not_refunded() -> None:
    kit = kit_with_job()
    kit.commit("op-a", FIRST)
    kit.commit("op-b", *HONEST[:2])
    kit.issue("op-b", HONEST[2])
    kit.settle("job-1", {HONEST[0]: False, HONEST[1]: True})
    kit.slash("job-1", "op-a", FIRST, *HONEST[:3])
    kit.settle("job-1", {FIRST: False})
    close(kit)
    kit.clock.advance(SET.appeal_ms)
    assert distribute(kit).events[-1] == SlashDistributed(operator=OP_A, refunded=[HONEST[1]])
    assert available(kit, "submitter") == 10_000


def test_a_segment_spoilt_by_two_cheats_is_refunded_once() -> None:
    kit = kit_with_job()
    kit.join("op-c", "operator", deposit_micro=500, bond_micro=500)
    kit.accept("driver", "driver", start_task("job-1", "task-2"))
    other = slot_of("job-1", "task-2", 0)
    kit.commit("op-a", FIRST)
    kit.commit("op-c", other)
    kit.earn("op-b", HONEST[0])
    kit.slash("job-1", "op-a", FIRST, HONEST[0])
    kit.slash("job-1", "op-c", other, HONEST[0])
    kit.settle("job-1", {FIRST: False, other: False})
    close(kit)
    kit.clock.advance(SET.appeal_ms)
    first, second = distribute(kit, "op-c"), distribute(kit, "op-a")
    assert memos(first) == ["make good", "jackpot share", "burn"]
    assert memos(second) == ["jackpot share", "burn"]
    assert second.events[-1] == SlashDistributed(operator=OP_A, refunded=[])
    assert available(kit, "submitter") == 10_000


def test_a_spoilt_segment_of_a_later_cheat_is_not_refunded() -> None:
    kit = kit_with_job()
    kit.commit("op-a", FIRST)
    kit.earn("op-b", *HONEST[:2])
    kit.slash("job-1", "op-a", FIRST, HONEST[0])
    kit.slash("job-1", "op-b", HONEST[1])
    kit.settle("job-1", {FIRST: False})
    close(kit)
    kit.clock.advance(SET.appeal_ms)
    for name in ("op-a", "op-b"):
        assert memos(distribute(kit, name)) == ["jackpot share", "burn"]
    # The slash of op-b returned both prices from the holdback.
    assert available(kit, "submitter") == 10_000


def test_one_of_two_slashes_refunds_a_spoilt_segment_of_a_paid_cheat() -> None:
    kit = kit_with_job()
    kit.earn("op-a", FIRST)
    kit.earn("op-b", HONEST[0])
    close(kit)
    kit.slash("job-1", "op-a", FIRST, HONEST[0])
    kit.slash("job-1", "op-b", HONEST[0])
    kit.clock.advance(SET.appeal_ms)
    assert memos(distribute(kit, "op-b")) == ["make good", "jackpot share", "burn"]
    assert distribute(kit).events[-1] == SlashDistributed(operator=OP_A, refunded=[FIRST])
    assert available(kit, "submitter") == 10_000


@pytest.mark.parametrize(
    ("reporter_ppm", "jackpot_ppm", "shares"),
    [
        (100_000, 400_000, [("reporter share", 10), ("jackpot share", 40), ("burn", 51)]),
        (333_333, 333_333, [("reporter share", 33), ("jackpot share", 33), ("burn", 35)]),
        (500_000, 500_000, [("reporter share", 50), ("jackpot share", 50), ("burn", 1)]),
        (1_000_000, 0, [("reporter share", 101)]),
        (0, 1_000_000, [("jackpot share", 101)]),
        (0, 0, [("burn", 101)]),
        (9_900, 9_900, [("burn", 101)]),
        (9_901, 9_900, [("reporter share", 1), ("burn", 100)]),
    ],
)
def test_shares_are_rounded_down_and_what_remains_is_burnt(
    reporter_ppm: int, jackpot_ppm: int, shares: list[tuple[str, int]]
) -> None:
    kit = kit_with_parties()
    changed = parameters(reserve_micro=101, reporter_ppm=reporter_ppm, jackpot_ppm=jackpot_ppm)
    kit.accept("treasury", "treasury", SetParameters(parameters=changed))
    kit.open_job("job-1", "task-0")
    kit.commit("op-a", FIRST)
    kit.accept("network", "network", slash("job-1", "op-a", FIRST, reporter="verifier"))
    kit.settle("job-1", {FIRST: False})
    close(kit)
    kit.clock.advance(SET.appeal_ms)
    entry = distribute(kit)
    assert [(memo, amount) for _, _, amount, memo in moves(entry)] == shares
    assert available(kit, "verifier") == dict(shares).get("reporter share", 0)
    assert kit.balance(accounts.JACKPOT) == dict(shares).get("jackpot share", 0)
    assert kit.balance(accounts.BURN) == dict(shares).get("burn", 0)
    assert held(kit, "job-1", "op-a") == 0


def test_without_a_reporter_its_share_is_burnt() -> None:
    kit = closed_kit()
    kit.slash("job-1", "op-a", FIRST)
    kit.clock.advance(SET.appeal_ms)
    # The refund of the cheat's own pay leaves 90.
    assert [amount for _, _, amount, _ in moves(distribute(kit))] == [10, 36, 54]


def test_the_settings_at_the_distribution_count() -> None:
    kit = closed_kit()
    kit.slash("job-1", "op-a", FIRST)
    changed = parameters(appeal_ms=60_000, jackpot_ppm=0)
    kit.accept("treasury", "treasury", SetParameters(parameters=changed))
    kit.clock.advance(SET.appeal_ms)
    assert memos(distribute(kit)) == ["make good", "burn"]


# -- reversal --------------------------------------------------------------------------------


def test_a_slash_that_was_wrong_is_reversed_while_the_job_is_open() -> None:
    kit = kit_with_job()
    kit.earn("op-a", FIRST)
    kit.slash("job-1", "op-a", FIRST)
    entry = reverse(kit)
    assert entry.events == [
        SlashReversed(operator=OP_A, reason="wrong"),
        Moved(
            debit=accounts.slashed("job-1", OP_A),
            credit=accounts.reserved_stake(OP_A, "job-1"),
            amount_micro=RESERVE_MICRO,
            memo="slash reversed",
        ),
    ]
    assert standing(kit, "op-a") is Standing.ACTIVE
    assert kit.journal.book.parties[OP_A].slashed_micro == 0
    kit.issue("op-a", SECOND)
    assert invariants.check(kit.journal.book) == []
    close(kit)
    assert free(kit, "op-a") == 500


def test_a_slash_that_was_wrong_is_reversed_after_the_job_was_closed() -> None:
    kit = kit_with_job()
    kit.commit("op-a", FIRST)
    kit.slash("job-1", "op-a", FIRST)
    kit.settle("job-1", {FIRST: False})
    close(kit)
    kit.clock.advance(10 * SET.appeal_ms)
    reverse(kit)
    assert free(kit, "op-a") == 500
    assert slash_of(kit, "op-a").state is SlashState.REVERSED
    assert invariants.check(kit.journal.book) == []


def test_what_was_cut_from_unbonding_returns_as_free_stake() -> None:
    kit = closed_kit()
    kit.accept("op-a", "operator", Unbond(amount_micro=500))
    kit.slash("job-1", "op-a", FIRST)
    reverse(kit)
    assert (free(kit, "op-a"), unbonding(kit, "op-a")) == (RESERVE_MICRO, 400)
    assert invariants.check(kit.journal.book) == []


def test_a_reversal_of_nothing_moves_nothing() -> None:
    kit = closed_kit()
    kit.accept("op-a", "operator", Unbond(amount_micro=500))
    kit.clock.advance(SET.unbonding_ms)
    kit.accept("op-a", "operator", Mature(party=OP_A))
    kit.slash("job-1", "op-a", FIRST)
    assert reverse(kit).events == [SlashReversed(operator=OP_A, reason="wrong")]


def test_an_answer_that_waited_while_its_operator_was_slashed_can_be_paid_after_the_reversal() -> (
    None
):
    kit = kit_with_job()
    kit.commit("op-a", FIRST, SECOND)
    kit.slash("job-1", "op-a", FIRST)
    reverse(kit)
    kit.settle("job-1", {FIRST: True, SECOND: True})
    close(kit)
    assert available(kit, "op-a") == 500 + 2 * PRICE_MICRO


def test_pay_in_another_job_survives_a_slash_that_is_reversed_in_time() -> None:
    kit = kit_with_job()
    kit.open_job("job-2", "task-0")
    kit.earn("op-a", slot_of("job-2", "task-0", 0))
    kit.commit("op-a", FIRST)
    kit.slash("job-1", "op-a", FIRST)
    reverse(kit)
    assert memos(close(kit, "job-2")) == ["release", "release stake", "refund"]


def test_an_operator_can_be_slashed_again_after_a_reversal() -> None:
    kit = kit_with_job()
    kit.commit("op-a", FIRST, SECOND)
    kit.slash("job-1", "op-a", FIRST)
    reverse(kit)
    kit.slash("job-1", "op-a", SECOND)
    assert slash_of(kit, "op-a").state is SlashState.HELD
    assert slash_of(kit, "op-a").proven.evidence == SECOND
    assert held(kit, "job-1", "op-a") == RESERVE_MICRO
    assert kit.journal.book.parties[OP_A].slashed_micro == RESERVE_MICRO
    assert invariants.check(kit.journal.book) == []


# -- two answers to one slot -----------------------------------------------------------------


def report(kit: Kit, command: ReportEquivocation, name: str = "verifier") -> Answer:
    role = {"op-a": "operator", "op-b": "operator"}.get(name, name)
    return kit.send(name, role, command)


def both(first: dict[str, str], second: dict[str, str], slot: str = FIRST) -> ReportEquivocation:
    return ReportEquivocation(slot=slot, first=first, second=second)


@pytest.mark.parametrize(
    ("name", "reporter"),
    [("verifier", "verifier"), ("submitter", "submitter"), ("op-b", "op-b"), ("op-a", "")],
)
def test_two_answers_of_one_operator_to_one_slot_are_proof_in_themselves(
    name: str, reporter: str
) -> None:
    kit = kit_with_job()
    kit.earn("op-a", FIRST)
    answer = report(kit, two_answers(kit, "op-a", FIRST), name)
    assert isinstance(answer, Entry)
    assert answer.events[-1] == Tombstoned(
        operator=OP_A,
        job="job-1",
        evidence=FIRST,
        slashed_micro=RESERVE_MICRO,
        spoilt=[],
        reporter=party_of(reporter) if reporter else "",
        appeal_until_ms=kit.clock() + SET.appeal_ms,
    )
    assert memos(answer) == ["slash", "forfeit"]
    assert invariants.check(kit.journal.book) == []


def test_the_answer_that_was_sent_and_another_are_two() -> None:
    kit = kit_with_job()
    kit.commit("op-a", FIRST)
    sent = kit.envelopes[-1].to_json()
    other = signed_answer(kit, "op-a", FIRST, metrics={"loss": 0.25})
    assert isinstance(report(kit, both(sent, other)), Entry)


def test_two_answers_among_others_in_larger_commitments_are_two() -> None:
    kit = kit_with_job()
    kit.commit("op-a", FIRST, SECOND)
    batches = (
        commit(leaf_of(SECOND, "op-a"), leaf_of(FIRST, "op-a", state_after=state))
        for state in ("a", "b")
    )
    first, second = (kit.sign("op-a", "operator", batch).to_json() for batch in batches)
    assert isinstance(report(kit, both(first, second)), Entry)


def test_expired_answers_are_proof() -> None:
    kit = kit_with_job()
    kit.commit("op-a", FIRST)
    command = two_answers(kit, "op-a", FIRST)
    kit.clock.advance(500_000)
    assert isinstance(report(kit, command), Entry)


def test_two_answers_to_a_slot_of_a_closed_job_are_proof_within_the_time_of_evidence() -> None:
    kit = closed_kit()
    kit.clock.advance(SET.evidence_ms)
    assert isinstance(report(kit, two_answers(kit, "op-a", FIRST)), Entry)


def test_the_reporter_of_two_answers_has_a_share() -> None:
    kit = kit_with_job()
    kit.commit("op-a", FIRST)
    report(kit, two_answers(kit, "op-a", FIRST))
    kit.settle("job-1", {FIRST: False})
    close(kit)
    kit.clock.advance(SET.appeal_ms)
    assert memos(distribute(kit)) == ["reporter share", "jackpot share", "burn"]
    assert available(kit, "verifier") == 10


Evidence = Callable[[Kit], ReportEquivocation]


def leaves(kit: Kit, *answers: Leaf, name: str = "op-a") -> dict[str, str]:
    """A signed commitment with these leaves and no valid root."""
    return kit.sign(name, "operator", Commit(root="", leaves=list(answers))).to_json()


def raw_leaves(kit: Kit, *answers: Any) -> dict[str, str]:
    """A signed commitment of values that may be no leaves."""
    body = canonical.decode(kit.sign("op-a", "operator", Commit(root="", leaves=[])).body)
    data = canonical.encode({**body, "arguments": {"root": "", "leaves": list(answers)}})
    return Envelope(body=data, signature=key_of("op-a").sign(signing.COMMAND, data)).to_json()


def with_body_of(kit: Kit, value: dict[str, str]) -> dict[str, str]:
    """An answer with the signature of another."""
    return {**signed_answer(kit, "op-a", FIRST, state_after="a"), "signature": value["signature"]}


NOT_PROOF: dict[Reason, dict[str, Evidence]] = {
    Reason.NOT_EQUIVOCATION: {
        "one answer, signed twice": lambda kit: both(
            signed_answer(kit, "op-a", FIRST), signed_answer(kit, "op-a", FIRST)
        ),
        "one envelope twice": lambda kit: both(*[signed_answer(kit, "op-a", FIRST)] * 2),
        "one answer, batched anew": lambda kit: both(
            signed_answer(kit, "op-a", FIRST),
            leaves(kit, leaf_of(FIRST, "op-a"), leaf_of(SECOND, "op-a")),
        ),
        "of two operators": lambda kit: both(
            signed_answer(kit, "op-a", FIRST, state_after="a"),
            signed_answer(kit, "op-b", FIRST, state_after="b"),
        ),
        "to two slots": lambda kit: both(
            signed_answer(kit, "op-a", FIRST, state_after="a"),
            signed_answer(kit, "op-a", SECOND, state_after="b"),
        ),
        "to two attempts": lambda kit: both(
            signed_answer(kit, "op-a", FIRST, state_after="a"),
            signed_answer(kit, "op-a", slot_of("job-1", "task-0", 0, 1), state_after="b"),
        ),
        "to another slot": lambda kit: both(
            *(signed_answer(kit, "op-a", SECOND, state_after=state) for state in ("a", "b"))
        ),
        "to no slot": lambda kit: both(
            signed_answer(kit, "op-a", FIRST), signed_answer(kit, "op-a", SECOND), slot=""
        ),
        "not commitments": lambda kit: both(
            *(
                kit.sign("op-a", "operator", Bond(amount_micro=amount)).to_json()
                for amount in (1, 2)
            )
        ),
        "one not a commitment": lambda kit: both(
            signed_answer(kit, "op-a", FIRST),
            kit.sign("op-a", "operator", request_slot(FIRST)).to_json(),
        ),
        "without leaves": lambda kit: both(leaves(kit), signed_answer(kit, "op-a", FIRST)),
    },
    Reason.MALFORMED: {
        "nothing": lambda kit: both({}, {}),
        "no second": lambda kit: both(signed_answer(kit, "op-a", FIRST), {}),
        "leaves that are none": lambda kit: both(
            raw_leaves(kit, {}, {"job": "job-1", "segment": "0"}),
            signed_answer(kit, "op-a", FIRST),
        ),
        "more than an envelope": lambda kit: both(
            {**signed_answer(kit, "op-a", FIRST), "more": ""}, {}
        ),
        "not base64": lambda kit: both({**signed_answer(kit, "op-a", FIRST), "signature": "?"}, {}),
        "no command": lambda kit: both(
            Envelope(body=b"5", signature=b"").to_json(), signed_answer(kit, "op-a", FIRST)
        ),
    },
    Reason.BAD_SIGNATURE: {
        "a signature of another body": lambda kit: both(
            signed_answer(kit, "op-a", FIRST),
            with_body_of(kit, signed_answer(kit, "op-a", FIRST, state_after="b")),
        ),
        "another's signature": lambda kit: both(
            signed_answer(kit, "op-a", FIRST),
            with_body_of(kit, signed_answer(kit, "op-b", FIRST)),
        ),
    },
    Reason.WRONG_NETWORK: {
        f"{which}, {header}": evidence
        for header in ("genesis", "network")
        for which, evidence in {
            "one": lambda kit, header=header: both(
                signed_answer(kit, "op-a", FIRST), elsewhere(kit, **{header: "another"})
            ),
            "both": lambda kit, header=header: both(
                elsewhere(kit, **{header: "another"}, state_after="b"),
                elsewhere(kit, **{header: "another"}),
            ),
        }.items()
    },
}


def elsewhere(kit: Kit, state_after: str = "a", **header: str) -> dict[str, str]:
    """An answer in another network."""
    answer = commit(leaf_of(FIRST, "op-a", state_after=state_after))
    return kit.sign("op-a", "operator", answer, **header).to_json()


@pytest.mark.parametrize(
    ("reason", "evidence"),
    [
        pytest.param(reason, evidence, id=f"{reason.name}: {name}")
        for reason, all_of_it in NOT_PROOF.items()
        for name, evidence in all_of_it.items()
    ],
)
def test_incomplete_evidence_is_no_proof(reason: Reason, evidence: Evidence) -> None:
    kit = kit_with_job()
    kit.issue("op-b", HONEST[0])
    kit.commit("op-a", FIRST, SECOND)
    answer = report(kit, evidence(kit))
    assert isinstance(answer, Rejected)
    assert answer.reason is reason
    assert standing(kit, "op-a") is standing(kit, "op-b") is Standing.ACTIVE
