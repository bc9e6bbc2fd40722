"""Bytes that DiLoCo workers send, and the loss against plain training: `python -m
benchmarks.pretrain_communication --json [--quick]`.

Trains the catalog's GPT on Shakespeare twice with the same number of tokens.

Plain data-parallel training: one model gets the batches of all workers at each step, which equals
averaging gradients at each step. A worker sends 2 (n - 1) / n times the gradient at each step, as
in a ring all-reduce (Patarasu and Yuan, J. Parallel Distrib. Comput. 69, 2009).

DiLoCo: the inner steps and outer steps of a network's run, one after the other in this process. A
worker sends one pseudo-gradient in each round.

Both use the job's arithmetic and the same seeds. Not covered: time. Workers take turns in one
process, without links between them.
"""

import argparse
import json
import math
import statistics
import sys
from dataclasses import dataclass
from typing import Any

import torch

from gensyn_ray.domain.numerics import REPRODUCIBLE
from workloads.core.dataset import DataSet, Prepared
from workloads.core.segment import Runner
from workloads.core.state import State, state_digest
from workloads.core.task_spec import InnerSteps, OuterStep, TaskSpec
from workloads.numerics.arithmetic import arithmetic
from workloads.programs.gpt import Pretraining
from workloads.programs.recipes import shakespeare

FLOAT_BYTES = 4
GAP = 0.02
"""Of the validation loss: what fewer bytes may cost."""
SHARE = 0.01
"""Of the bytes: what workers may send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """`steps` of a worker in all, in rounds of `length`; `batch`: a worker's passages a step."""

    workers: int
    steps: int
    length: int
    batch: int
    width: int
    layers: int
    lr: float
    outer_lr: float = 0.8
    outer_momentum: float = 0.5

    def config(self, workers: int) -> dict[str, Any]:
        """The config of a program that gets the batches of that many workers at each step."""
        return {
            "width": self.width,
            "layers": self.layers,
            "heads": self.width // 32,
            "lr": self.lr,
            "batch": self.batch * workers,
            "total_steps": self.steps,
            "eval_rows": 512,
        }


FULL = Setting(workers=2, steps=2600, length=26, batch=16, width=128, layers=2, lr=2e-3)
QUICK = Setting(workers=2, steps=60, length=20, batch=4, width=64, layers=2, lr=3e-3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Loss on held-out passages, and bytes that one worker sends."""

    loss: float
    sent_bytes: int


def _runner(
    data: DataSet, setting: Setting, seed: int, task: str, *, workers: int = 1, **more: Any
) -> Runner:
    inputs: dict[str, State] = more.pop("inputs", {})
    spec = TaskSpec(
        bundle="",
        config=setting.config(workers),
        seed=seed,
        task=task,
        numerics=REPRODUCIBLE,
        data=data.manifest.digest,
        inputs={name: state_digest(state) for name, state in inputs.items()},
        **more,
    )
    return Runner(Pretraining(), spec, data, arithmetic, inputs)


def data_parallel(data: DataSet, setting: Setting, seed: int) -> Outcome:
    """Plain data-parallel training."""
    run = _runner(data, setting, seed, "plain", workers=setting.workers)
    run.train(setting.steps)
    done = run.finish()
    numbers = sum(one.numel() for name, one in done.state.items() if name.startswith("model/"))
    tied = done.state["model/head.weight"].numel()  # the embedding's, named twice
    gradient = (numbers - tied) * FLOAT_BYTES
    share = 2 * (setting.workers - 1) / setting.workers
    return Outcome(
        loss=done.metrics["loss"], sent_bytes=math.ceil(gradient * share * setting.steps)
    )


def held_out_loss(data: DataSet, setting: Setting, seed: int, state: State) -> float:
    """Held-out loss of a global state, measured as for plain training."""
    run = _runner(data, setting, seed, "end", inputs={"global": state})
    return run.finish().metrics["loss"]


def in_rounds(data: DataSet, setting: Setting, seed: int, bits: int) -> Outcome:
    """DiLoCo, in the order of `workloads.ray_jobs.diloco.core.rounds`."""
    outer = {"lr": setting.outer_lr, "momentum": setting.outer_momentum}
    first = OuterStep(weights={}, **outer)
    state = _runner(data, setting, seed, "begin", outer_step=first).run_segment().state
    sent, loss = 0, math.nan
    for number in range(setting.steps // setting.length):
        part = InnerSteps(steps=setting.length, first_step=number * setting.length, bits=bits)
        gradients: dict[str, State] = {}
        for worker in range(setting.workers):
            task = f"r{number}.w{worker}"
            run = _runner(data, setting, seed, task, inner_steps=part, inputs={"global": state})
            gradients[f"gradient-{worker}"] = run.run_segment().state
        sent += sum(one.numel() * one.element_size() for one in gradients["gradient-0"].values())
        step = OuterStep(weights=dict.fromkeys(gradients, setting.length), **outer)
        inputs = {"global": state, **gradients}
        stepping = _runner(data, setting, seed, f"r{number}.merge", outer_step=step, inputs=inputs)
        done = stepping.run_segment()
        state, loss = done.state, done.metrics["loss"]
    return Outcome(loss=loss, sent_bytes=sent)


def compare(prepared: Prepared, setting: Setting, seeds: int) -> list[dict[str, Any]]:
    """A case for each width of pseudo-gradients: bytes and loss, mean over the seeds."""
    data = DataSet(prepared.manifest, prepared.blobs.__getitem__)
    plain = [data_parallel(data, setting, seed) for seed in range(seeds)]
    cases: list[dict[str, Any]] = []
    for bits in (8, 32):
        ours = [in_rounds(data, setting, seed, bits) for seed in range(seeds)]
        gap = statistics.mean(a.loss / b.loss for a, b in zip(ours, plain, strict=True)) - 1
        cases.append(
            {
                "case": f"{setting.workers} workers, {setting.length} steps a round, {bits} bits",
                "ours": ours[0].sent_bytes,
                "baseline": plain[0].sent_bytes,
                "ratio": round(ours[0].sent_bytes / plain[0].sent_bytes, 6),
                "loss": [round(one.loss, 5) for one in ours],
                "baseline_loss": [round(one.loss, 5) for one in plain],
                "loss_gap": round(gap, 5),
                "passed": gap <= GAP and ours[0].sent_bytes <= SHARE * plain[0].sent_bytes,
            }
        )
    return cases


def main() -> int:
    parser = argparse.ArgumentParser(description="Bytes that DiLoCo workers send")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="a small model, within a minute")
    parser.add_argument("--seeds", type=int, default=1, help="a quarter of an hour each")
    options = parser.parse_args()
    torch.set_num_threads(1)  # two would gain little, and wait badly beside other work
    setting = QUICK if options.quick else FULL
    cases = compare(shakespeare(length=64), setting, 1 if options.quick else options.seeds)
    for case in cases:
        print(
            "{case}: {ours:,} bytes a worker against {baseline:,}, ratio {ratio}; "
            "loss {loss} against {baseline_loss}, {loss_gap:+.2%}".format(**case)
        )
    if options.json:
        headline = {"name": "pretrain_communication", "better": "lower", "unit": "bytes a worker"}
        print(json.dumps({**headline, "ratio": cases[0]["ratio"], "cases": cases}))
    return 0 if options.quick or cases[0]["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
