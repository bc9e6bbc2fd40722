"""Each kind of job, end to end on a local network with a cheat: `python -m benchmarks.real_jobs`.

Follows the job files of docs/examples, except for the data's digest: prepares the data set, submits
the file, waits for the end. Reports the metric of each segment, the payments and the caught
operators. With `sweep-cnn` it also trains a grid of the same space to the end, in this process.
With `pretrain-rounds` it also runs plain data-parallel training with as many passages a step.

Exit code 1 if a job does not end as done, the cheat is paid for forged segments, a fine-tuning
stays below its goal, a search ends more than a hundredth below the grid's best, or
`pretrain-rounds` ends more than a fiftieth above the plain loss.

A job of one task goes to the cheat first: the honest volunteers join after its first commitment.
`--churn` kills the node of an honest volunteer that has worked in the middle of the job, and adds
another volunteer; results and credits must be the same. `--plot` draws
docs/figures/job_EXAMPLE.png.

Not covered: speed. All nodes share this machine.
"""

# The extra `bench` has matplotlib.
# pyright: reportMissingImports=false

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.pretrain_communication import FULL, GAP, data_parallel, held_out_loss
from gensyn_ray.api import job_file
from gensyn_ray.api.job import Job, JobResult
from gensyn_ray.api.network import Network
from gensyn_ray.domain.errors import OperationError
from gensyn_ray.domain.money import MICRO_PER_CREDIT, format_credits
from gensyn_ray.domain.numerics import REPRODUCIBLE
from gensyn_ray.domain.records import to_json
from gensyn_ray.object_store.blobs import Blobs
from gensyn_ray.testnet.local import LocalNetwork, wait_for
from workloads.core.dataset import DataSet, Prepared
from workloads.core.objectives import leaders
from workloads.core.segment import Runner
from workloads.core.task_spec import TaskSpec
from workloads.numerics.arithmetic import arithmetic
from workloads.numerics.profiles import best_profiles
from workloads.programs import recipes
from workloads.programs.fashion import Fashion
from workloads.ray_jobs.diloco.kind import DilocoOutcome
from workloads.ray_jobs.search.kind import SearchOutcome

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
RECIPES: Mapping[str, Callable[[], Prepared]] = {
    "sweep": recipes.fashion_mnist,
    "sweep-cnn": recipes.fashion_mnist,
    "sweep-front": recipes.fashion_mnist,
    "finetune": recipes.rotten_tomatoes,
    "finetune-shared": recipes.rotten_tomatoes,
    "sweep-lora": recipes.rotten_tomatoes,
    "pretrain": recipes.shakespeare,
    "pretrain-rounds": partial(recipes.shakespeare, length=64),
}
"""The data set that each example's first lines ask for."""
GOALS = {"finetune": 0.78, "finetune-shared": 0.78}
"""Goal of fine-tuning: accuracy on held-out rows."""
NEAR_GRID = 0.01
"""Accuracy that a search may end below the best of a grid."""
GRID: Mapping[str, tuple[float, ...]] = {
    "width": (8, 16, 24),
    "lr": (3e-4, 1e-3, 3e-3),
    "dropout": (0.0, 0.2),
}
"""The grid of CNNs in the space of `sweep-cnn`."""
FIGURES = EXAMPLES.parent / "figures"
CHURN_AFTER, CHURN_WAIT_S = 4, 900.0
"""Judged segments of honest operators before a node is killed, and the limit of that wait."""
HONEST = ("honest-1", "honest-2")
OF_ONE_TASK = frozenset({"finetune"})
"""Jobs with one volunteer at a time, in which the cheat might get no segment."""
STAKE_MICRO = 1000 * MICRO_PER_CREDIT


