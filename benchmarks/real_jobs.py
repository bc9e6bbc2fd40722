"""Each kind of job, end to end on a local network with a cheat: `python -m benchmarks.real_jobs`.

Follows the job files of docs/examples to the letter, but for the data's digest: prepares the data
set, submits the file, waits for the end. Says what a user wants to know of it: the metric segment
by segment, what was paid, who was caught. Exit code 1 if a job does not end as done, the cheat is
paid for what it forged, or a fine-tuning stays below its goal.

Not covered: speed. All nodes share this machine.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gensyn_ray.api import Job, JobResult, Network
from gensyn_ray.blobs import Blobs
from gensyn_ray.cli.submitter import launch
from gensyn_ray.domain.money import MICRO_PER_CREDIT, format_credits
from gensyn_ray.testnet.local import LocalNetwork
from workloads.core.dataset import Prepared
from workloads.numerics.pinned import best_profiles
from workloads.programs import recipes

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
RECIPES: Mapping[str, Callable[[], Prepared]] = {
    "sweep": recipes.fashion_mnist,
    "finetune": recipes.rotten_tomatoes,
    "pretrain": recipes.shakespeare,
}
"""What each example asks for, in its first lines."""
GOALS = {"finetune": 0.78}
"""Accuracy on held-out rows."""
STAKE_MICRO = 1000 * MICRO_PER_CREDIT


def follow(network: LocalNetwork, client: Network, kind: str, seed: int) -> Job:
    """Do what the example says."""
    prepared = RECIPES[kind]()
    Blobs(network.facts["blobs"]).put_prepared(prepared)
    text = (EXAMPLES / f"{kind}.toml").read_text()
    text = text.replace('data = ""', f'data = "{prepared.manifest.digest}"')
    text = text.replace("seed = 1", f"seed = {seed}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{kind}.toml"
        path.write_text(text)
        return launch(client, path)


def curve(result: JobResult) -> list[dict[str, Any]]:
    """The best trial's metrics segment by segment, or the merges' round by round."""
    if "rounds" in result.summary:
        return [one["metrics"] for one in result.summary["rounds"]]
    frame = result.grid.get_best_result().metrics_dataframe
    assert frame is not None
    names = [name for name in ("accuracy", "loss") if name in frame]
    columns = {name: frame[name].tolist() for name in names}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def report(network: LocalNetwork, kind: str, result: JobResult, wall_s: float) -> dict[str, Any]:
    """What became of a job."""
    bill = result.bill
    names = {member.key.party: name for name, member in network.members.items()}
    earned: dict[str, int] = {}
    for one in result.receipts:
        name = names[one["operator"]]
        earned[name] = earned.get(name, 0) + one["paid_micro"]
    best = None if "rounds" in result.summary else result.grid.get_best_result().config
    return {
        "kind": kind,
        "state": result.summary["state"],
        "wall_s": round(wall_s, 1),
        "best": best,
        "curve": curve(result),
        "segments": bill["segments"],
        "caught": [names[party] for party in bill["tombstoned"]],
        "earned": {name: format_credits(micro) for name, micro in sorted(earned.items())},
    }


def problems(found: Mapping[str, Any]) -> list[str]:
    """What is not as it should be."""
    wrong: list[str] = []
    if found["state"] != "done":
        wrong.append(f"{found['kind']} ended as {found['state']}")
    if "lazy" in found["caught"] and float(found["earned"].get("lazy", "0").replace(",", "")) > 0:
        wrong.append("the cheat was paid")
    goal = GOALS.get(found["kind"], 0.0)
    if goal and found["curve"][-1]["accuracy"] < goal:
        wrong.append(f"{found['kind']} ended at {found['curve'][-1]['accuracy']}, not {goal}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Each kind of job, end to end, with a cheat")
    parser.add_argument("--kinds", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="also write what was found as JSON")
    options = parser.parse_args()
    profiles = best_profiles()
    found: list[dict[str, Any]] = []
    for kind in options.kinds:
        # A network of its own for each: a caught cheat gets no second job.
        with LocalNetwork(seed=options.seed) as network:
            network.start([profiles[0], profiles[1]])
            network.add_volunteer("honest-1", profiles[0], stake_micro=STAKE_MICRO)
            network.add_volunteer("honest-2", profiles[1], stake_micro=STAKE_MICRO)
            network.add_volunteer("lazy", profiles[0], stake_micro=STAKE_MICRO, adversary="lazy")
            client = Network(network.key("submitter"))
            client.join("submitter")
            network.fund(client.party, 10_000 * MICRO_PER_CREDIT)
            begun = time.monotonic()
            result = follow(network, client, kind, options.seed).result()
            found.append(report(network, kind, result, time.monotonic() - begun))
        print(json.dumps(found[-1], indent=1), flush=True)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    wrong = [one for job in found for one in problems(job)]
    print("\n".join(wrong) or "all as it should be")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
