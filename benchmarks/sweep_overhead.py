"""The overhead of verification: a verified sweep against bare `tune.Tuner.fit()`.

    python -m benchmarks.sweep_overhead --json [--quick]

Each side is a Ray job on the same cluster. It runs the same grid of configurations without early
stopping, with the same program, data, steps and evaluations, on the same two nodes. The sides
alternate in one run, so that a change of the machine's speed affects all of them:

    bare         tune.Tuner.fit(): computes and reports a metric for each segment, stores nothing
    no audits    slots, stored states, signed commitments, checked receipts, books; rate 0, but
                 the leading trials get a full audit, as always
    audits       the same, with a quarter of all segments drawn

Wall seconds run from submission to the exit of the driver and include its start on all sides. CPU
seconds are the busy time of the whole machine, so run nothing else. A step takes a few
milliseconds; short segments increase the ratio, because each segment has a fixed cost.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
from ray import tune
from ray.job_submission import JobSubmissionClient

from benchmarks.bare_tune import RATES, grid
from gensyn_ray.api.network import Network
from gensyn_ray.api.terms import Audit, Budget
from gensyn_ray.domain.money import MICRO_PER_CREDIT
from gensyn_ray.domain.numerics import PINNED
from gensyn_ray.testnet.local import LocalNetwork
from ledger.core.journal import parse_entry
from ledger.storage.sqlite import SqliteJournal
from workloads.numerics.profiles import best_profiles
from workloads.programs.digits import Digits

ROUNDS = 3
POLL_S = 0.1


def run_bare(network: LocalNetwork, trials: int) -> None:
    """Submit the bare side and wait for its end."""
    client = JobSubmissionClient(network.facts["dashboard"])
    entrypoint = f"{sys.executable} -m benchmarks.bare_tune {trials}"
    _wait_for(client, client.submit_job(entrypoint=entrypoint))


def _wait_for(client: JobSubmissionClient, job: str) -> None:
    """Wait until a driver has exited."""
    while (status := client.get_job_status(job).value) not in ("SUCCEEDED", "FAILED", "STOPPED"):
        time.sleep(POLL_S)
    if status != "SUCCEEDED":
        raise SystemExit(client.get_job_logs(job)[-2000:])


def run_verified(network: LocalNetwork, client: Network, trials: int, rate_ppm: int) -> None:
    """Submit the grid as a verified sweep and wait for its end; returns where its time went."""
    job = client.sweep(
        Digits,
        param_space=grid(trials),
        tune_config=tune.TuneConfig(metric="accuracy", mode="max"),
        numerics=PINNED,
        budget=Budget(total_micro=1000 * MICRO_PER_CREDIT, per_segment_micro=MICRO_PER_CREDIT),
        audit=Audit(rate_ppm=rate_ppm),
    )
    _wait_for(JobSubmissionClient(network.facts["dashboard"]), job.id)
    state = job.result().summary.state
    if state != "done":
        raise SystemExit(f"the sweep ended as: {state}")
    print(f"rate {rate_ppm} ppm: " + ", ".join(phases(network, job.id)), flush=True)


def phases(network: LocalNetwork, job: str) -> list[str]:
    """The parts of a job's wall time, from its opening to its closing, by the journal."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for line in SqliteJournal(network.journal, read_only=True).read():
        entry = parse_entry(line)
        for event in entry.events:
            name = type(event).__name__
            if getattr(event, "job", getattr(event, "slot", "").split("/")[0]) == job:
                first.setdefault(name, entry.time_ms)
                last[name] = entry.time_ms
    moments = {
        "driver and actors start": first["JobOpened"],
        "training": first["SlotIssued"],
        "last audits": last["SlotCommitted"],
        "closing": last["SlotSettled"],
        "": last["JobClosed"],
    }
    names, times_ms = list(moments), list(moments.values())
    return [
        f"{name} {(end_ms - begin_ms) / 1000:.1f} s"
        for name, begin_ms, end_ms in zip(names, times_ms, times_ms[1:], strict=False)
    ]


@contextmanager
def two_nodes() -> Iterator[tuple[LocalNetwork, Network]]:
    """A local network with two volunteers of one class, and a funded submitter."""
    _, profile = best_profiles()
    with LocalNetwork(seed=1) as network:
        network.start([profile])
        for name in ("volunteer-1", "volunteer-2"):
            network.add_volunteer(name, profile, stake_micro=10_000 * MICRO_PER_CREDIT)
        client = Network(network.key("submitter"))
        client.join("submitter")
        network.fund(client.party, 10**6 * MICRO_PER_CREDIT)
        yield network, client


def measure(side: Callable[[], None]) -> tuple[float, float]:
    """(wall seconds, the machine's busy CPU seconds) of one sweep."""
    before, started = psutil.cpu_times(), time.monotonic()
    side()
    wall, after = time.monotonic() - started, psutil.cpu_times()
    busy = ("user", "nice", "system")  # Ray runs its workers at a lower priority
    return wall, sum(getattr(after, one) - getattr(before, one) for one in busy)


def run(*, trials: int, rounds: int, is_quick: bool) -> dict[str, Any]:
    """All sides in turn, `rounds` times after one warm-up round.

    `quick`: no warm-up, and only one verified side.
    """
    with two_nodes() as (network, client):
        sides: dict[str, Callable[[], None]] = {
            "bare": lambda: run_bare(network, trials),
            "audits": lambda: run_verified(network, client, trials, 250_000),
            "no audits": lambda: run_verified(network, client, trials, 0),
        }
        if is_quick:
            del sides["no audits"]
        samples: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for counted in [is_quick] + [True] * (rounds - is_quick):
            for name, side in sides.items():
                sample = measure(side)
                if counted:
                    samples[name].append(sample)
    cases: list[dict[str, Any]] = []
    for name in list(samples)[1:]:
        for index, unit in enumerate(("wall", "cpu")):
            ours = statistics.median(sample[index] for sample in samples[name])
            bare = statistics.median(sample[index] for sample in samples["bare"])
            cases.append(
                {
                    "case": f"{unit}, {name}",
                    "ours": round(ours, 2),
                    "baseline": round(bare, 2),
                    "ratio": round(ours / bare, 3),
                }
            )
    return {
        "name": "sweep_overhead",
        "ratio": cases[0]["ratio"],
        "better": "lower",
        "unit": "s",
        "cases": cases,
    }


def main() -> None:
    """Print a line for each case, then the JSON object if `--json` is given."""
    parser = argparse.ArgumentParser(description="Verified sweep against bare Tune")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--quick", action="store_true", help="one round of fewer trials, under a minute"
    )
    options = parser.parse_args()
    size = (1, 1) if options.quick else (len(RATES), ROUNDS)
    result = run(trials=size[0], rounds=size[1], is_quick=options.quick)
    for case in result["cases"]:
        print("{case}: {ours} s, bare {baseline} s, ratio {ratio}".format(**case))
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
