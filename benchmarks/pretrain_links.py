"""Tokens a second of DiLoCo on slow links: `python -m benchmarks.pretrain_links --json [--quick]`.

One, two and four volunteers on separate hosts (`gensyn_ray.testnet.slow_hosts`) with links of 20
Mbit/s; each second host has half the processor of the first. Ours is a whole network: a DiLoCo job
with a verifier, its objects in a bucket that volunteers reach only over their links. Plain
data-parallel training is torch's own on gloo, in stock arithmetic, with the same hosts, links,
model and passages a step. Each side is compared with itself on one node. Ours counts from the
second accepted outer step to the last; plain training counts from its third step.

Not covered: latency, which is this machine's. Volunteers reach the authority through a Unix socket,
not over the links; they reach Ray's head over the links.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch

from gensyn_ray.api.terms import Audit, Budget
from gensyn_ray.domain.money import MICRO_PER_CREDIT
from gensyn_ray.testnet.processes import free_port
from gensyn_ray.testnet.slow_hosts import SlowHost, slow_hosts, why_not
from tests.kits.slow_network import network_on
from workloads.core.dataset import DataSet, Prepared
from workloads.core.rng import Rng
from workloads.programs.gpt import Pretraining
from workloads.programs.recipes import shakespeare
from workloads.ray_jobs.diloco.core.rounds import Plan

MBIT = 20
SHARES = (0.4, 0.2, 0.4, 0.2)
"""Share of a core for each volunteer; on two cores four leave room for head and verifier."""
NODES = (1, 2, 4)
LENGTH = 64
BATCH = 16
CONFIG: Mapping[str, Any] = {
    "width": 128,
    "layers": 2,
    "heads": 4,
    "lr": 2e-3,
    "batch": BATCH,
    "eval_rows": 16,
}
ROUNDS, STEPS = 4, 120
QUICK_ROUNDS, QUICK_STEPS = 2, 10
PLAIN_STEPS, PLAIN_WARM = 12, 2
JOB_S = 900.0


def diloco(hosts: list[SlowHost], rounds: int, steps: int) -> tuple[float, list[Any]]:
    """Tokens a second of a job on these hosts, and for each round its end in seconds and its
    workers' steps."""
    prepared = shakespeare(length=LENGTH)
    with network_on(hosts, seed=1) as client:
        for host in hosts:
            host.slow_down()
        client.store.put_prepared(prepared)
        job = client.pretrain(
            Pretraining,
            config={**CONFIG, "total_steps": rounds * steps},
            plan=Plan(rounds=rounds, steps=steps),
            workers=(len(hosts), len(hosts)),
            budget=Budget(total_micro=1000 * MICRO_PER_CREDIT, per_segment_micro=1),
            data=prepared.manifest.digest,
            audit=Audit(rate_ppm=50_000),
        )
        states = job.result(timeout_s=JOB_S).outcome.rounds
    done = sum(one.steps for state in states[2:] for one in state.pseudo_gradients)
    ends = [[state.at_s, [one.steps for one in state.pseudo_gradients]] for state in states]
    return done * BATCH * LENGTH / (states[-1].at_s - states[1].at_s), ends


def plainly(hosts: list[SlowHost], steps: int) -> float:
    """Tokens a second of plain data-parallel training on these hosts."""
    port = free_port()
    ranks: list[subprocess.Popen[str]] = []
    for rank, host in enumerate(hosts):
        host.slow_down()
        shape = [str(rank), str(len(hosts)), hosts[0].ip, str(port), str(steps)]
        command = [sys.executable, "-m", "benchmarks.pretrain_links", "--rank", *shape]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "eth0"}
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True}
        ranks.append(subprocess.Popen([*host.prefix, *command], env=env, **pipes))
    said = [one.communicate(timeout=JOB_S)[0] for one in ranks]
    if any(one.returncode for one in ranks):
        raise RuntimeError(f"plain training failed: {said}")
    return float(said[0].splitlines()[-1])


def plain_rank(rank: int, world: int, master: str, port: int, steps: int) -> float:
    """One worker of plain training in its own process: tokens a second of all workers."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://{master}:{port}", rank=rank, world_size=world
    )
    data = _data(shakespeare(length=LENGTH))
    program = Pretraining()
    torch.manual_seed(0)
    program.init(CONFIG, data, Rng("links"))
    if world > 1:
        program.model = torch.nn.parallel.DistributedDataParallel(program.model)  # pyright: ignore[reportAttributeAccessIssue]
    begun = 0.0
    for step in range(PLAIN_WARM + steps):
        if step == PLAIN_WARM:
            torch.distributed.barrier()
            begun = time.monotonic()
        program.step(data, Rng("links", rank, step))
    torch.distributed.barrier()
    seconds = time.monotonic() - begun
    torch.distributed.destroy_process_group()
    return world * steps * BATCH * LENGTH / seconds


def _data(prepared: Prepared) -> DataSet:
    return DataSet(prepared.manifest, prepared.blobs.__getitem__)


def measure(counts: tuple[int, ...], rounds: int, steps: int) -> list[dict[str, Any]]:
    """One case for each number of nodes."""
    cases: list[dict[str, Any]] = []
    for count in counts:
        shares = SHARES[:count]
        with slow_hosts(shares, mbit=MBIT) as hosts:
            plain = plainly(hosts, PLAIN_STEPS)
        with slow_hosts(shares, mbit=MBIT) as hosts:
            ours, ends = diloco(hosts, rounds, steps)
        case = {
            "case": f"{count} nodes",
            "ours": round(ours, 1),
            "baseline": round(plain, 1),
            "ratio": round(ours / plain, 3),
            "compute": sum(shares) / SHARES[0],
            "rounds": ends,
        }
        first = cases[0] if cases else case
        case["gain"] = round(ours / first["ours"], 3)
        case["baseline_gain"] = round(plain / first["baseline"], 3)
        print(
            "{case}: {ours} tokens/s against {baseline}; {gain} and {baseline_gain} of one node's, "
            "with {compute} of its processor".format(**case),
            flush=True,
        )
        cases.append(case)
    return cases


def main() -> int:
    parser = argparse.ArgumentParser(description="Tokens a second on slow links")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="two nodes, two short rounds")
    parser.add_argument("--rank", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank:
        rank, world, master, port, steps = options.rank
        print(plain_rank(int(rank), int(world), master, int(port), int(steps)))
        return 0
    if reason := why_not():
        print(reason, file=sys.stderr)
        return 1
    if options.quick:
        cases = measure((2,), QUICK_ROUNDS, QUICK_STEPS)
    else:
        cases = measure(NODES, ROUNDS, STEPS)
    if options.json:
        headline = {"name": "pretrain_links", "better": "higher", "unit": "tokens/s"}
        print(json.dumps({**headline, "ratio": cases[-1]["ratio"], "cases": cases}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
