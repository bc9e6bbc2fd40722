"""A job's numerics determine the operators and the verifiers that may take part."""

from typing import Any

import pytest

from gensyn_ray.domain.numerics import PINNED, REPRODUCIBLE
from ledger.core.refusals import Reason
from tests.kits.authority_kit import AuthorityKit
from tests.kits.ledger_kit import party_of, request_slot

HIGH = "reproducible/v1/high"
SLOT = "job-1/task-0/0/0"
EVERYONE = {
    "op-a": f"class-a,{REPRODUCIBLE}",
    "op-b": f"class-b,{REPRODUCIBLE},{HIGH}",
    "v-1": f"class-c,{REPRODUCIBLE}",
    "v-2": f"class-d,{REPRODUCIBLE}",
}


def begun(numerics: str, **joined: str) -> AuthorityKit:
    names = {name.replace("_", "-"): classes for name, classes in joined.items()}
    return AuthorityKit().begin(joined={**EVERYONE, **names}, numerics=numerics)


def refusal(answer: dict[str, Any]) -> tuple[str, str]:
    return answer["refused"], answer["detail"]


@pytest.mark.parametrize("operator", ["op-a", "op-b"])
def test_verifiers_of_any_class_judge_reproducible_work(operator: str) -> None:
    kit = begun(REPRODUCIBLE)
    kit.accept(operator, "operator", request_slot(SLOT))
    kit.accept(operator, "operator", kit.answer(operator, SLOT, numerics=REPRODUCIBLE))
    kit.reveal()
    (audit,) = kit.authority.read("audits", {})
    assert audit["party"] in {party_of("v-1"), party_of("v-2")}
    assert audit["numerics"] == REPRODUCIBLE
    kit.replay()
    assert kit.authority.settlement.segment(SLOT).audit.outcome == "ACCEPT"


def test_pinned_work_needs_a_verifier_of_its_class() -> None:
    kit = begun(PINNED)
    reason, detail = refusal(kit.send("op-a", "operator", request_slot(SLOT)))
    assert (reason, detail) == (Reason.NO_VERIFIER, "class-a")
    kit = begun(PINNED, v_2="class-a")
    kit.accept("op-a", "operator", request_slot(SLOT))
    kit.accept("op-a", "operator", kit.answer("op-a", SLOT, numerics="class-a"))


def test_a_node_gets_no_slot_in_a_mode_that_it_does_not_serve() -> None:
    kit = begun(HIGH, v_1=HIGH)
    reason, detail = refusal(kit.send("op-a", "operator", request_slot(SLOT)))
    assert (reason, detail) == (Reason.NO_VERIFIER, f"this node does not serve {HIGH}")
    kit.accept("op-b", "operator", request_slot(SLOT))


@pytest.mark.parametrize("claimed", ["class-a", HIGH, PINNED, "", "class-a,reproducible"])
def test_a_leaf_of_other_numerics_is_refused(claimed: str) -> None:
    kit = begun(REPRODUCIBLE, v_2="class-a")
    kit.accept("op-a", "operator", request_slot(SLOT))
    answer = kit.send("op-a", "operator", kit.answer("op-a", SLOT, numerics=claimed))
    assert refusal(answer)[0] == Reason.WRONG_LEAF


def test_a_task_says_its_jobs_numerics() -> None:
    kit = begun(REPRODUCIBLE)
    task = kit.authority.read("task", {"job": "job-1", "trial": "trial-task-0"})
    assert task["numerics"] == REPRODUCIBLE
