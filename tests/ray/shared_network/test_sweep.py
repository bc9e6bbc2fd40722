"""Sweeps on a real cluster: reconnection, two objectives, population based training, node loss."""

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.samplers import TPESampler
from ray import tune
from ray.tune.search.optuna import OptunaSearch
from safetensors.torch import load_file

from gensyn_ray.api.job import Job, JobResult
from gensyn_ray.api.network import Network
from gensyn_ray.api.terms import Audit, Budget
from gensyn_ray.domain.errors import UsageError
from gensyn_ray.domain.money import MICRO_PER_CREDIT
from gensyn_ray.testnet.local import LocalNetwork, Member, wait_for
from tests.kits.laptop import population_based
from tests.kits.ray_network import VOLUNTEERS
from workloads.core.objectives import leaders
from workloads.core.rng import Rng
from workloads.programs.digits import Digits
from workloads.ray_jobs.search.core.result_keys import LEAF, RECEIPT

pytestmark = pytest.mark.soak

BUDGET = Budget(total_micro=1000 * MICRO_PER_CREDIT, per_segment_micro=MICRO_PER_CREDIT)


def _sweep(client: Network, rates: list[float], **options: Any) -> Job:
    return client.sweep(
        Digits,
        param_space={
            "lr": tune.grid_search(rates),
            "momentum": 0.9,
            "width": 16,
        },
        tune_config=tune.TuneConfig(metric="accuracy", mode="max", **options),
        budget=BUDGET,
        audit=Audit(rate_ppm=250_000, draw_batch=4),
    )


def test_a_job_can_be_found_again_and_gives_tunes_own_result(
    client: Network, tmp_path: Path
) -> None:
    job = client.job(_sweep(client, [0.02, 0.04]).id)
    result = job.result(timeout_s=540)
    assert result.summary.state == "done"
    assert len(result.grid) == 2
    best = result.grid.get_best_result("accuracy", "max")
    assert best.metrics is not None
    assert best.metrics["accuracy"] > 0.9
    assert len(result.receipts) == 2 * Digits.segments
    assert result.bill.paid_micro == len(result.receipts) * MICRO_PER_CREDIT
    assert result.bill.segments.rejected == 0
    leader = [one for one in result.receipts if f"/{best.metrics['task']}/" in one.slot]
    assert all(one.outcome == "ACCEPT" for one in leader)
    _check_what_comes_back(result, best, tmp_path)


def _check_what_comes_back(result: JobResult, best: tune.Result, folder: Path) -> None:
    assert (result.grid.num_terminated, result.grid.num_errors) == (2, 0)
    assert not {LEAF, RECEIPT} & set(result.grid.get_dataframe().columns)
    assert best.metrics is not None
    assert best.checkpoint is not None
    stored = load_file(Path(best.checkpoint.to_directory(folder)) / "model.safetensors")
    program, data = Digits(), Digits().load_data()
    program.init(best.config or {}, data, Rng("any"))
    for weights in (stored, result.model_state(), result.model_state(best)):
        program.model.load_state_dict(weights, strict=True)
        accuracy = program.evaluate(data)["accuracy"]
        assert accuracy == pytest.approx(best.metrics["accuracy"], abs=0.01)
    other = next(one for one in result.grid if one.path != best.path)
    assert set(result.model_state(other)) == set(stored)
    assert any(
        not torch.equal(one, stored[name]) for name, one in result.model_state(other).items()
    )


def test_two_objectives_give_a_front_whose_trials_are_all_audited(client: Network) -> None:
    objectives = {"accuracy": "max", "loss": "min"}
    search = OptunaSearch(
        metric=list(objectives), mode=list(objectives.values()), sampler=TPESampler(seed=1)
    )
    shown = tune.TuneConfig(metric="accuracy", mode="max", search_alg=search, num_samples=4)
    job = client.sweep(
        Digits,
        param_space={"lr": tune.loguniform(1e-3, 0.1), "momentum": 0.9, "width": 16},
        tune_config=shown,
        budget=BUDGET,
        audit=Audit(rate_ppm=100_000, draw_batch=4),
    )
    result = job.result(timeout_s=720)
    assert result.outcome.objectives == objectives
    values = {one.metrics["task"]: one.metrics for one in result.grid if one.metrics}
    assert len(values) == 4
    outcomes = {task: set[str]() for task in values}
    for one in result.receipts:
        outcomes[one.slot.split("/")[1]].add(one.outcome)
    for task in leaders(values, result.outcome.objectives):
        assert outcomes[task] == {"ACCEPT"}


def test_population_based_training_exploits_states_of_other_trials(client: Network) -> None:
    result = _sweep(client, [0.00001, 0.05], scheduler=population_based()).result(timeout_s=720)
    assert result.summary.state == "done"
    assert result.bill.segments.rejected == 0
    assert result.bill.segments.inconclusive == 0
    grown = [one for one in result.receipts if "." in one.slot.split("/")[1]]
    assert grown, "the bad trial went on as a new task, from a state of the good one"
    assert any(one.outcome == "ACCEPT" for one in grown)


def test_a_submitter_without_credits_is_told_so(network: LocalNetwork) -> None:
    poor = Network(network.key("somebody else"))
    poor.join("somebody-else")
    with pytest.raises(UsageError, match=f"your key has 0 credits .* to {poor.party}"):
        _sweep(poor, [0.02])


def test_a_wrong_token_gives_one_clear_line(network: LocalNetwork) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gensyn_ray.cli.main", "watch", "x", "--address", network.address],
        env={**os.environ, "RAY_AUTH_TOKEN": "0" * 32},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "RAY_AUTH_TOKEN" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_dying_node_loses_nothing_that_was_acknowledged(
    network: LocalNetwork, client: Network, spare: Member
) -> None:
    """The trial continues elsewhere from its last acknowledged state. No audit is repeated."""
    job = _sweep(client, [0.02, 0.04, 0.06, 0.08])

    def committed_by() -> Counter[str]:
        operators = network.ledger.read("operators", job=job.id)
        return Counter({one["name"]: one["committed"] for one in operators})

    wait_for(lambda: committed_by()[spare.name] >= 3, timeout_s=360, what="work on the spare node")
    network.kill_node(spare.name)
    killed_at = time.monotonic()
    acknowledged = job.status().segments.committed
    result = job.result(timeout_s=720)
    assert result.summary.state == "done", time.monotonic() - killed_at
    assert result.outcome.trials == 4
    receipts = result.receipts
    assert len(receipts) >= acknowledged
    assert len({one.slot for one in receipts}) == len(receipts)
    assert result.bill.segments.settled == result.bill.segments.committed
    assert result.bill.segments.rejected == 0
    per_task = Counter(one.slot.split("/")[1] for one in receipts)
    assert set(per_task.values()) == {Digits.segments}, "each task stands on each segment once"
    moved = {one.slot.split("/")[1] for one in receipts if one.slot.split("/")[3] != "0"}
    assert moved, "a task went on elsewhere at its next attempt"
    paid = Counter(one.operator for one in receipts if one.paid_micro)
    assert sum(paid.values()) == len(receipts)
    assert set(paid) == {network.members[name].key.party for name in (*VOLUNTEERS, spare.name)}
