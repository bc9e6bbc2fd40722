"""Founding a network, and the commands that several treasury keys must approve."""

import functools
import itertools
from typing import Any

import pytest

from gensyn_ray.domain import records
from gensyn_ray.domain.money import MAX_MICRO
from ledger.core import accounts, invariants
from ledger.core import parameters as settings
from ledger.core.book_state import SlashState, Standing
from ledger.core.commands import (
    Approve,
    CloseJob,
    Command,
    Correct,
    Deposit,
    DistributeSlash,
    Found,
    Grant,
    Join,
    ResolveChallenge,
    ReverseSlash,
    SetParameters,
    Withdraw,
)
from ledger.core.events import Approved, Executed, Founded, Moved, ParametersSet, Proposed
from ledger.core.journal import Entry, Journal
from ledger.core.parameters import MAX_MS
from ledger.core.refusals import Reason
from tests.kits.book_kit import (
    FIRST,
    CouncilKit,
    available,
    moves,
    open_challenge,
    reason_of,
    reserved,
    slash_of,
    standing,
)
from tests.kits.ledger_kit import (
    NETWORK,
    RESERVE_MICRO,
    Answer,
    Kit,
    found,
    key_of,
    kit_with_job,
    kit_with_parties,
    parameters,
    party_of,
)

SET = parameters()
OP_A, OP_B = accounts.available(party_of("op-a")), accounts.available(party_of("op-b"))
DEPOSIT = Deposit(party=party_of("op-a"), amount_micro=7)


def council() -> CouncilKit:
    """A 2-of-3 treasury. op-a and op-b have joined, and op-a has 1,000 micro-credits."""
    kit = CouncilKit()
    kit.join("op-a", "operator", deposit_micro=1_000)
    kit.join("op-b", "operator")
    return kit


@functools.cache
def shared_council() -> CouncilKit:
    """One kit for all refused commands."""
    return council()


def approve(kit: Kit, name: str, proposal: str) -> Answer:
    return kit.send(name, "treasury", Approve(proposal=proposal))


def with_a_full_treasury(kit: Kit) -> Kit:
    """Fill the treasury with the bond of a lost challenge."""
    kit.commit("op-a", FIRST)
    kit.accept("submitter", "submitter", open_challenge("d-1", FIRST))
    lost = ResolveChallenge(challenge="d-1", upheld=False, reason="idle")
    kit.accept("network", "network", lost)
    return kit


# -- founding --------------------------------------------------------------------------------


def try_to_found(command: Found, signer: str = "network", network: str = NETWORK) -> Answer:
    envelope = shared_council().sign(signer, "network", command, genesis="", network=network)
    return Journal().propose(envelope, 0)


def test_founding_names_the_network() -> None:
    kit = Kit()
    (founded,) = kit.entries[0].events
    assert founded == records.from_json(Founded, records.to_json(found()))
    assert kit.journal.book.founded == founded
    assert kit.journal.book.parameters == parameters()
    assert kit.journal.genesis == kit.envelopes[0].body_hash


def test_a_book_without_a_network_has_no_settings() -> None:
    with pytest.raises(LookupError, match="no network"):
        _ = Journal().book.parameters


def test_before_the_founding_all_other_commands_are_refused() -> None:
    envelope = Kit().sign("op-a", "operator", Join(name="op-a"))
    assert reason_of(Journal().propose(envelope, 0)) is Reason.WRONG_NETWORK


@pytest.mark.parametrize(
    ("signer", "changes", "network"),
    [
        ("op-a", {}, NETWORK),
        ("network", {"network": "a"}, "b"),
        ("network", {"network_key": key_of("op-a").public.hex()}, NETWORK),
    ],
)
def test_only_its_own_key_founds_a_network_of_its_own_name(
    signer: str, changes: dict[str, Any], network: str
) -> None:
    answer = try_to_found(found(**changes), signer, network)
    assert reason_of(answer) is Reason.ROLE_NOT_ALLOWED


KEY, ANOTHER = "11" * 32, "22" * 32


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        (Reason.MALFORMED, {"treasury_keys": ["zz" * 32]}),
        (Reason.MALFORMED, {"treasury_keys": [KEY, ANOTHER[:-1]]}),
        (Reason.MALFORMED, {"treasury_keys": ["AA" * 32]}),
        (Reason.MALFORMED, {"beacon_anchor": ""}),
        (Reason.MALFORMED, {"beacon_anchor": "", "treasury_threshold": 9}),
        (Reason.UNSAFE_PARAMETERS, {"treasury_keys": []}),
        (Reason.UNSAFE_PARAMETERS, {"treasury_keys": [], "treasury_threshold": 0}),
        (Reason.UNSAFE_PARAMETERS, {"treasury_keys": [KEY, KEY]}),
        (Reason.UNSAFE_PARAMETERS, {"treasury_threshold": 0}),
        (Reason.UNSAFE_PARAMETERS, {"treasury_threshold": -1}),
        (Reason.UNSAFE_PARAMETERS, {"treasury_threshold": 2}),
        (Reason.UNSAFE_PARAMETERS, {"treasury_keys": [KEY, ANOTHER], "treasury_threshold": 3}),
        (Reason.UNSAFE_PARAMETERS, {"parameters": parameters(job_ms=0)}),
    ],
)
def test_a_network_is_not_founded_unsafely(reason: Reason, changes: dict[str, Any]) -> None:
    assert reason_of(try_to_found(found(**changes))) is reason


