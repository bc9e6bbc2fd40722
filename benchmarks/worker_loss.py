"""The cost to the other workers when one leaves or joins: elastic Train against torchft.

    python -m benchmarks.worker_loss --json

Both sides run under Ray Train on a cluster of three plain nodes of this machine. Each round is the
same on both: `STEPS` steps of a tiny model with a pause after each, then the mean of all workers'
parameters.

    ours      elastic, without a process group, as `ray_jobs.diloco.train` runs Train; the
              head averages parameters, and waits for late workers as `rounds` does
    torchft   Train's `TorchftConfig`: a fixed number of replica groups; `LocalSGD` forms a quorum
              at the end of each round and averages parameters in an all-reduce on gloo

In the middle of a round all processes of one node are killed. Once the remaining workers run
steadily, a new node starts. Gap: the longest time between the ends of two rounds, from the event
until the group has its new size and runs steadily. Lost: the delay of the last of these rounds
against the usual pace. Train does not let torchft's groups shrink: it waits for the new node to
start the lost worker again; the other workers do not wait.

After a loss an elastic group waits for the previous number of nodes, for the time that
`workloads.ray_jobs.diloco.kind` sets. Train checks the nodes every 20 s, so there is no quick mode:
a run takes ten minutes.

Not covered: verification, stores and real models; hosts that vanish without closing their
connections; workers that cannot reach each other, as volunteers cannot, which torchft needs. A
starting node takes processor time from the others. torchft is no dependency of the project: run
`pip install torchft==0.2.0` first.
"""

import argparse
import importlib
import importlib.util
import itertools
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import ray
import torch
from ray import train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.torch.torchft_config import TorchftConfig
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from gensyn_ray.cluster import connection
from gensyn_ray.testnet.local import wait_for
from gensyn_ray.testnet.processes import Child, free_port, stop_all
from workloads.ray_jobs.diloco.kind import GROUP_START_S
from workloads.ray_jobs.diloco.train.run_rounds import MAX_FAILURES, RESIZE_S, NoProcessGroup
from workloads.ray_jobs.diloco.train.worker import POLL_S
from workloads.ray_jobs.kind.context import VOLUNTEER

WORKERS = 3
STEPS, STEP_S = 20, 0.1
PATIENCE_S = 0.4 * STEPS * STEP_S
"""Seconds that the head waits for late workers after the first: the least that `rounds` allows."""
KILLS = 3
SETTLE_S = 10.0
"""Least observation time of a group: Train takes seconds to detect a loss."""
CALM_ROUNDS = 3
STOP_S = 10.0
LIMIT_S = 150.0
VOLUNTEERS = "--labels=" + ",".join("=".join(one) for one in VOLUNTEER.items())
LIGHTHOUSE = {"min_replicas": 1, "join_timeout_ms": 60_000, "heartbeat_timeout_ms": 5_000}
"""Ray's example waits 100 ms for live workers; then a worker that joins out of step never forms a
quorum with all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One way of running the rounds under Train.

    `head_cpus`: torchft's lighthouse is an actor on the head that needs one. Ours must have none,
    because an elastic group counts all processors, whatever its label selector.
    """

    work: Callable[[dict[str, Any]], None]
    torch_config: TorchConfig
    num_workers: int | tuple[int, int]
    head_cpus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundEnd:
    """The time at which a round's last worker finished, and the number of its workers."""

    number: int
    at_s: float
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Cost in seconds of one worker that left or joined."""

    gap_s: float
    lost_s: float


# -- workers ------------------------------------------------------------------------------------


class Exchange:
    """Actor on the head: averages the workers' parameters."""

    def __init__(self) -> None:
        self._size = self._round = 0
        self._given: dict[int, torch.Tensor] = {}
        self._first_s = 0.0
        self._mean: torch.Tensor | None = None

    def enter(self, size: int) -> tuple[int, torch.Tensor | None]:
        """A worker of a new group started, so the round starts again."""
        self._size, self._given = size, {}
        return self._round, self._mean

    def give(self, number: int, rank: int, own: torch.Tensor) -> tuple[int, torch.Tensor | None]:
        """A worker's parameters of a round. The worker repeats the call until the next round."""
        if number == self._round:
            if not self._given:
                self._first_s = time.monotonic()
            self._given[rank] = own
            missing = self._size - len(self._given)
            is_late = time.monotonic() - self._first_s > PATIENCE_S
            if not missing or (is_late and missing <= len(self._given)):
                self._mean = torch.stack(list(self._given.values())).mean(0)
                self._round, self._given = self._round + 1, {}
        return self._round, self._mean


