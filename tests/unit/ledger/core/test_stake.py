"""Parties and their stake: deposits, bonds, unbonding and jail."""

import pytest

from gensyn_ray.domain.money import MAX_MICRO
from ledger.core import accounts, invariants
from ledger.core.book_state import Standing, Unbonding
from ledger.core.commands import (
    Bond,
    CloseJob,
    Deposit,
    Jail,
    Join,
    Mature,
    SetParameters,
    Unbond,
    Unjail,
    Withdraw,
)
from ledger.core.events import (
    Jailed,
    Moved,
    PartyJoined,
    UnbondingMatured,
    UnbondingStarted,
    Unjailed,
)
from ledger.core.parameters import MAX_MS
from ledger.core.refusals import Reason
from tests.kits.book_kit import (
    FIRST,
    SECOND,
    available,
    free,
    moves,
    reason_of,
    reserved,
    standing,
    unbonding,
)
from tests.kits.ledger_kit import (
    RESERVE_MICRO,
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
)

SET = parameters()
OP_A = party_of("op-a")


def unbond(kit: Kit, amount_micro: int, name: str = "op-a") -> None:
    kit.accept(name, "operator", Unbond(amount_micro=amount_micro))


def jail(kit: Kit, for_ms: int, name: str = "op-a") -> None:
    command = Jail(operator=party_of(name), until_ms=kit.clock() + for_ms, reason="slow")
    kit.accept("network", "network", command)


# -- deposits, withdrawals -------------------------------------------------------------------


@pytest.mark.parametrize("role", ["operator", "verifier", "submitter"])
def test_joining_makes_a_key_a_party(role: str) -> None:
    kit = Kit()
    entry = kit.accept("someone", role, Join(name="node-1", numerics="class-a"))
    assert entry.events == [
        PartyJoined(
            party=party_of("someone"),
            role=role,
            key=key_of("someone").public.hex(),
            name="node-1",
            numerics="class-a",
        )
    ]
    assert standing(kit, "someone") is Standing.ACTIVE


def test_two_parties_may_have_one_name() -> None:
    kit = Kit()
    for name in ("op-a", "op-b"):
        kit.accept(name, "operator", Join(name="node"))
    assert len(kit.journal.book.parties) == 2


def test_a_deposit_is_debited_from_the_external_account() -> None:
    kit = kit_with_parties()
    outside = kit.balance(accounts.EXTERNAL)
    entry = kit.accept(
        "treasury", "treasury", Deposit(party=party_of("verifier"), amount_micro=MAX_MICRO)
    )
    assert moves(entry) == [
        (accounts.EXTERNAL, accounts.available(party_of("verifier")), MAX_MICRO, "deposit")
    ]
    assert kit.balance(accounts.EXTERNAL) == outside - MAX_MICRO


def test_a_withdrawal_is_credited_to_the_external_account() -> None:
    kit = kit_with_parties()
    outside = kit.balance(accounts.EXTERNAL)
    entry = kit.accept("submitter", "submitter", Withdraw(amount_micro=10_000))
    assert moves(entry) == [
        (accounts.available(party_of("submitter")), accounts.EXTERNAL, 10_000, "withdraw")
    ]
    assert available(kit, "submitter") == 0
    assert kit.balance(accounts.EXTERNAL) == outside + 10_000
    again = kit.send("submitter", "submitter", Withdraw(amount_micro=1))
    assert reason_of(again) is Reason.INSUFFICIENT_FUNDS


def test_stake_is_not_withdrawn() -> None:
    kit = kit_with_parties()
    answer = kit.send("op-a", "operator", Withdraw(amount_micro=501))
    assert reason_of(answer) is Reason.INSUFFICIENT_FUNDS
    kit.accept("op-a", "operator", Withdraw(amount_micro=500))
    assert (available(kit, "op-a"), free(kit, "op-a")) == (0, 500)


# -- stake -----------------------------------------------------------------------------------


