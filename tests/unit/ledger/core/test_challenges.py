"""Challenges: the bond, the effects of an open challenge, its end; and the jackpot."""

import pytest

from ledger.core import accounts, invariants
from ledger.core.book_state import ChallengeState
from ledger.core.commands import (
    CloseJob,
    DistributeSlash,
    ExpireChallenge,
    ExpireJob,
    PayJackpot,
    ResolveChallenge,
    SetParameters,
)
from ledger.core.events import ChallengeEnded, ChallengeOpened, Moved
from ledger.core.journal import Entry
from ledger.core.refusals import Reason
from tests.kits.book_kit import (
    FIRST,
    SECOND,
    available,
    challenge_in,
    memos,
    moves,
    open_challenge,
    reason_of,
    release,
    slot_in,
)
from tests.kits.ledger_kit import (
    BOND_MICRO,
    RESERVE_MICRO,
    Kit,
    kit_with_job,
    parameters,
    party_of,
    slot_of,
)

SET = parameters()


def challenged_kit() -> Kit:
    """op-a was paid for two segments; the submitter challenges the first of them as `d-1`."""
    kit = kit_with_job()
    kit.earn("op-a", FIRST, SECOND)
    kit.accept("submitter", "submitter", open_challenge("d-1", FIRST))
    return kit


def resolve(kit: Kit, challenge: str, *, upheld: bool) -> Entry:
    command = ResolveChallenge(challenge=challenge, upheld=upheld, reason="because")
    return kit.accept("network", "network", command)


def test_a_challenge_costs_a_bond() -> None:
    kit = kit_with_job()
    kit.commit("op-a", FIRST)
    before = available(kit, "submitter")
    entry = kit.accept("submitter", "submitter", open_challenge("d-1", FIRST))
    assert entry.events == [
        ChallengeOpened(
            challenge="d-1",
            slot=FIRST,
            party=party_of("submitter"),
            claim="it is wrong",
            bond_micro=BOND_MICRO,
            expires_ms=kit.clock() + SET.challenge_ms,
        ),
        Moved(
            debit=accounts.available(party_of("submitter")),
            credit=accounts.challenge_bond("d-1"),
            amount_micro=BOND_MICRO,
            memo="challenge bond",
            slot=FIRST,
        ),
    ]
    assert available(kit, "submitter") == before - BOND_MICRO
    assert challenge_in(kit, "d-1").state is ChallengeState.OPEN
    assert slot_in(kit, FIRST).challenges == kit.journal.book.jobs["job-1"].challenges == 1


@pytest.mark.parametrize(
    ("upheld", "state", "back_to", "memo"),
    [
        (
            True,
            ChallengeState.UPHELD,
            accounts.available(party_of("submitter")),
            "bond returned",
        ),
        (False, ChallengeState.DISMISSED, accounts.TREASURY, "bond lost"),
    ],
)
def test_the_ruling_decides_the_bond(
    upheld: bool, state: ChallengeState, back_to: str, memo: str
) -> None:
    kit = challenged_kit()
    before = kit.balance(back_to)
    entry = resolve(kit, "d-1", upheld=upheld)
    assert moves(entry) == [(accounts.challenge_bond("d-1"), back_to, BOND_MICRO, memo)]
    ended = ChallengeEnded(challenge="d-1", outcome=state.value, reason="because")
    assert entry.events[-1] == ended
    assert kit.balance(back_to) == before + BOND_MICRO
    assert kit.balance(accounts.challenge_bond("d-1")) == 0
    assert challenge_in(kit, "d-1").state is state
    assert slot_in(kit, FIRST).challenges == kit.journal.book.jobs["job-1"].challenges == 0
    again = kit.send(
        "network", "network", ResolveChallenge(challenge="d-1", upheld=True, reason="")
    )
    assert reason_of(again) is Reason.CHALLENGE_ENDED
    assert invariants.check(kit.journal.book) == []


@pytest.mark.parametrize(("name", "role"), [("network", "network"), ("submitter", "submitter")])
def test_a_challenge_without_an_answer_expires_and_the_bond_returns(name: str, role: str) -> None:
    kit = challenged_kit()
    before = available(kit, "submitter")
    kit.clock.advance(SET.challenge_ms - 1)
    early = kit.send(name, role, ExpireChallenge(challenge="d-1"))
    assert reason_of(early) is Reason.CHALLENGE_NOT_EXPIRED
    kit.clock.advance(1)
    entry = kit.accept(name, role, ExpireChallenge(challenge="d-1"))
    assert memos(entry) == ["bond returned"]
    assert available(kit, "submitter") == before + BOND_MICRO
    assert challenge_in(kit, "d-1").state is ChallengeState.EXPIRED


def test_a_challenge_can_be_answered_until_it_is_expired() -> None:
    kit = challenged_kit()
    kit.clock.advance(SET.challenge_ms + 1)
    resolve(kit, "d-1", upheld=False)
    assert challenge_in(kit, "d-1").state is ChallengeState.DISMISSED


def test_new_settings_leave_the_bond_and_the_time_of_an_open_challenge_alone() -> None:
    kit = challenged_kit()
    changed = parameters(challenge_bond_micro=500, challenge_ms=1)
    kit.accept("treasury", "treasury", SetParameters(parameters=changed))
    answer = kit.send("network", "network", ExpireChallenge(challenge="d-1"))
    assert reason_of(answer) is Reason.CHALLENGE_NOT_EXPIRED
    assert moves(resolve(kit, "d-1", upheld=True))[0][2] == BOND_MICRO


