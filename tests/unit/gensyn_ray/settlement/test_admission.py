"""Leaves that settlement refuses, because a later step of the network could not deal with them."""

from ledger.core.refusals import Reason
from tests.kits.authority_kit import AuthorityKit

SLOT = "job-1/task-0/0/0"


def test_a_leaf_of_a_class_without_a_verifier_is_refused() -> None:
    kit = AuthorityKit().begin(joined={"op-a": "class-a,class-b"})
    kit.accept("op-a", "operator", kit.request(SLOT))
    answer = kit.send("op-a", "operator", kit.answer("op-a", SLOT, numerics="class-b"))
    assert (answer["refused"], answer["detail"]) == (Reason.NO_VERIFIER, "class-b")
    kit.accept("op-a", "operator", kit.answer("op-a", SLOT))
    kit.reveal()
    kit.pass_time(100_000)


def test_a_leaf_without_an_end_state_is_refused() -> None:
    kit = AuthorityKit().begin()
    kit.accept("op-a", "operator", kit.request(SLOT))
    answer = kit.send("op-a", "operator", kit.answer("op-a", SLOT, state_after=""))
    assert answer["refused"] == Reason.WRONG_LEAF