def test_a_bond_makes_credits_stake() -> None:
    kit = kit_with_parties()
    kit.accept("op-a", "operator", Bond(amount_micro=500))
    assert available(kit, "op-a") == 0
    assert free(kit, "op-a") == 1_000


def test_verifiers_have_stake_too() -> None:
    kit = Kit()
    kit.join("verifier", "verifier", deposit_micro=100)
    kit.accept("verifier", "verifier", Bond(amount_micro=60))
    kit.accept("verifier", "verifier", Unbond(amount_micro=20))
    kit.clock.advance(SET.unbonding_ms)
    kit.accept("verifier", "verifier", Mature(party=party_of("verifier")))
    assert (available(kit, "verifier"), free(kit, "verifier")) == (60, 40)


def test_unbonding_takes_its_time() -> None:
    kit = kit_with_parties()
    entry = kit.accept("op-a", "operator", Unbond(amount_micro=200))
    mature_ms = kit.clock() + SET.unbonding_ms
    assert entry.events == [
        UnbondingStarted(party=OP_A, amount_micro=200, mature_ms=mature_ms),
        Moved(
            debit=accounts.free_stake(OP_A),
            credit=accounts.unbonding_stake(OP_A),
            amount_micro=200,
            memo="unbond",
        ),
    ]
    kit.clock.advance(SET.unbonding_ms - 1)
    early = kit.send("op-a", "operator", Mature(party=OP_A))
    assert reason_of(early) is Reason.NOTHING_MATURED
    kit.clock.advance(1)
    entry = kit.accept("op-a", "operator", Mature(party=OP_A))
    assert entry.events == [
        Moved(
            debit=accounts.unbonding_stake(OP_A),
            credit=accounts.available(OP_A),
            amount_micro=200,
            memo="mature",
        ),
        UnbondingMatured(party=OP_A, count=1),
    ]
    assert (free(kit, "op-a"), unbonding(kit, "op-a"), available(kit, "op-a")) == (300, 0, 700)
    assert kit.journal.book.parties[OP_A].unbonding == []
    again = kit.send("op-a", "operator", Mature(party=OP_A))
    assert reason_of(again) is Reason.NOTHING_MATURED


def test_ended_unbondings_mature_together_and_the_others_later() -> None:
    kit = kit_with_parties()
    for amount_micro in (10, 20, 40):
        unbond(kit, amount_micro)
        kit.clock.advance(1_000)
    last_ms = kit.clock() - 1_000 + SET.unbonding_ms
    kit.clock.advance(SET.unbonding_ms - 2_000)
    entry = kit.accept("network", "network", Mature(party=OP_A))
    assert entry.events[-1] == UnbondingMatured(party=OP_A, count=2)
    assert available(kit, "op-a") == 530
    left = kit.journal.book.parties[OP_A].unbonding
    assert left == [Unbonding(amount_micro=40, mature_ms=last_ms)]
    assert unbonding(kit, "op-a") == 40
    assert invariants.check(kit.journal.book) == []


def test_a_longer_unbonding_delays_a_younger_shorter_one() -> None:
    """Unbondings mature oldest first, so new settings do not let a younger one overtake."""
    kit = kit_with_parties()
    unbond(kit, 10)
    shorter = SetParameters(parameters=parameters(unbonding_ms=1_040_000))
    kit.accept("treasury", "treasury", shorter)
    unbond(kit, 20)
    kit.clock.advance(1_040_000)
    answer = kit.send("op-a", "operator", Mature(party=OP_A))
    assert reason_of(answer) is Reason.NOTHING_MATURED
    kit.clock.advance(SET.unbonding_ms - 1_040_000)
    kit.accept("op-a", "operator", Mature(party=OP_A))
    assert available(kit, "op-a") == 530


def test_stake_that_unbonds_or_backs_a_job_backs_no_other() -> None:
    kit = kit_with_job()
    unbond(kit, 401)
    answer = kit.send("op-a", "operator", request_slot(FIRST))
    assert reason_of(answer) is Reason.INSUFFICIENT_STAKE
    kit.issue("op-b", FIRST)
    answer = kit.send("op-b", "operator", Unbond(amount_micro=401))
    assert reason_of(answer) is Reason.INSUFFICIENT_STAKE
    kit.accept("op-b", "operator", Unbond(amount_micro=400))
    assert reserved(kit, "op-b", "job-1") == RESERVE_MICRO