def model_and_optimizer() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = torch.nn.Linear(16, 16)
    return model, torch.optim.SGD(model.parameters(), lr=1e-3)


def take_steps(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """The steps of one round."""
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(torch.randn(8, 16)).square().mean().backward()
        time.sleep(STEP_S)
        optimizer.step()


def note(folder: Path, number: int, size: int) -> None:
    with (folder / f"{os.getpid()}.rounds").open("a") as file:
        file.write(f"{number} {time.monotonic()} {size}\n")


def work_with_head(config: dict[str, Any]) -> None:
    """Worker of our side: sends parameters to the head."""
    folder, exchange = config["folder"], config["exchange"]
    rank, size = train.get_context().get_world_rank(), train.get_context().get_world_size()
    model, optimizer = model_and_optimizer()
    number, mean = ray.get(exchange.enter.remote(size))
    while not (folder / "stop").exists():
        if mean is not None:
            vector_to_parameters(mean, model.parameters())
        take_steps(model, optimizer)
        own, begun = parameters_to_vector(model.parameters()).detach(), number
        while number == begun:
            number, mean = ray.get(exchange.give.remote(begun, rank, own))
            if number == begun:
                time.sleep(POLL_S)
        note(folder, number, size)


def work_with_torchft(config: dict[str, Any]) -> None:
    """Worker of torchft: its own replica group."""
    torchft: Any = importlib.import_module("torchft")
    local_sgd: Any = importlib.import_module("torchft.local_sgd")
    transports: Any = importlib.import_module("torchft.checkpointing.pg_transport")
    folder, wait = config["folder"], timedelta(seconds=30)
    model, optimizer = model_and_optimizer()
    group = torchft.ProcessGroupGloo(timeout=wait)
    manager = torchft.Manager(
        pg=group,
        min_replica_size=1,
        load_state_dict=model.load_state_dict,
        state_dict=model.state_dict,
        world_size=1,
        rank=0,
        replica_id=f"worker_{train.get_context().get_world_rank()}",
        hostname=ray.util.get_node_ip_address(),
        checkpoint_transport=transports.PGTransport(
            group, timeout=wait, device=torch.device("cpu")
        ),
    )
    with local_sgd.LocalSGD(manager, model, optimizer, STEPS):
        while not (folder / "stop").exists():
            begun = manager.current_step()
            take_steps(model, optimizer)
            if manager.current_step() > begun:
                note(folder, manager.current_step(), manager.num_participants())
    manager.shutdown()


# -- the cluster ---------------------------------------------------------------------------------


class PlainCluster:
    """A head without workers, and nodes for one worker each, as processes of this machine."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="gensyn-"))
        self._address = f"127.0.0.1:{free_port()}"
        self._children: list[Child] = []
        """The head, then its nodes, oldest first."""

    def start(self, head_cpus: int) -> None:
        """Start the head, with this process as its driver, and a node for each worker."""
        connection.use_token(os.urandom(32).hex())
        port = self._address.rpartition(":")[2]
        options = ["--head", f"--port={port}", f"--num-cpus={head_cpus}"]
        head = self._ray_start("head", *options, f"--temp-dir={self.home / 'ray'}")
        head.wait_until(lambda: "Ray runtime started" in head.words(), timeout_s=LIMIT_S)
        connection.attach(self._address)
        for _ in range(WORKERS):
            self.add_node()

    def add_node(self) -> None:
        """Start a node and wait until it is up."""
        before = self._alive()
        node = self._ray_start("node", f"--address={self._address}", "--num-cpus=1", VOLUNTEERS)
        node.wait_until(lambda: self._alive() > before, timeout_s=LIMIT_S)

    def kill_node(self) -> None:
        """SIGKILL all processes of the oldest node, and wait until Ray detects it."""
        before = self._alive()
        self._children.pop(1).kill_all()
        wait_for(lambda: self._alive() < before, timeout_s=LIMIT_S, what="a node's death")

    def stop(self) -> None:
        """End the processes that were started here."""
        ray.shutdown()
        stop_all(self._children)
        shutil.rmtree(self.home, ignore_errors=True)

    def _ray_start(self, name: str, *options: str) -> Child:
        command = [str(Path(sys.executable).with_name("ray")), "start", "--block", *options]
        command += ["--disable-usage-stats", "--node-ip-address=127.0.0.1", "--num-gpus=0"]
        command += [f"--dashboard-agent-listen-port={free_port()}"]
        if name == "head":
            command += ["--include-dashboard=false"]
        child = Child(name, command, env={"OMP_NUM_THREADS": "1"}, log=self.home / f"{name}.log")
        self._children.append(child)
        return child

    def _alive(self) -> int:
        return sum(node["Alive"] for node in ray.nodes())


@contextmanager
def running_cluster(head_cpus: int) -> Iterator[PlainCluster]:
    nodes = PlainCluster()
    try:
        nodes.start(head_cpus)
        yield nodes
    finally:
        nodes.stop()


# -- measuring -----------------------------------------------------------------------------------


class Run:
    """A running side; its rounds are read from the workers' notes."""

    def __init__(self, side: Side, folder: Path) -> None:
        self._folder = folder
        self._problem: Exception | None = None
        folder.mkdir()
        here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
        exchange = ray.remote(Exchange).options(num_cpus=0, label_selector=here).remote()
        self._trainer = TorchTrainer(
            side.work,
            train_loop_config={"folder": folder, "exchange": exchange},
            torch_config=side.torch_config,
            scaling_config=ScalingConfig(
                num_workers=side.num_workers,
                resources_per_worker={"CPU": 1},
                label_selector=VOLUNTEER,
                placement_strategy="SPREAD",
                elastic_resize_monitor_interval_s=RESIZE_S,
            ),
            run_config=RunConfig(
                storage_path=str(folder), failure_config=FailureConfig(max_failures=MAX_FAILURES)
            ),
        )
        self._fitting = threading.Thread(target=self._fit, daemon=True)
        self._fitting.start()

    def _fit(self) -> None:
        try:
            self._trainer.fit()
        except Exception as error:  # handed to the thread that waits
            self._problem = error

    def stop(self) -> None:
        """Tell the workers to end. Train does not end while it waits for a node."""
        (self._folder / "stop").touch()
        self._fitting.join(STOP_S)

    def ends(self) -> list[RoundEnd]:
        """The rounds so far, in order."""
        rounds: dict[int, RoundEnd] = {}
        for file in self._folder.glob("*.rounds"):
            for line in file.read_text().splitlines():
                number, at_s, size = line.split()
                end = RoundEnd(number=int(number), at_s=float(at_s), size=int(size))
                known = rounds.get(end.number, end)
                rounds[end.number] = max(known, end, key=lambda one: one.at_s)
        return [rounds[number] for number in sorted(rounds)]

    def settle(self, size: int, *, since_s: float) -> list[RoundEnd]:
        """Wait until that many workers run steadily; returns the rounds so far."""

        def is_calm() -> bool:
            if self._problem is not None:
                raise self._problem
            last = self.ends()[-CALM_ROUNDS:]
            is_new = len(last) == CALM_ROUNDS and last[0].at_s > since_s
            return is_new and all(one.size == size for one in last)

        time.sleep(max(0.0, since_s + SETTLE_S - time.monotonic()))
        wait_for(is_calm, timeout_s=LIMIT_S, what=f"a calm group of {size}")
        return self.ends()

    def usual_s(self) -> float:
        """Seconds of a round while the group runs steadily."""
        last = self.ends()[-CALM_ROUNDS:]
        return (last[-1].at_s - last[0].at_s) / (CALM_ROUNDS - 1)

    def cost(self, happens: Callable[[], None], *, size: int, usual_s: float) -> Cost:
        """The cost of an event in the middle of a round that leaves `size` workers."""
        seen = len(self.ends())
        wait_for(lambda: len(self.ends()) > seen, timeout_s=LIMIT_S, what="a round")
        time.sleep(max(0.0, self.ends()[-1].at_s + usual_s / 2 - time.monotonic()))
        at_s = time.monotonic()
        happens()
        ends = self.settle(size, since_s=at_s)
        first = max(index for index, one in enumerate(ends) if one.at_s <= at_s)
        took_s = ends[-1].at_s - ends[first].at_s
        return Cost(
            gap_s=max(b.at_s - a.at_s for a, b in itertools.pairwise(ends[first:])),
            lost_s=took_s - usual_s * (ends[-1].number - ends[first].number),
        )


def measure(name: str, side: Side, kills: int) -> dict[str, list[Cost]]:
    """Costs on one side, by event."""
    costs: dict[str, list[Cost]] = {"usual": [], "leaves": [], "joins": []}
    with running_cluster(side.head_cpus) as nodes:
        run = Run(side, nodes.home / "rounds")
        run.settle(WORKERS, since_s=time.monotonic())
        while len(costs["leaves"]) < kills:
            usual_s = run.usual_s()
            costs["usual"].append(Cost(gap_s=usual_s, lost_s=0.0))
            costs["leaves"].append(run.cost(nodes.kill_node, size=WORKERS - 1, usual_s=usual_s))
            print(f"{name}, one leaves: {costs['leaves'][-1]}", flush=True)
            costs["joins"].append(run.cost(nodes.add_node, size=WORKERS, usual_s=usual_s))
            print(f"{name}, one joins: {costs['joins'][-1]}", flush=True)
        run.stop()
    return costs


def case(what: str, ours: list[Cost], theirs: list[Cost]) -> dict[str, Any]:
    """Medians of the gaps and of the lost seconds."""
    gap_s, their_gap_s = (median(one.gap_s for one in side) for side in (ours, theirs))
    return {
        "case": f"{what}: longest gap between rounds",
        "ours": round(gap_s, 2),
        "baseline": round(their_gap_s, 2),
        "ratio": round(gap_s / their_gap_s, 2),
        "lost": round(median(one.lost_s for one in ours), 2),
        "baseline_lost": round(median(one.lost_s for one in theirs), 2),
        "samples": [[round(one.gap_s, 2) for one in side] for side in (ours, theirs)],
    }


def run(kills: int) -> list[dict[str, Any]]:
    """Both sides, one after the other."""
    elastic = Side(
        work=work_with_head,
        torch_config=NoProcessGroup(),
        num_workers=(1, WORKERS),
        head_cpus=0,
    )
    replicas = Side(
        work=work_with_torchft,
        torch_config=TorchftConfig(lighthouse_kwargs=LIGHTHOUSE, backend="gloo"),
        num_workers=WORKERS,
        head_cpus=1,
    )
    ours, theirs = measure("ours", elastic, kills), measure("torchft", replicas, kills)
    return [case(what, ours[what], theirs[what]) for what in ours]


def main() -> int:
    parser = argparse.ArgumentParser(description="What the loss of one worker costs the others")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--kills", type=int, default=KILLS)
    options = parser.parse_args()
    if importlib.util.find_spec("torchft") is None:
        print("torchft is missing: pip install torchft==0.2.0", file=sys.stderr)
        return 2
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(GROUP_START_S)
    cases = run(options.kills)
    for one in cases:
        print("{case}: {ours} s, torchft {baseline}; lost {lost}, {baseline_lost}".format(**one))
    if options.json:
        headline = {"name": "worker_loss", "better": "lower", "unit": "s"}
        print(json.dumps({**headline, "ratio": cases[1]["ratio"], "cases": cases}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