def test_a_bond_of_nothing_moves_nothing() -> None:
    kit = kit_with_job()
    kit.accept("treasury", "treasury", SetParameters(parameters=parameters(challenge_bond_micro=0)))
    kit.commit("op-a", FIRST)
    entry = kit.accept("op-b", "operator", open_challenge("d-1", FIRST))
    assert moves(entry) == []
    assert moves(resolve(kit, "d-1", upheld=False)) == []
    assert kit.journal.book.jobs["job-1"].challenges == 0


# -- effects of an open challenge ------------------------------------------------------------


def test_challenged_pay_is_not_released_and_other_pay_is() -> None:
    kit = challenged_kit()
    kit.clock.advance(SET.holdback_ms)
    answer = kit.send("network", "network", release("job-1", FIRST))
    assert reason_of(answer) is Reason.SLOT_CHALLENGED
    answer = kit.send("network", "network", release("job-1", SECOND, FIRST))
    assert reason_of(answer) is Reason.SLOT_CHALLENGED
    kit.accept("network", "network", release("job-1", SECOND))
    resolve(kit, "d-1", upheld=False)
    kit.accept("network", "network", release("job-1", FIRST))
    assert available(kit, "op-a") == 520


def test_a_job_with_an_open_challenge_neither_closes_nor_expires() -> None:
    kit = challenged_kit()
    for command in (("driver", CloseJob(job="job-1")), ("submitter", CloseJob(job="job-1"))):
        answer = kit.send(command[0], command[0], command[1])
        assert reason_of(answer) is Reason.SLOT_CHALLENGED
    kit.clock.advance(SET.job_ms + 1)
    answer = kit.send("network", "network", ExpireJob(job="job-1"))
    assert reason_of(answer) is Reason.SLOT_CHALLENGED
    resolve(kit, "d-1", upheld=True)
    kit.accept("network", "network", ExpireJob(job="job-1"))


def test_a_slot_with_two_challenges_waits_for_both() -> None:
    kit = challenged_kit()
    kit.accept("op-b", "operator", open_challenge("d-2", FIRST))
    kit.clock.advance(SET.holdback_ms)
    for challenge in ("d-1", "d-2"):
        answer = kit.send("network", "network", release("job-1", FIRST))
        assert reason_of(answer) is Reason.SLOT_CHALLENGED
        resolve(kit, challenge, upheld=True)
    kit.accept("network", "network", release("job-1", FIRST))


def test_a_challenged_segment_can_be_settled_meanwhile() -> None:
    kit = kit_with_job()
    kit.commit("op-a", FIRST)
    kit.accept("submitter", "submitter", open_challenge("d-1", FIRST))
    kit.settle("job-1", {FIRST: True})
    resolve(kit, "d-1", upheld=False)
    kit.accept("driver", "driver", CloseJob(job="job-1"))


def test_a_cheats_appeal_holds_the_slash_until_it_is_answered() -> None:
    kit = kit_with_job()
    kit.earn("op-a", FIRST)
    kit.accept("driver", "driver", CloseJob(job="job-1"))
    kit.slash("job-1", "op-a", FIRST)
    kit.accept("op-a", "operator", open_challenge("d-1", FIRST))
    kit.clock.advance(SET.appeal_ms)
    give_out = DistributeSlash(operator=party_of("op-a"))
    answer = kit.send("network", "network", give_out)
    assert reason_of(answer) is Reason.APPEAL_OPEN
    resolve(kit, "d-1", upheld=False)
    kit.accept("network", "network", give_out)
    assert kit.balance(accounts.TREASURY) == BOND_MICRO


def test_a_segment_of_a_closed_job_can_be_challenged_as_long_as_evidence_is_valid() -> None:
    kit = kit_with_job()
    kit.earn("op-a", FIRST)
    kit.accept("driver", "driver", CloseJob(job="job-1"))
    kit.clock.advance(SET.evidence_ms)
    kit.accept("submitter", "submitter", open_challenge("d-1", FIRST))
    kit.clock.advance(1)
    answer = kit.send("submitter", "submitter", open_challenge("d-2", FIRST))
    assert reason_of(answer) is Reason.EVIDENCE_TOO_OLD
    resolve(kit, "d-1", upheld=True)
    assert invariants.check(kit.journal.book) == []


# -- the jackpot -----------------------------------------------------------------------------


def test_the_jackpot_is_paid_from_shares_of_slashes() -> None:
    kit = kit_with_job()
    kit.commit("op-a", FIRST)
    kit.slash("job-1", "op-a", FIRST)
    kit.settle("job-1", {FIRST: False})
    kit.accept("driver", "driver", CloseJob(job="job-1"))
    kit.clock.advance(SET.appeal_ms)
    kit.accept("network", "network", DistributeSlash(operator=party_of("op-a")))
    saved = RESERVE_MICRO * SET.jackpot_ppm // 1_000_000
    assert kit.balance(accounts.JACKPOT) == saved == 40
    found = PayJackpot(party=party_of("verifier"), amount_micro=15, evidence=FIRST)
    entry = kit.accept("network", "network", found)
    verifier = accounts.available(party_of("verifier"))
    assert entry.events == [
        Moved(debit=accounts.JACKPOT, credit=verifier, amount_micro=15, memo="jackpot", slot=FIRST)
    ]
    assert (kit.balance(accounts.JACKPOT), kit.balance(verifier)) == (saved - 15, 15)
    too_much = PayJackpot(party=party_of("verifier"), amount_micro=26, evidence=FIRST)
    answer = kit.send("network", "network", too_much)
    assert reason_of(answer) is Reason.INSUFFICIENT_FUNDS


def test_the_jackpot_is_paid_for_a_segment_of_any_existing_job() -> None:
    kit = kit_with_job()
    unknown = PayJackpot(
        party=party_of("verifier"), amount_micro=1, evidence=slot_of("job-9", "task-0", 0)
    )
    assert reason_of(kit.send("network", "network", unknown)) is Reason.UNKNOWN_SLOT
