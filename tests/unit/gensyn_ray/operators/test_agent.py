"""The agent signs one answer to each slot that it requested, and nothing else."""

from typing import Any

import pytest

from gensyn_ray.domain import canonical, merkle, signing
from gensyn_ray.domain.errors import OperationError, Refused, Unreachable
from gensyn_ray.domain.evidence import Verdict
from gensyn_ray.domain.leaf import Leaf
from gensyn_ray.domain.signing import Envelope
from gensyn_ray.operators.agent import ANY_PROGRAM, Agent
from gensyn_ray.operators.agent_requests import Identity, TaskRequest, VerdictRequest
from ledger.core.commands import Commit, Join, Record, RequestSlot
from ledger.core.refusals import Reason
from tests.kits.agent_kit import BUNDLE, OPERATOR, OTHER_KEY, make_agent, make_leaf, open_slot
from tests.kits.fake_ledger import GENESIS, HEAD, FakeLedger, reading_of, receipt_for


@pytest.fixture
def ledger() -> FakeLedger:
    return FakeLedger()


@pytest.fixture
def agent(ledger: FakeLedger) -> Agent:
    return make_agent(ledger)


def test_a_slot_that_was_issued_is_answered_once(agent: Agent, ledger: FakeLedger) -> None:
    open_slot(agent)
    leaf = make_leaf()
    receipt = agent.commit(leaf)
    assert receipt == receipt_for(ledger.seen[-1])
    root = merkle.root_of([canonical.encode(leaf)]).hex()
    assert ledger.commands() == [
        RequestSlot(job="job", task="t000", segment=0, attempt=0),
        Commit(root=root, leaves=[Leaf.parse(leaf)]),
    ]
    with pytest.raises(Refused, match="not open at this agent") as refusal:
        agent.commit({**leaf, "state_after": "00" * 32})
    assert refusal.value.reason == Reason.NOT_YOUR_SLOT
    assert len(ledger.seen) == 2


def test_commands_are_signed_by_the_operator_for_this_network(
    agent: Agent, ledger: FakeLedger
) -> None:
    open_slot(agent)
    (order,) = ledger.orders()
    assert order.header.party == OPERATOR.party
    assert (order.header.role, order.header.network, order.header.genesis) == (
        "operator",
        "testnet",
        GENESIS,
    )


@pytest.mark.parametrize(
    "other", [{"segment": 1}, {"attempt": 1}, {"task": "t001"}, {"job": "another"}]
)
def test_a_slot_that_was_not_issued_is_not_answered(
    agent: Agent, ledger: FakeLedger, other: dict[str, Any]
) -> None:
    open_slot(agent)
    with pytest.raises(Refused, match="not open"):
        agent.commit({**make_leaf(), **other})
    assert len(ledger.seen) == 1


def test_a_refused_slot_is_not_open(agent: Agent, ledger: FakeLedger) -> None:
    ledger.script = [Refused(Reason.INSUFFICIENT_STAKE)]
    with pytest.raises(Refused, match="insufficient free stake"):
        open_slot(agent)
    with pytest.raises(Refused, match="not open"):
        agent.commit(make_leaf())
    assert len(ledger.seen) == 1


def test_several_slots_may_be_open_at_once(agent: Agent, ledger: FakeLedger) -> None:
    for segment in (0, 1):
        open_slot(agent, segment)
    for segment in (1, 0):
        agent.commit(make_leaf(segment))
    assert len(ledger.seen) == 4


def test_another_operators_leaf_is_not_signed(agent: Agent, ledger: FakeLedger) -> None:
    open_slot(agent)
    for other in ("someone", ""):
        with pytest.raises(Refused, match="another operator"):
            agent.commit(make_leaf(operator=other))
    with pytest.raises(Refused, match="operator"):
        agent.commit(make_leaf(operator=None))
    assert len(ledger.seen) == 1
    agent.commit(make_leaf())


@pytest.mark.parametrize(
    "leaf", [{}, {"job": "job"}, make_leaf(segment="0"), make_leaf(attempt=None)]
)
def test_a_leaf_that_names_no_slot_is_not_signed(
    agent: Agent, ledger: FakeLedger, leaf: dict[str, Any]
) -> None:
    open_slot(agent)
    with pytest.raises(Refused) as refusal:
        agent.commit(leaf)
    assert refusal.value.reason == Reason.WRONG_LEAF
    assert len(ledger.seen) == 1


def _task(**other: Any) -> dict[str, Any]:
    return reading_of("task", **{"task": "t000", "bundle": BUNDLE, **other})


def test_a_vetted_program_is_taken(agent: Agent, ledger: FakeLedger) -> None:
    ledger.views["task"] = _task()
    assert agent.task(TaskRequest(job="job", trial="trial")) == _task()
    assert ledger.asked == [("task", {"job": "job", "trial": "trial"})]
    assert ledger.seen == [], "reading signs nothing"


def test_a_program_that_is_not_vetted_is_refused_unless_allowed(ledger: FakeLedger) -> None:
    ledger.views["task"] = _task(vetted=False)
    for allow in ([], ["aa" * 32], [BUNDLE[:16]]):
        with pytest.raises(Refused, match="not vetted here"):
            make_agent(ledger, allow=allow).task(TaskRequest(job="job", trial="trial"))
    for allow in (["aa" * 32, BUNDLE], [ANY_PROGRAM]):
        allowed = make_agent(ledger, allow=allow)
        assert allowed.task(TaskRequest(job="job", trial="trial"))["task"] == "t000"