@pytest.mark.parametrize("name", ["", "a b", "a/b", "n" * 65])
def test_a_network_has_a_name_that_is_safe_everywhere(name: str) -> None:
    assert reason_of(try_to_found(found(name), network=name)) is Reason.BAD_ID
    unsafe = found(name, treasury_threshold=0)
    assert reason_of(try_to_found(unsafe, network=name)) is Reason.UNSAFE_PARAMETERS


def test_a_treasury_of_any_size_can_be_founded() -> None:
    keys = [key_of(f"treasury-{number}").public.hex() for number in range(5)]
    for threshold in range(1, 6):
        command = found(treasury_keys=keys, treasury_threshold=threshold)
        assert isinstance(try_to_found(command), Entry)


# -- two of three ----------------------------------------------------------------------------


def test_a_command_of_one_key_becomes_a_proposal() -> None:
    kit = council()
    before = kit.balances()
    entry = Kit.accept(kit, "treasury", "treasury", DEPOSIT)
    proposal = entry.envelope.body_hash
    assert entry.events == [
        Proposed(
            proposal=proposal,
            operation="Deposit",
            arguments={"party": party_of("op-a"), "amount_micro": 7},
            expires_ms=kit.clock() + SET.proposal_ms,
        ),
        Approved(proposal=proposal, key=key_of("treasury").public.hex()),
    ]
    assert kit.balances() == before
    assert list(kit.journal.book.proposals) == [proposal]


@pytest.mark.parametrize("second", ["treasury-b", "treasury-c"])
def test_the_approval_of_a_second_key_executes_a_proposal(second: str) -> None:
    kit = council()
    proposal = kit.propose(DEPOSIT)
    entry = kit.approve(second, proposal)
    assert entry.events == [
        Approved(proposal=proposal, key=key_of(second).public.hex()),
        Executed(proposal=proposal),
        Moved(debit=accounts.EXTERNAL, credit=OP_A, amount_micro=7, memo="deposit"),
    ]
    assert available(kit, "op-a") == 1_007
    assert kit.journal.book.proposals == {}
    assert reason_of(approve(kit, "treasury-c", proposal)) is Reason.UNKNOWN_PROPOSAL


def test_two_approvals_of_one_key_count_once() -> None:
    kit = council()
    proposal = kit.propose(DEPOSIT)
    for _ in range(2):
        assert reason_of(approve(kit, "treasury", proposal)) is Reason.ALREADY_APPROVED
    assert available(kit, "op-a") == 1_000


def test_only_treasury_keys_approve() -> None:
    kit = council()
    proposal = kit.propose(DEPOSIT)
    for name in ("network", "op-a", "stranger"):
        assert reason_of(approve(kit, name, proposal)) is Reason.ROLE_NOT_ALLOWED


def test_two_keys_do_not_reach_a_threshold_of_three() -> None:
    keys = [key_of(name).public.hex() for name in ("treasury", "treasury-b", "treasury-c")]
    kit = Kit(found(treasury_keys=keys, treasury_threshold=3))
    kit.accept("op-a", "operator", Join(name="op-a"))
    proposal = kit.accept("treasury-c", "treasury", DEPOSIT).envelope.body_hash
    second = kit.accept("treasury", "treasury", Approve(proposal=proposal))
    assert second.events == [Approved(proposal=proposal, key=keys[0])]
    assert reason_of(approve(kit, "treasury", proposal)) is Reason.ALREADY_APPROVED
    assert available(kit, "op-a") == 0
    kit.accept("treasury-b", "treasury", Approve(proposal=proposal))
    assert available(kit, "op-a") == 7


def test_a_proposal_waits_for_its_time_and_no_longer() -> None:
    kit = council()
    in_time, too_late = kit.propose(DEPOSIT), kit.propose(DEPOSIT)
    kit.clock.advance(SET.proposal_ms)
    kit.approve("treasury-b", in_time)
    kit.clock.advance(1)
    assert reason_of(approve(kit, "treasury-b", too_late)) is Reason.PROPOSAL_EXPIRED
    assert available(kit, "op-a") == 1_007


