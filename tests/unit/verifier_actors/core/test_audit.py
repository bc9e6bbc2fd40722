"""The audit of one segment allows exactly the transitions of the table."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier_actors.core.audit import OVER, TRANSITIONS, Audit, AuditState, IllegalMove, Move
from verifier_actors.core.outcome import Outcome

CLAIMED = "cc" * 32
OTHER = "dd" * 32


def audit(state: AuditState = AuditState.COMMITTED) -> Audit:
    return Audit(
        job="job",
        slot="job/t/0/0",
        task="t",
        operator="op",
        numerics="c1",
        claimed=CLAIMED,
        root="ab" * 32,
        leaf_index=0,
        committed_ms=0,
        state=state,
        verifier="v",
        referee="r",
    )


@pytest.mark.parametrize(("state", "move"), list(product(AuditState, Move)))
def test_a_move_leads_where_the_table_says_or_is_a_bug(state: AuditState, move: Move) -> None:
    one = audit(state)
    if (state, move) in TRANSITIONS:
        one.move(move)
        assert one.state is TRANSITIONS[state, move]
    else:
        with pytest.raises(IllegalMove, match=state.name):
            one.move(move)
        assert one.state is state


def test_every_state_can_be_reached_and_only_judged_is_final() -> None:
    reached = {AuditState.COMMITTED}
    while more := {to for (of, _), to in TRANSITIONS.items() if of in reached} - reached:
        reached |= more
    assert reached == set(AuditState)
    assert set(AuditState) - {of for of, _ in TRANSITIONS} == {AuditState.JUDGED}


@given(st.lists(st.sampled_from(Move), max_size=12))
def test_no_verification_is_open_exactly_before_a_replay_is_assigned_and_after_a_ruling(
    moves: list[Move],
) -> None:
    one = audit()
    for move in moves:
        if (one.state, move) in TRANSITIONS:
            one.move(move)
    assert one.is_over == (one.state in OVER)
    assert bool(one.asked) == (one.state in (AuditState.ASSIGNED, AuditState.DISPUTED))


def test_only_the_party_that_is_asked_gives_a_result() -> None:
    one = audit(AuditState.ASSIGNED)
    for party in ("r", "op", ""):
        one.take_verdict(party, OTHER)
        assert (one.state, one.verifier_result) == (AuditState.ASSIGNED, "")
    one.take_verdict("v", OTHER)
    assert (one.state, one.verifier_result) == (AuditState.REPLAYED, OTHER)
    one.take_verdict("v", CLAIMED)
    assert one.verifier_result == OTHER, "a second verdict changes nothing"
    one.move(Move.CALL_REFEREE)
    one.take_verdict("v", CLAIMED)
    assert one.state is AuditState.DISPUTED
    one.take_verdict("r", OTHER)
    assert (one.state, one.found()) == (AuditState.REFEREED, Outcome.REJECT)


@pytest.mark.parametrize(
    ("verifier_result", "referee_result", "outcome"),
    [
        (CLAIMED, None, Outcome.ACCEPT),
        (OTHER, None, None),
        (OTHER, OTHER, Outcome.REJECT),
        (OTHER, CLAIMED, Outcome.INCONCLUSIVE),
        ("", None, None),
        ("", "", Outcome.REJECT),
    ],
)
def test_the_results_of_the_parties_that_were_asked_decide(
    verifier_result: str, referee_result: str | None, outcome: Outcome | None
) -> None:
    """Regression: two empty results led to a second referee, which ended the authority."""
    one = audit(AuditState.ASSIGNED)
    one.take_verdict("v", verifier_result)
    if referee_result is not None:
        one.move(Move.CALL_REFEREE)
        one.take_verdict("r", referee_result)
    assert one.found() is outcome