def follow(network: LocalNetwork, client: Network, kind: str, seed: int) -> Job:
    """Prepare the example's data set and submit its file."""
    prepared = RECIPES[kind]()
    Blobs(network.facts["blobs"]).put_prepared(prepared)
    text = (EXAMPLES / f"{kind}.toml").read_text()
    text = text.replace('data = ""', f'data = "{prepared.manifest.digest}"')
    text = text.replace("seed = 1", f"seed = {seed}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{kind}.toml"
        path.write_text(text)
        return client.open(job_file.read(path))


def await_segments(job: Job, done: Callable[[], int], count: int) -> None:
    """Wait for the condition or the job's end. Raises `OperationError` if the job failed."""
    wait_for(
        lambda: done() >= count or job.is_done(),
        timeout_s=CHURN_WAIT_S,
        what=f"segment number {count}",
    )


def committed(job: Job) -> int:
    return job.status().segments.committed


def join_honest(network: LocalNetwork, profiles: Sequence[str]) -> None:
    for name, profile in zip(HONEST, profiles, strict=True):
        network.add_volunteer(name, profile, stake_micro=STAKE_MICRO)


def churn(network: LocalNetwork, client: Network, job: Job, profile: str) -> None:
    """Kill the honest node whose segments were judged last, and add another volunteer."""
    parties = {network.key(name).party: name for name in HONEST}

    def workers() -> list[str]:
        judged = client.read("receipts", job=job.id)
        return [parties[one.operator] for one in judged if one.operator in parties]

    await_segments(job, lambda: len(workers()), CHURN_AFTER)
    if not (seen := workers()):
        raise OperationError("the job ended before an honest volunteer's segment was judged")
    network.kill_node(seen[-1])
    network.add_volunteer("late", profile, stake_micro=STAKE_MICRO)


def curves(result: JobResult) -> list[dict[str, list[float]]]:
    """Metrics of each trial by segment, the best trial first; or of each round."""
    if isinstance(result.outcome, DilocoOutcome):
        rounds = [one.metrics for one in result.outcome.rounds]
        return [{name: [one[name] for one in rounds] for name in rounds[0]}]
    best = result.grid.get_best_result()
    trials = [best, *(one for one in result.grid if one.path != best.path)]
    frames = [one.metrics_dataframe for one in trials if one.metrics_dataframe is not None]
    # Not from Tune's files: they hold forged segments, and may lack paid ones whose node died
    # before its report. For a segment that was computed again, the last commitment counts.
    forgers = result.bill.tombstoned
    frames = [one.loc[~one["operator"].isin(forgers)] for one in frames]
    frames = [one.drop_duplicates("segment", keep="last") for one in frames if len(one)]
    names = [name for name in ("segment", "accuracy", "loss") if name in frames[0]]
    return [{name: frame[name].tolist() for name in names} for frame in frames]


def front(result: JobResult) -> list[dict[str, float]]:
    """The values of the leading trials of a search with several metrics."""
    outcome = result.outcome
    if not isinstance(outcome, SearchOutcome) or len(outcome.objectives) < 2:
        return []
    objectives = outcome.objectives
    ends = {one.path: one.metrics for one in result.grid if one.metrics}
    leading = [ends[path] for path in leaders(ends, objectives)]
    return [{name: one[name] for name in objectives} for one in leading]


def grid_best(seed: int) -> dict[str, Any]:
    """The best value of the grid; each point is trained to the end, as a trial without a stop."""
    prepared = RECIPES["sweep-cnn"]()
    data = DataSet(prepared.manifest, prepared.blobs.__getitem__)
    ends: list[tuple[float, dict[str, Any]]] = []
    for values in itertools.product(*GRID.values()):
        config: dict[str, Any] = {"model": "cnn", **dict(zip(GRID, values, strict=True))}
        spec = TaskSpec(
            bundle="",
            config=config,
            seed=seed,
            task="grid",
            numerics=REPRODUCIBLE,
            data=data.manifest.digest,
        )
        run = Runner(Fashion(), spec, data, arithmetic)
        metrics = [run.run_segment().metrics for _ in range(run.segments)]
        ends.append((max(one["accuracy"] for one in metrics), config))
    accuracy, config = max(ends, key=lambda end: end[0])
    return {"accuracy": accuracy, "config": config, "trained": len(ends)}


def passages_of_rounds() -> DataSet:
    """The data set of `pretrain-rounds`."""
    prepared = RECIPES["pretrain-rounds"]()
    return DataSet(prepared.manifest, prepared.blobs.__getitem__)


def report(network: LocalNetwork, kind: str, result: JobResult, wall_s: float) -> dict[str, Any]:
    """The outcome of a job."""
    bill = result.bill
    names = {member.key.party: name for name, member in network.members.items()}
    earned: dict[str, int] = {}
    for one in result.receipts:
        name = names[one.operator]
        earned[name] = earned.get(name, 0) + one.paid_micro
    outcome = result.outcome
    rounds = outcome.rounds if isinstance(outcome, DilocoOutcome) else ()
    best = None if rounds else result.grid.get_best_result().config
    return {
        "kind": kind,
        "state": result.summary.state,
        "wall_s": round(wall_s, 1),
        "best": best,
        "unit": "round" if best is None else "segment",
        "front": front(result),
        "steps": sum(one.steps for state in rounds for one in state.pseudo_gradients),
        "curves": curves(result),
        "segments": to_json(bill.segments),
        "caught": [names[party] for party in bill.tombstoned],
        "paid": bill.paid_micro,
        "receipts": sum(one.paid_micro for one in result.receipts),
        "earned": {name: format_credits(micro) for name, micro in sorted(earned.items())},
    }


def problems(found: Mapping[str, Any]) -> list[str]:
    """A message for each expectation that does not hold."""
    wrong: list[str] = []
    if found["state"] != "done":
        wrong.append(f"{found['kind']} ended as {found['state']}")
    if found["kind"] in OF_ONE_TASK and "lazy" not in found["caught"]:
        wrong.append("the cheat, which was there first, was not caught")
    if "lazy" in found["caught"] and float(found["earned"].get("lazy", "0").replace(",", "")) > 0:
        wrong.append("the cheat was paid")
    if found["paid"] != found["receipts"]:
        wrong.append(f"the bill has {found['paid']}, its receipts {found['receipts']}")
    if honest := set(found["caught"]) - {"lazy"}:
        wrong.append(f"{', '.join(sorted(honest))} did nothing wrong")
    goal, near = GOALS.get(found["kind"], 0.0), found.get("grid")
    end = max(found["curves"][0].get("accuracy", [0.0]))
    if end < goal:
        wrong.append(f"{found['kind']} ended at {end}, not {goal}")
    if near and end < near["accuracy"] - NEAR_GRID:
        wrong.append(f"the search ended at {end}, the best of the grid at {near['accuracy']}")
    if plain := found.get("plain"):
        gap = found["end"] / plain - 1
        if gap > GAP:
            wrong.append(f"the loss is {gap:.2%} above plain training's {plain:.4f}")
    return wrong


def _places(curve: Mapping[str, list[float]], metric: str) -> list[float]:
    """(index, value) pairs: segments count from 1; round 0 is the initial state."""
    if "segment" in curve:
        return [one + 1 for one in curve["segment"]]
    return list(range(len(curve[metric])))


def plot(found: Mapping[str, Any], seed: int) -> None:
    """Draw docs/figures/job_EXAMPLE.png: the metric of each trial or round."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    metric = "accuracy" if "accuracy" in found["curves"][0] else "loss"
    figure, axes = pyplot.subplots(figsize=(7, 4))
    first, *others = found["curves"]
    for one in others:
        axes.plot(_places(one, metric), one[metric], color="grey", marker=".", linewidth=0.7)
    steps = _places(first, metric)
    axes.plot(steps, first[metric], marker="o", label="best trial" if others else metric)
    if near := found.get("grid"):
        label = f"best of a grid of {near['trained']}"
        axes.axhline(near["accuracy"], linestyle="--", color="black", linewidth=0.8, label=label)
    if plain := found.get("plain"):
        label = "plain data-parallel training, at its end"
        axes.axhline(plain, linestyle="--", color="black", linewidth=0.8, label=label)
        # The rounds' values come from fewer passages.
        axes.plot([steps[-1]], [found["end"]], "kx", label="the end, on as many passages")
    title = f"{found['kind']}, seed {seed}"
    axes.set(xlabel=found["unit"], ylabel=f"{metric}, held-out rows", title=title)
    axes.legend()
    figure.tight_layout()
    FIGURES.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURES / f"job_{found['kind']}.png", dpi=120, metadata={"Software": None})
    pyplot.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description="Each kind of job, end to end, with a cheat")
    parser.add_argument("--kinds", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--churn", action="store_true", help="a node dies, another joins")
    parser.add_argument("--out", type=Path, help="also write what was found as JSON")
    parser.add_argument("--plot", action="store_true", help="draw docs/figures")
    options = parser.parse_args()
    profiles = best_profiles()
    found: list[dict[str, Any]] = []
    for kind in options.kinds:
        # Each example gets a new network, because a caught cheat gets no second job.
        with LocalNetwork(seed=options.seed) as network:
            network.start([profiles[0], profiles[1]])
            network.add_volunteer("lazy", profiles[0], stake_micro=STAKE_MICRO, adversary="lazy")
            if kind not in OF_ONE_TASK:
                join_honest(network, profiles[:2])
            client = Network(network.key("submitter"))
            client.join("submitter")
            network.fund(client.party, 10_000 * MICRO_PER_CREDIT)
            begun = time.monotonic()
            job = follow(network, client, kind, options.seed)
            if kind in OF_ONE_TASK:
                await_segments(job, partial(committed, job), 1)
                join_honest(network, profiles[:2])
            if options.churn:
                churn(network, client, job, profiles[0])
            result = job.result()
            found.append(report(network, kind, result, time.monotonic() - begun))
            if kind == "pretrain-rounds":
                end = client.state(result.state)
                found[-1]["end"] = held_out_loss(passages_of_rounds(), FULL, options.seed, end)
        print(json.dumps(found[-1]), flush=True)
        if kind == "sweep-cnn":
            found[-1]["grid"] = grid_best(options.seed)
        if kind == "pretrain-rounds":
            plain = data_parallel(passages_of_rounds(), FULL, options.seed)
            found[-1]["plain"] = plain.loss
        print({name: found[-1].get(name) for name in ("grid", "plain")}, flush=True)
        if options.plot:
            plot(found[-1], options.seed)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    wrong = [one for job in found for one in problems(job)]
    print("\n".join(wrong) or "all as it should be")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
