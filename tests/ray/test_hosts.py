"""Volunteers on separate hosts, with slow links to the head and no links to each other."""

import pytest

from gensyn_ray.testnet.slow_hosts import slow_hosts, why_not
from tests.kits.laptop import BUDGET
from tests.kits.slow_network import network_on
from workloads.programs.gpt import Pretraining
from workloads.programs.recipes import passages
from workloads.ray_jobs.diloco.core.plan import Plan

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "there can be such hosts"),
]
CONFIG = {"width": 32, "layers": 1, "heads": 2, "lr": 5e-3, "batch": 8, "total_steps": 20}


def test_volunteers_that_cannot_reach_each_other_train_one_model() -> None:
    texts = {"a": "to be or not to be " * 500, "b": "that is the question " * 500}
    prepared = passages(texts, length=32, vocabulary=256)
    with (
        slow_hosts([1.0, 1.0], mbit=20, apart=True) as hosts,
        network_on(hosts, seed=37) as client,
    ):
        client.store.put_prepared(prepared)
        job = client.pretrain(
            Pretraining,
            config=CONFIG,
            plan=Plan(rounds=2, steps=10),
            workers=(2, 2),
            budget=BUDGET,
            data=prepared.manifest.digest,
        )
        result = job.result(timeout_s=720)
        names = {one.id: one.name for one in client.read("operators")}
    assert result.summary.state == "done"
    assert len(result.outcome.rounds) == 3
    assert {names[one.operator] for one in result.receipts} == {host.name for host in hosts}
