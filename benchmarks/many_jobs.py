"""Many jobs opened at once: does each end well, what does the head take, how fast does it answer?

    python -m benchmarks.many_jobs --json [--jobs 50] [--quick]

A local network with two volunteers. Each job trains one small program of its own. The ratio is the
wall time of all jobs, divided by their number times the wall time of one job alone: below 1, jobs
share what the machine has. Memory is the proportional set size of the head's processes, its drivers
included: without volunteers, verifiers and agents. A reading is one job's status, asked by one
client once a second.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any

import psutil
import torch
from ray import tune

import gensyn_ray
from gensyn_ray.api.job import Job
from gensyn_ray.api.network import Network
from gensyn_ray.domain.money import MICRO_PER_CREDIT
from gensyn_ray.operators.agent import ANY_PROGRAM
from gensyn_ray.testnet.local import LocalNetwork
from workloads.core.program import Config
from workloads.core.rng import Rng
from workloads.core.state import State
from workloads.numerics.profiles import best_profiles

JOBS = 50
QUICK_JOBS = 3
AT_ONCE = 8
"""Threads that open jobs."""
EVERY_S = 1.0
TIMEOUT_S = 3000.0


class Line(gensyn_ray.Program):
    """Fits a line."""

    steps_per_segment, segments = 5, 2

    def load_data(self) -> State:
        x = torch.linspace(-1, 1, 64).reshape(-1, 1)
        return {"x": x, "y": 3 * x + 1}

    def init(self, config: Config, data: State, rng: Rng) -> None:
        self.model = torch.nn.Linear(1, 1)
        rng.init_linear_(self.model)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=float(config["lr"]))

    def step(self, data: State, rng: Rng) -> None:
        loss = torch.nn.functional.mse_loss(self.model(data["x"]), data["y"])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def evaluate(self, data: State) -> dict[str, float]:
        return {"loss": float(torch.nn.functional.mse_loss(self.model(data["x"]), data["y"]))}


class Watch(Thread):
    """Samples the head's memory (bytes) and the time of a reading (seconds) until it is told."""

    def __init__(self, network: LocalNetwork, jobs: list[Job]) -> None:
        super().__init__(daemon=True)
        self._network, self._jobs = network, jobs
        self.memory: list[int] = []
        self.readings_s: list[float] = []
        self.stopping = Event()

    def run(self) -> None:
        while not self.stopping.wait(EVERY_S):
            self.memory.append(head_bytes(self._network))
            if self._jobs:
                begun = time.monotonic()
                self._jobs[-1].status()
                self.readings_s.append(time.monotonic() - begun)


def head_bytes(network: LocalNetwork) -> int:
    """Proportional set size of the head's Ray processes and of the authority."""
    total = 0
    for process in (*network.processes_of("node head"), *network.processes_of("authority")):
        with suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total


@contextmanager
def two_volunteers() -> Iterator[tuple[LocalNetwork, Network]]:
    """A local network whose volunteers take any program, and a funded submitter."""
    _, profile = best_profiles()
    with LocalNetwork(seed=1, allow=[ANY_PROGRAM]) as network:
        network.start([profile])
        for name in ("volunteer-1", "volunteer-2"):
            network.add_volunteer(name, profile, stake_micro=100_000 * MICRO_PER_CREDIT)
        client = Network(network.key("submitter"))
        client.join("submitter")
        network.fund(client.party, 10**6 * MICRO_PER_CREDIT)
        yield network, client


def open_one(client: Network, number: int) -> Job:
    """Open a job; each one has another learning rate."""
    return client.sweep(
        Line,
        param_space={"lr": 0.1 + number / 1000},
        tune_config=tune.TuneConfig(metric="loss", mode="min"),
        budget=gensyn_ray.Budget.from_credits(10),
        numerics="pinned",
    )


def run(count: int) -> dict[str, Any]:
    """One job alone, then `count` at once. Raises `SystemExit` if one does not end well."""
    with two_volunteers() as (network, client):
        open_one(client, 0).result(timeout_s=TIMEOUT_S)  # the first job of a network is slower
        begun = time.monotonic()
        open_one(client, 0).result(timeout_s=TIMEOUT_S)
        alone_s = time.monotonic() - begun
        jobs: list[Job] = []
        watch = Watch(network, jobs)
        watch.start()
        begun = time.monotonic()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for job in pool.map(lambda number: open_one(client, number), range(1, count + 1)):
                jobs.append(job)
        opened_s = time.monotonic() - begun
        results = [job.result(timeout_s=TIMEOUT_S) for job in jobs]
        all_s = time.monotonic() - begun
        watch.stopping.set()
        watch.join()
    for job, result in zip(jobs, results, strict=True):
        if (str(result.summary.state), len(result.receipts)) != ("done", Line.segments):
            raise SystemExit(f"{job.id} ended as {result.describe()}")
    return {
        "name": "many_jobs",
        "ratio": round(all_s / (count * alone_s), 3),
        "better": "lower",
        "unit": "s",
        "cases": [
            {
                "case": f"{count} jobs at once, against as many times one alone",
                "ours": round(all_s, 1),
                "baseline": round(count * alone_s, 1),
                "ratio": round(all_s / (count * alone_s), 3),
            }
        ],
        "opened_s": round(opened_s, 1),
        "head_gib": round(max(watch.memory) / 2**30, 2),
        "reading_median_s": round(statistics.median(watch.readings_s), 3),
        "reading_worst_s": round(max(watch.readings_s), 3),
    }


def main() -> None:
    """Print the figures, then the JSON object if asked."""
    parser = argparse.ArgumentParser(description="Many jobs at once")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_JOBS} jobs")
    options = parser.parse_args()
    result = run(QUICK_JOBS if options.quick else options.jobs)
    print("{case}: {ours} s, {baseline} s, ratio {ratio}".format(**result["cases"][0]))
    print(f"the head took {result['head_gib']} GiB at most")
    print(f"a reading took {result['reading_median_s']} s, at worst {result['reading_worst_s']} s")
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