def test_stake_can_unbond_once_its_job_is_closed() -> None:
    kit = kit_with_job()
    kit.earn("op-a", FIRST)
    kit.accept("driver", "driver", CloseJob(job="job-1"))
    unbond(kit, 500)
    assert free(kit, "op-a") == 0


def test_new_settings_change_what_the_next_job_reserves_and_not_the_last() -> None:
    kit = kit_with_job()
    kit.issue("op-a", FIRST)
    command = SetParameters(parameters=parameters(reserve_micro=150))
    kit.accept("treasury", "treasury", command)
    kit.issue("op-a", SECOND)
    assert reserved(kit, "op-a", "job-1") == RESERVE_MICRO
    kit.open_job("job-2", "task-0")
    kit.issue("op-a", slot_of("job-2", "task-0", 0))
    assert reserved(kit, "op-a", "job-2") == 150


def test_a_job_that_reserves_nothing_needs_no_stake() -> None:
    kit = kit_with_parties()
    command = SetParameters(parameters=parameters(reserve_micro=0))
    kit.accept("treasury", "treasury", command)
    kit.join("op-poor", "operator")
    kit.open_job("job-1", "task-0")
    kit.earn("op-poor", FIRST)
    kit.accept("driver", "driver", CloseJob(job="job-1"))
    assert invariants.check(kit.journal.book) == []


# -- jail ------------------------------------------------------------------------------------


def test_an_operator_in_jail_gets_no_slots_until_it_has_asked_to_come_back() -> None:
    kit = kit_with_job()
    kit.issue("op-a", FIRST)
    until_ms = kit.clock() + 5_000
    jailed = kit.accept("network", "network", Jail(operator=OP_A, until_ms=until_ms, reason="slow"))
    assert jailed.events == [Jailed(operator=OP_A, until_ms=until_ms, reason="slow")]
    assert standing(kit, "op-a") is Standing.JAILED
    answer = kit.send("op-a", "operator", request_slot(SECOND))
    assert reason_of(answer) is Reason.OPERATOR_JAILED
    kit.clock.advance(4_999)
    answer = kit.send("op-a", "operator", Unjail())
    assert reason_of(answer) is Reason.STILL_JAILED
    kit.clock.advance(1)
    answer = kit.send("op-a", "operator", request_slot(SECOND))
    assert reason_of(answer) is Reason.OPERATOR_JAILED
    freed = kit.accept("op-a", "operator", Unjail())
    assert freed.events == [Unjailed(operator=OP_A)]
    assert standing(kit, "op-a") is Standing.ACTIVE
    kit.issue("op-a", SECOND)


def test_an_operator_in_jail_can_finish_what_it_began_and_is_paid() -> None:
    kit = kit_with_job()
    kit.issue("op-a", FIRST)
    jail(kit, 5_000)
    kit.accept("op-a", "operator", commit(leaf_of(FIRST, "op-a")))
    kit.settle("job-1", {FIRST: True})
    kit.accept("driver", "driver", CloseJob(job="job-1"))
    assert available(kit, "op-a") == 510
    unbond(kit, 500)


def test_jail_can_be_made_longer() -> None:
    kit = kit_with_job()
    jail(kit, 5_000)
    jail(kit, 9_000)
    kit.clock.advance(5_000)
    answer = kit.send("op-a", "operator", Unjail())
    assert reason_of(answer) is Reason.STILL_JAILED
    kit.clock.advance(4_000)
    kit.accept("op-a", "operator", Unjail())


def test_jail_lasts_ten_years_at_most() -> None:
    kit = kit_with_job()
    jail(kit, MAX_MS)
    assert kit.journal.book.parties[OP_A].jailed_until_ms == kit.clock() + MAX_MS