def test_a_repeated_command_is_a_second_proposal() -> None:
    kit = council()
    first, second = kit.propose(DEPOSIT), kit.propose(DEPOSIT)
    kit.approve("treasury-b", second)
    kit.approve("treasury-b", first)
    assert available(kit, "op-a") == 1_014


def test_two_keys_that_propose_the_same_have_not_agreed_to_one_proposal() -> None:
    kit = council()
    kit.propose(DEPOSIT, "treasury")
    kit.propose(DEPOSIT, "treasury-b")
    assert available(kit, "op-a") == 1_000


def test_an_impossible_command_becomes_no_proposal() -> None:
    kit = council()
    nobody = Deposit(party="nobody", amount_micro=1)
    assert reason_of(kit.send("treasury", "treasury", nobody)) is Reason.UNKNOWN_PARTY
    assert kit.journal.book.proposals == {}


def test_a_proposal_that_became_impossible_fails_and_can_be_approved_later() -> None:
    kit = council()
    move = Correct(debit=OP_A, credit=OP_B, amount_micro=600, entry=1, reason="wrong")
    proposal = kit.propose(move)
    kit.accept("op-a", "operator", Withdraw(amount_micro=500))
    assert reason_of(approve(kit, "treasury-b", proposal)) is Reason.INSUFFICIENT_FUNDS
    kit.accept("treasury", "treasury", Deposit(party=party_of("op-a"), amount_micro=100))
    kit.approve("treasury-b", proposal)
    assert (available(kit, "op-a"), available(kit, "op-b")) == (0, 600)


def test_with_a_threshold_of_one_commands_execute_at_once() -> None:
    kit = kit_with_parties()
    entry = kit.accept("treasury", "treasury", DEPOSIT)
    assert moves(entry) == [(accounts.EXTERNAL, OP_A, 7, "deposit")]
    answer = approve(kit, "treasury", entry.envelope.body_hash)
    assert reason_of(answer) is Reason.UNKNOWN_PROPOSAL


# -- settings --------------------------------------------------------------------------------


def test_new_settings_hold_from_the_moment_of_agreement() -> None:
    kit = council()
    changed = parameters(reserve_micro=1, proposal_ms=50_000)
    proposal = kit.propose(SetParameters(parameters=changed))
    assert kit.journal.book.parameters == SET
    entry = kit.approve("treasury-b", proposal)
    assert entry.events[-1] == ParametersSet(parameters=changed)
    assert kit.journal.book.parameters == changed
    assert kit.journal.book.founded is not None
    assert kit.journal.book.founded.parameters == SET


UNSAFE: dict[str, dict[str, int]] = {
    **{
        f"{name} {amount}": {name: amount}
        for name in ("reserve_micro", "challenge_bond_micro")
        for amount in (-1, MAX_MICRO + 1)
    },
    **{
        f"{name} {time_ms}": {name: time_ms}
        for name in SET.__slots__
        if name.endswith("_ms")
        for time_ms in (-1, MAX_MS + 1)
    },
    "no time for a job": {"job_ms": 0},
    "no time for a proposal": {"proposal_ms": 0},
    "a reporter's share below zero": {"reporter_ppm": -1},
    "a jackpot's share below zero": {"jackpot_ppm": -1, "reporter_ppm": 500_000},
    "shares above one": {"reporter_ppm": 600_000, "jackpot_ppm": 400_001},
    "unbonding as long as job, holdback and challenge": {"unbonding_ms": 1_030_000},
    "a longer job": {"job_ms": 1_970_000},
    "a longer holdback": {"holdback_ms": 980_000},
    "a longer challenge": {"challenge_ms": 990_000},
    "evidence shorter than unbonding": {"evidence_ms": 1_999_999},
}

SAFE: dict[str, dict[str, int]] = {
    "nothing reserved": {"reserve_micro": 0},
    "no bond": {"challenge_bond_micro": 0},
    "the highest amounts": {"reserve_micro": MAX_MICRO, "challenge_bond_micro": MAX_MICRO},
    "no waiting": {"holdback_ms": 0, "challenge_ms": 0, "appeal_ms": 0},
    "the longest times": {
        "unbonding_ms": MAX_MS,
        "evidence_ms": MAX_MS,
        "appeal_ms": MAX_MS,
        "proposal_ms": MAX_MS,
    },
    "the shortest": {"job_ms": 1, "proposal_ms": 1, "unbonding_ms": 30_002},
    "unbonding just long enough": {"unbonding_ms": 1_030_001},
    "evidence just long enough": {"evidence_ms": 2_000_000},
    "all to the reporter": {"reporter_ppm": 1_000_000, "jackpot_ppm": 0},
    "all to the jackpot": {"reporter_ppm": 0, "jackpot_ppm": 1_000_000},
    "all burnt": {"reporter_ppm": 0, "jackpot_ppm": 0},
}


