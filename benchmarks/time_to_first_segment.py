"""How long a job takes to its first committed segment, against bare `tune.Tuner.fit()`.

    python -m benchmarks.time_to_first_segment --json [--quick] [--trace FILE.svg]

Both sides run the same program with the same configurations on the same two nodes, in turn:

    ours    from the moment `OpenJob` is accepted to the first `SlotCommitted`, by the journal
    bare    from the call of `tune.Tuner.fit()` to its first result, in a driver that has started

So our side includes the start of a job's driver, and the bare one does not. The first job meets a
network that has just started; the later ones find it idle.

`--trace` draws the first job: one bar for each process from its start on, darker where it used more
of a core, with marks where it loaded its libraries, and a line for each event of the journal.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.process_trace import ProcessTrace
from gensyn_ray.api.network import Network
from gensyn_ray.api.terms import Audit, Budget
from gensyn_ray.cluster import connection
from gensyn_ray.domain.money import MICRO_PER_CREDIT
from gensyn_ray.testnet.local import LocalNetwork
from ledger.core.events import JobOpened, SlotCommitted, SlotIssued, TaskStarted
from ledger.core.journal import parse_entry
from ledger.storage.sqlite import SqliteJournal
from workloads.numerics.profiles import best_profiles

VOLUNTEERS = ("volunteer-1", "volunteer-2")
ROUNDS = 3
POLL_S = 0.05
ADDED_S = 10.0
FACTOR = 1.5
"""The goal: at most `FACTOR` times the bare side and `ADDED_S` more."""
FIRST_RESULT = "first result after "
MOMENTS = {JobOpened: "job opened", TaskStarted: "task started", SlotIssued: "slot issued"}


def bare_driver(address: str) -> None:
    """Entry point of the bare side: prints the seconds from `fit()` to its first result."""
    from ray import tune

    from benchmarks.bare_tune import tuner

    class FirstResult(tune.Callback):
        """Prints when the first result arrives, and ends the search."""

        def on_trial_result(self, *_: Any, **__: Any) -> None:
            print(f"{FIRST_RESULT}{time.monotonic() - begun}", flush=True)
            sys.exit(0)

    connection.attach(address)
    search = tuner(len(VOLUNTEERS), [FirstResult()])
    begun = time.monotonic()
    search.fit()


def time_bare(network: LocalNetwork) -> float:
    """Seconds of the bare side."""
    command = [sys.executable, "-m", "benchmarks.time_to_first_segment"]
    done = subprocess.run(
        [*command, "--bare-driver", network.address], capture_output=True, text=True, check=False
    )
    for line in done.stdout.splitlines():
        if line.startswith(FIRST_RESULT):
            return float(line.removeprefix(FIRST_RESULT))
    raise SystemExit(done.stderr[-2000:])


def time_ours(network: LocalNetwork, client: Network) -> tuple[float, list[tuple[float, str]]]:
    """(seconds of our side, the moments on the way in seconds since the epoch). Cancels the job."""
    from ray import tune

    from benchmarks.bare_tune import grid
    from workloads.programs.digits import Digits

    job = client.sweep(
        Digits,
        param_space=grid(len(VOLUNTEERS)),
        tune_config=tune.TuneConfig(metric="accuracy", mode="max"),
        budget=Budget(total_micro=100 * MICRO_PER_CREDIT, per_segment_micro=MICRO_PER_CREDIT),
        audit=Audit(rate_ppm=0),
    )
    while not job.status().segments.committed:
        if job.is_done():
            raise SystemExit("the job ended without a segment")
        time.sleep(POLL_S)
    moments = moments_of(network, job.id)
    job.cancel()
    return moments[-1][0] - moments[0][0], moments


def moments_of(network: LocalNetwork, job: str) -> list[tuple[float, str]]:
    """(seconds since the epoch, event) of a job's first events, to its first commitment."""
    found: list[tuple[float, str]] = []
    for line in SqliteJournal(network.journal, read_only=True).read():
        entry = parse_entry(line)
        for event in entry.events:
            of_job = getattr(event, "job", getattr(event, "slot", "").split("/")[0])
            if of_job != job:
                continue
            if isinstance(event, SlotCommitted):
                return [*found, (entry.time_ms / 1000, "first commitment")]
            if (name := MOMENTS.get(type(event))) is not None:
                found.append((entry.time_ms / 1000, name))
    raise SystemExit(f"the journal has no commitment of {job}")


def run(*, rounds: int, trace: Path | None) -> dict[str, Any]:
    """Both sides in turn; the first round of ours is the one that meets a new network."""
    _, profile = best_profiles()
    ours: list[float] = []
    bare: list[float] = []
    with LocalNetwork(seed=1) as network, ProcessTrace() as processes:
        begun = time.monotonic()
        network.start([profile])
        for name in VOLUNTEERS:
            network.add_volunteer(name, profile, stake_micro=10_000 * MICRO_PER_CREDIT)
        up_s = time.monotonic() - begun
        client = Network(network.key("submitter"))
        client.join("submitter")
        network.fund(client.party, 10**6 * MICRO_PER_CREDIT)
        for number in range(rounds):
            seconds, moments = time_ours(network, client)
            ours.append(seconds)
            if number == 0 and trace is not None:
                trace.write_text(processes.picture(moments))
            bare.append(time_bare(network))
    baseline = statistics.median(bare)
    cases = [_case("first job of a new network", ours[0], baseline)]
    if later := ours[1:]:
        cases.append(_case("later job", statistics.median(later), baseline))
    return {
        "name": "time_to_first_segment",
        "ratio": cases[-1]["ratio"],
        "better": "lower",
        "unit": "s",
        "cases": cases,
        "network_up_s": round(up_s, 2),
        "goal_s": round(FACTOR * baseline + ADDED_S, 2),
    }


def _case(name: str, ours: float, bare: float) -> dict[str, Any]:
    return {
        "case": name,
        "ours": round(ours, 2),
        "baseline": round(bare, 2),
        "ratio": round(ours / bare, 3),
    }


def main() -> None:
    """Print a line per case, then the JSON object if asked."""
    parser = argparse.ArgumentParser(description="First committed segment against bare Tune")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="one round, about a minute")
    parser.add_argument("--trace", type=Path, help="write a picture of all processes to this SVG")
    parser.add_argument("--bare-driver", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare_driver:
        bare_driver(options.bare_driver)
        return
    result = run(rounds=1 if options.quick else ROUNDS, trace=options.trace)
    for case in result["cases"]:
        print("{case}: {ours} s, bare {baseline} s, ratio {ratio}".format(**case))
    print(f"network up after {result['network_up_s']} s; the goal is {result['goal_s']} s")
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