def test_a_command_without_an_answer_is_sent_again_with_the_same_bytes(
    agent: Agent, ledger: FakeLedger
) -> None:
    ledger.script = [Unreachable("no ledger answers")]
    open_slot(agent)
    first, second = ledger.seen
    assert first == second
    ledger.script = [Unreachable("no ledger answers")]
    receipt = agent.commit(make_leaf())
    assert ledger.seen[2] == ledger.seen[3]
    assert receipt == receipt_for(ledger.seen[3])


def test_an_authority_that_never_answers_is_an_error(agent: Agent, ledger: FakeLedger) -> None:
    ledger.script = [Unreachable("no ledger answers"), Unreachable("no ledger answers")]
    with pytest.raises(Unreachable):
        open_slot(agent)
    with pytest.raises(Refused, match="not open"):
        agent.commit(make_leaf())


def test_a_refusal_is_not_sent_again(agent: Agent, ledger: FakeLedger) -> None:
    open_slot(agent)
    ledger.script = [Refused(Reason.WRONG_PREDECESSOR)]
    with pytest.raises(Refused, match="last good state"):
        agent.commit(make_leaf())
    assert len(ledger.seen) == 2


def test_a_slot_whose_commitment_was_refused_is_closed(agent: Agent, ledger: FakeLedger) -> None:
    open_slot(agent)
    ledger.script = [Refused(Reason.WRONG_PREDECESSOR)]
    with pytest.raises(Refused):
        agent.commit(make_leaf())
    with pytest.raises(Refused, match="not open"):
        agent.commit(make_leaf(state_after="00" * 32))


def test_two_different_commands_never_share_their_bytes(agent: Agent, ledger: FakeLedger) -> None:
    for _ in range(3):
        open_slot(agent)
    assert len({envelope.body_hash for envelope in ledger.seen}) == 3


def test_a_receipt_for_another_command_is_refused(agent: Agent, ledger: FakeLedger) -> None:
    open_slot(agent)
    ledger.script = [{"receipt": receipt_for(ledger.seen[0])}]
    with pytest.raises(OperationError, match="another command"):
        agent.commit(make_leaf())


@pytest.mark.parametrize("forged", ["key", "purpose", "signature"])
def test_a_receipt_that_the_network_did_not_sign_is_refused(
    ledger: FakeLedger, forged: str
) -> None:
    class Impostor(FakeLedger):
        def submit(self, envelope: Envelope) -> dict[str, Any]:
            receipt = {
                "key": receipt_for(envelope, key=OTHER_KEY),
                "purpose": receipt_for(envelope, tag=signing.COMMAND),
                "signature": {**receipt_for(envelope), "signature": ""},
            }[forged]
            return {"receipt": receipt}

    agent = make_agent(Impostor())
    with pytest.raises((ValueError, OperationError), match="sign"):
        open_slot(agent)
    with pytest.raises(Refused, match="not open"):
        agent.commit(make_leaf())


def test_a_verdict_is_signed_as_it_was_computed(ledger: FakeLedger) -> None:
    agent = make_agent(ledger, role="verifier")
    agent.verdict(VerdictRequest(job="job", slot="job/t000/0/0", result="ab" * 32))
    content = {"job": "job", "slot": "job/t000/0/0", "result": "ab" * 32}
    assert ledger.commands() == [Record(evidence=Verdict(**content))]
    assert ledger.orders()[0].header.role == "verifier"


def test_a_node_joins_once(agent: Agent, ledger: FakeLedger) -> None:
    ledger.views["balance"] = reading_of("balance", joined=False)
    agent.join()
    assert ledger.commands() == [Join(name="node-1", numerics="c0ffee")]
    ledger.views["balance"] = reading_of("balance", joined=True)
    agent.join()
    assert len(ledger.seen) == 1


def test_a_node_returns_its_identity(agent: Agent) -> None:
    assert agent.identity() == Identity(party=OPERATOR.party, role="operator", numerics="c0ffee")


def test_every_receipt_is_kept_and_its_head_quoted_from_then_on(
    agent: Agent, ledger: FakeLedger
) -> None:
    open_slot(agent, 0)
    open_slot(agent, 1)
    assert [order.header.head for order in ledger.orders()] == ["", HEAD]
    assert ledger.kept == [receipt_for(envelope) for envelope in ledger.seen]


def test_a_refusal_leaves_no_receipt(agent: Agent, ledger: FakeLedger) -> None:
    ledger.script = [Refused("budget exhausted")]
    with pytest.raises(Refused):
        open_slot(agent)
    assert ledger.kept == []


def test_a_forged_receipt_is_an_operation_error() -> None:
    """Regression: the caller got a bare `ValueError`."""

    class Impostor(FakeLedger):
        def submit(self, envelope: Any) -> dict[str, Any]:
            return {"receipt": receipt_for(envelope, key=OTHER_KEY)}

    with pytest.raises(OperationError):
        open_slot(make_agent(Impostor()))