@pytest.mark.parametrize("changes", UNSAFE.values(), ids=UNSAFE)
def test_unsafe_settings_are_refused_wherever_they_are_asked_for(changes: dict[str, int]) -> None:
    unsafe = parameters(**changes)
    assert settings.problem(unsafe)
    assert reason_of(try_to_found(found(parameters=unsafe))) is Reason.UNSAFE_PARAMETERS
    kit = shared_council()
    answer = kit.send("treasury", "treasury", SetParameters(parameters=unsafe))
    assert reason_of(answer) is Reason.UNSAFE_PARAMETERS
    assert kit.journal.book.parameters == SET


@pytest.mark.parametrize("changes", SAFE.values(), ids=SAFE)
def test_safe_settings_can_be_set(changes: dict[str, int]) -> None:
    kit = council()
    kit.accept("treasury", "treasury", SetParameters(parameters=parameters(**changes)))
    assert kit.journal.book.parameters == parameters(**changes)


# -- corrections and grants ------------------------------------------------------------------


def test_a_correction_is_an_opposite_posting_and_history_stays() -> None:
    kit = council()
    wrong = kit.accept("treasury", "treasury", DEPOSIT)
    right = Correct(
        debit=OP_A, credit=OP_B, amount_micro=7, entry=wrong.index, reason="op-b was meant"
    )
    entry = kit.accept("treasury", "treasury", right)
    assert moves(entry) == [(OP_A, OP_B, 7, "correction")]
    assert (available(kit, "op-a"), available(kit, "op-b")) == (1_000, 7)
    assert kit.entries[wrong.index] == wrong


def test_a_correction_moves_between_parties_treasury_and_jackpot() -> None:
    kit = council()
    way = [OP_A, accounts.TREASURY, accounts.JACKPOT, OP_B]
    for debit, credit in itertools.pairwise(way):
        command = Correct(debit=debit, credit=credit, amount_micro=5, entry=0, reason="")
        kit.accept("treasury", "treasury", command)
    assert (available(kit, "op-a"), available(kit, "op-b")) == (995, 5)
    assert kit.balance(accounts.TREASURY) == kit.balance(accounts.JACKPOT) == 0


def test_the_treasury_grants_what_it_has() -> None:
    kit = with_a_full_treasury(kit_with_job())
    has = kit.balance(accounts.TREASURY)
    grant = Grant(party=party_of("op-b"), amount_micro=has, reason="thanks")
    entry = kit.accept("treasury", "treasury", grant)
    assert moves(entry) == [(accounts.TREASURY, OP_B, has, "grant")]
    more = Grant(party=party_of("op-b"), amount_micro=1, reason="thanks")
    answer = kit.send("treasury", "treasury", more)
    assert reason_of(answer) is Reason.INSUFFICIENT_FUNDS


# -- reversing a slash -----------------------------------------------------------------------


def slashed_council() -> CouncilKit:
    kit = CouncilKit()
    kit.join("submitter", "submitter", deposit_micro=1_000)
    kit.join("op-a", "operator", deposit_micro=500, bond_micro=500)
    kit.open_job("job-1", "task-0")
    kit.commit("op-a", FIRST)
    kit.slash("job-1", "op-a", FIRST)
    return kit


GIVE_OUT: Command = DistributeSlash(operator=party_of("op-a"))
REVERSE: Command = ReverseSlash(operator=party_of("op-a"), reason="the verifier was wrong")


def test_a_slash_is_reversed_when_two_keys_agree() -> None:
    kit = slashed_council()
    proposal = kit.propose(REVERSE)
    assert standing(kit, "op-a") is Standing.TOMBSTONED
    kit.approve("treasury-c", proposal)
    assert standing(kit, "op-a") is Standing.ACTIVE
    assert slash_of(kit, "op-a").state is SlashState.REVERSED
    assert reserved(kit, "op-a", "job-1") == RESERVE_MICRO
    assert invariants.check(kit.journal.book) == []


def test_a_slash_is_reversed_once() -> None:
    kit = slashed_council()
    first, second = kit.propose(REVERSE), kit.propose(REVERSE)
    kit.approve("treasury-b", first)
    assert reason_of(approve(kit, "treasury-b", second)) is Reason.NO_SLASH_HELD
    assert reserved(kit, "op-a", "job-1") == RESERVE_MICRO


def test_a_reversal_that_comes_after_the_slash_was_given_out_comes_too_late() -> None:
    kit = slashed_council()
    proposal = kit.propose(REVERSE)
    kit.settle("job-1", {FIRST: False})
    kit.accept("driver", "driver", CloseJob(job="job-1"))
    kit.clock.advance(SET.appeal_ms)
    kit.accept("network", "network", GIVE_OUT)
    assert reason_of(approve(kit, "treasury-b", proposal)) is Reason.NO_SLASH_HELD
