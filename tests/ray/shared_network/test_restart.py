"""The head or only the driver dies in the middle of a sweep. The search continues: no trial is
lost, and no acknowledged segment is computed or paid again."""

import subprocess
import sys
from collections import Counter
from itertools import groupby
from pathlib import Path

import psutil
import pytest

from gensyn_ray.api.job import Job, JobResult
from gensyn_ray.api.network import Network
from gensyn_ray.api.terms import Audit, Budget
from gensyn_ray.cli.small_sweep import digits_space, tpe_with_asha
from gensyn_ray.domain.money import MICRO_PER_CREDIT
from gensyn_ray.testnet.local import LocalNetwork, wait_for
from workloads.programs.digits import Digits

pytestmark = pytest.mark.soak

TRIALS = 3
BUDGET = Budget(total_micro=200 * MICRO_PER_CREDIT, per_segment_micro=MICRO_PER_CREDIT)


def _sweep(client: Network, seed: int) -> Job:
    return client.sweep(
        Digits,
        param_space=digits_space(),
        tune_config=tpe_with_asha(seed, TRIALS, 2),
        budget=BUDGET,
        audit=Audit(rate_ppm=250_000, draw_batch=4),
        seed=seed,
    )


def _wait_for_segments(job: Job, count: int) -> None:
    wait_for(
        lambda: job.status().segments.committed >= count,
        timeout_s=720,
        what=f"{count} segments",
    )


def _check_the_end(result: JobResult, acknowledged: int) -> None:
    assert result.summary.state == "done", result.summary
    assert result.outcome.trials == TRIALS
    assert len(result.grid) == TRIALS
    assert result.bill.tasks == TRIALS, "each trial is one task, before and after"
    slots = [one.slot.split("/") for one in result.receipts]
    assert len(slots) == result.bill.segments.committed >= acknowledged
    for task, chain in groupby(sorted(slots), lambda slot: slot[1]):
        segments = [int(slot[2]) for slot in chain]
        assert segments == list(range(len(segments))), f"each segment of {task} once"
        assert len(segments) <= Digits.segments
    paid = sum(one.paid_micro for one in result.receipts)
    assert paid == len(slots) * MICRO_PER_CREDIT == result.bill.paid_micro
    assert result.bill.closed
    assert result.bill.escrow_micro == 0
    ends = Counter(slot[1] for slot in slots)
    for trial in result.grid:
        assert trial.metrics is not None
        told = trial.metrics["training_iteration"]
        # At an early stop the segment computed ahead is discarded or committed.
        assert ends[trial.metrics["task"]] in (told, told + 1)


def _verify(network: LocalNetwork, journal: Path) -> None:
    python, cli = sys.executable, ["-m", "gensyn_ray.cli.main", "ledger"]
    home = str(network.home / "authority")
    export = [python, *cli, "export", str(journal), "--home", home, "--format", "journal"]
    subprocess.run(export, check=True)
    key = network.facts["network_key"]
    subprocess.run([python, *cli, "verify", str(journal), "--key", key, "--draws"], check=True)


def test_a_head_that_dies_and_is_started_again(
    network: LocalNetwork, client: Network, tmp_path: Path
) -> None:
    job = _sweep(client, seed=1)
    _wait_for_segments(job, 6)
    acknowledged = job.status().segments.committed
    network.restart_head()
    again = Network(network.key("submitter"))
    result = again.job(job.id).result(timeout_s=1200)
    _check_the_end(result, acknowledged)
    _verify(network, tmp_path / "journal")
    # The new Ray cluster does not know this job.
    network.restart_head()
    known = Network(network.key("submitter")).job(job.id).result(timeout_s=60)
    assert known.summary == result.summary
    assert known.receipts == result.receipts


def test_a_driver_that_dies_alone(client: Network) -> None:
    job = _sweep(client, seed=2)
    _wait_for_segments(job, 6)
    acknowledged = job.status().segments.committed
    _driver_of(job.id).kill()
    _check_the_end(job.result(timeout_s=1200), acknowledged)


def test_a_restored_search_still_takes_its_submitters_commands(client: Network) -> None:
    job = _sweep(client, seed=3)
    _wait_for_segments(job, 4)
    _driver_of(job.id).kill()
    _wait_for_segments(job, job.status().segments.committed + 2)
    assert job.cancel(timeout_s=720)
    result = job.result(timeout_s=60)
    assert result.summary.state == "cancelled"
    assert result.bill.paid_micro == result.bill.segments.committed * MICRO_PER_CREDIT


def _driver_of(job: str) -> psutil.Process:
    """The process of a job's driver, below this network's head."""
    for process in psutil.Process().children(recursive=True):
        command = process.cmdline()
        if command[1:4] == ["-m", "gensyn_ray.jobs.driver", job]:
            return process
    raise AssertionError(f"no driver of {job} runs")
