"""DiLoCo on a real cluster: rounds with a cheat's pseudo-gradients are computed again; a node dies
and another joins; a program that raises ends its job with its message."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from gensyn_ray.api.job import Job, JobResult
from gensyn_ray.api.network import Network
from gensyn_ray.api.terms import Audit, Budget
from gensyn_ray.domain.errors import OperationError, UsageError
from gensyn_ray.domain.money import MICRO_PER_CREDIT
from gensyn_ray.object_store.blobs import Blobs
from gensyn_ray.testnet.local import LocalNetwork, wait_for
from tests.kits.ray_network import STAKE_MICRO
from workloads.core.rng import Rng
from workloads.numerics.profiles import best_profiles
from workloads.programs.gpt import Pretraining
from workloads.programs.recipes import passages
from workloads.ray_jobs.diloco.core.plan import Plan

pytestmark = pytest.mark.soak

CONFIG = {"width": 32, "layers": 2, "heads": 2, "lr": 5e-3, "batch": 8, "total_steps": 45}
ROUNDS, STEPS = 3, 15


@pytest.fixture(scope="module")
def network() -> Iterator[LocalNetwork]:
    """Head, verifier node, two honest volunteers of different kinds, and a lazy one."""
    profiles = best_profiles()[:2]
    with LocalNetwork(seed=17) as local:
        local.start(profiles)
        local.add_volunteer("honest-1", profiles[0], stake_micro=STAKE_MICRO)
        local.add_volunteer("honest-2", profiles[1], stake_micro=STAKE_MICRO)
        local.add_volunteer("lazy", profiles[0], stake_micro=STAKE_MICRO, adversary="lazy")
        yield local


@pytest.fixture(scope="module")
def data(network: LocalNetwork) -> str:
    """Digest of a text with few distinct words: a small model learns it in few steps."""
    words = ["two", "households", "both", "alike", "in", "dignity", "where", "we", "lay", "our"]
    chosen = Rng("words").integers((2, 6000), len(words)).tolist()
    texts = {f"{at}": " ".join(words[one] for one in row) for at, row in enumerate(chosen)}
    prepared = passages(texts, length=32, vocabulary=256)
    Blobs(network.facts["blobs"]).put_prepared(prepared)
    return prepared.manifest.digest


def _pretrain(client: Network, data: str, config: dict[str, Any], **options: Any) -> Job:
    return client.pretrain(
        Pretraining,
        config=config,
        plan=Plan(rounds=ROUNDS, steps=STEPS),
        workers=(1, 3),
        budget=Budget(total_micro=500 * MICRO_PER_CREDIT, per_segment_micro=MICRO_PER_CREDIT),
        data=data,
        seed=2,
        **options,
    )


def _losses(result: JobResult) -> list[float]:
    return [one.metrics["loss"] for one in result.outcome.rounds]


def test_a_cheat_is_caught_and_its_pseudo_gradients_are_in_no_round(
    network: LocalNetwork, client: Network, data: str
) -> None:
    # With at least three rounds of the cheat, 1 - 0.1^3: one run in a thousand draws none of them.
    job = _pretrain(client, data, CONFIG, audit=Audit(rate_ppm=900_000, draw_batch=1))
    result = job.result(timeout_s=720)
    rounds, bill = result.outcome.rounds, result.bill
    assert result.summary.state == "done"
    assert len(rounds) == ROUNDS + 1
    losses = _losses(result)
    assert losses[-1] < 0.7 * losses[0]
    lazy = network.members["lazy"].key.party
    assert bill.tombstoned == [lazy]
    receipts = {one.slot.split("/")[1]: one for one in result.receipts}
    for one in rounds:
        assert receipts[one.task].outcome == "ACCEPT", "an outer step is always replayed"
        for gradient in one.pseudo_gradients:
            assert not receipts[gradient.task].void
            assert receipts[gradient.task].operator != lazy
    paid = Counter(one.operator for one in result.receipts if one.paid_micro)
    assert lazy not in paid
    assert bill.paid_micro == paid.total() * MICRO_PER_CREDIT
    state = client.state(result.state)
    assert torch.isfinite(state["parameters/model/tokens.weight"]).all()


def test_a_node_dies_and_another_joins(network: LocalNetwork, client: Network, data: str) -> None:
    job = _pretrain(client, data, {**CONFIG, "seed": 1}, audit=Audit(rate_ppm=200_000))
    wait_for(lambda: job.status().segments.committed >= 2, timeout_s=360, what="the first round")
    network.kill_node("honest-2")
    network.add_volunteer("late", best_profiles()[0], stake_micro=STAKE_MICRO)
    result = job.result(timeout_s=720)
    assert result.summary.state == "done"
    losses = _losses(result)
    assert losses[-1] < 0.7 * losses[0]
    assert result.bill.segments.rejected == 0
    assert result.bill.tombstoned == [network.members["lazy"].key.party]
    paid = sum(one.paid_micro for one in result.receipts)
    assert result.bill.paid_micro == paid


def test_a_program_that_raises_says_what(client: Network, data: str) -> None:
    wrong, said = {**CONFIG, "heads": 5}, "the width 32 is not an even multiple of 5 heads"
    with pytest.raises(UsageError, match=said):
        _pretrain(client, data, wrong)
    job = _pretrain(client, data, wrong, dry_run=False)
    with pytest.raises(OperationError, match=said):
        job.result(timeout_s=540)
