"""Canonical training has one digest with every instruction set and number of threads.

    python -m benchmarks.numerics_matrix --json [--quick]

Trains each model in subprocesses. The environment of a subprocess (a cell) restricts the
instruction sets of ATen, MKL, oneDNN and numba, and sets the number of threads. The cells are a
covering design: each pair of values of two factors occurs in some cell.

All cells of canonical training must have the same digest of parameters, buffers and optimizer.
Stock float32 is the control: its digests must differ between the first cells. Exit code 1 if a
canonical digest differs, a cell fails, or the control's digests are equal.

A cell reports the instruction sets that it ran with, because a restriction without effect would
prove nothing. Numba needs NUMBA_CPU_FEATURES beside its processor name: without it, numba keeps the
host's features, tiles included.

`--beside PYTHON` also runs the first cells in another environment, with another version of torch
and the same other packages.

Not covered: other processors. All cells run on this machine's processor.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import torch

from benchmarks.numerics_models import TASKS, build, missing
from workloads.core.rng import Rng
from workloads.core.state import state_digest
from workloads.numerics.kernels.matmul import amx
from workloads.numerics.kernels.primitives.compilation import config as numba_config
from workloads.numerics.mode import BITS, Precision, canonical
from workloads.numerics.optim import AdamW

Settings = Mapping[str, str]
"""Environment variables of a subprocess, in addition to the inherited ones."""
Cell = Mapping[str, str]
"""Factor -> its value."""

LEARNING_RATE = 1e-3
LEAST_CELLS = 30
QUICK_CELLS, QUICK_STEPS, QUICK_MODELS = 3, 5, ("transformer", "cnn")
CONTROLS = 8
"""Number of first cells. They also train in stock float32, and run in other environments."""
NUMBA_THREADS = "4"
"""The most threads of numba. It uses as many as torch."""


def numba_cpu(name: str) -> Settings:
    """Settings with which numba compiles for a processor and for no feature that it lacks.

    The features are listed because kernels read the list of features, not the name."""
    features = {
        "x86-64": "",
        "haswell": "+avx2,+fma",
        "skylake-avx512": "+avx2,+fma,+avx512f,+avx512bw,+avx512dq,+avx512vl",
    }
    return {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features[name]}


def has_avx512() -> bool:
    """Whether this machine runs AVX-512 code."""
    return torch.cpu._is_avx512_supported()


FACTORS: Mapping[str, Mapping[str, Settings]] = MappingProxyType(
    {
        "aten": {
            "best": {},
            "avx2": {"ATEN_CPU_CAPABILITY": "avx2"},
            "default": {"ATEN_CPU_CAPABILITY": "default"},
        },
        "threads": {count: {"OMP_NUM_THREADS": count} for count in ("1", "2", "4")},
        "mkl": {
            "best": {},
            "avx2": {"MKL_ENABLE_INSTRUCTIONS": "AVX2"},
            "compatible": {"MKL_CBWR": "COMPATIBLE"},
        },
        "onednn": {
            "best": {},
            "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
            "avx512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
        },
        "numba": {
            "best": {},
            "haswell": numba_cpu("haswell"),
            "sse2": numba_cpu("x86-64"),
            **({"avx512": numba_cpu("skylake-avx512")} if has_avx512() else {}),
        },
    }
)
GOVERNED = frozenset(
    name for values in FACTORS.values() for settings in values.values() for name in settings
)
"""Variables that no subprocess inherits."""


# -- subprocesses --------------------------------------------------------------------------------


class ChildFailed(Exception):
    """A subprocess ended without an answer. The message has the end of its output."""


def ask(
    module: str, question: Mapping[str, Any], settings: Settings, python: str = sys.executable
) -> dict[str, Any]:
    """The last line that `python -m module --child QUESTION` prints, decoded from JSON.

    The subprocess has these settings in its environment. Raises `ChildFailed`."""
    inherited = {name: value for name, value in os.environ.items() if name not in GOVERNED}
    done = subprocess.run(
        [python, "-m", module, "--child", json.dumps(dict(question))],
        env={**inherited, "NUMBA_NUM_THREADS": NUMBA_THREADS, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 or not done.stdout.strip():
        raise ChildFailed(f"{module} ended with {done.returncode}: {done.stderr[-1500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def machine() -> dict[str, Any]:
    """The instruction sets and threads of this process, as the libraries report them."""
    return {
        "torch": torch.__version__,
        "aten": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "numba": numba_config.CPU_NAME or "host",
        "tiles": amx.available(),
    }


# -- the design ----------------------------------------------------------------------------------


def design(least: int) -> list[Cell]:
    """At least `least` distinct cells; each pair of values of two factors occurs in some cell.

    A greedy search in a fixed random order: every run has the same cells.
    """
    every: list[Cell] = [
        dict(zip(FACTORS, values, strict=True)) for values in itertools.product(*FACTORS.values())
    ]
    order = Rng("numerics-matrix").permutation(len(every)).tolist()
    left = [every[at] for at in order]
    # The first cell is the machine without restrictions, as most users run it.
    cells: list[Cell] = [{name: next(iter(values)) for name, values in FACTORS.items()}]
    left.remove(cells[0])
    missed = {pair for cell in left for pair in _pairs(cell)} - _pairs(cells[0])
    while missed or len(cells) < min(least, len(every)):
        best = max(left, key=lambda cell: len(_pairs(cell) & missed))
        left.remove(best)
        cells.append(best)
        missed -= _pairs(best)
    return cells


def _pairs(cell: Cell) -> set[tuple[tuple[str, str], tuple[str, str]]]:
    return set(itertools.combinations(sorted(cell.items()), 2))


def settings_of(cell: Cell) -> Settings:
    """The environment variables of a cell."""
    merged: dict[str, str] = {}
    for factor, value in cell.items():
        merged.update(FACTORS[factor][value])
    return merged


# -- a cell --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What each cell computes. `controls`: number of cells that also train in stock float32."""

    models: list[str]
    steps: int
    precision: Precision
    controls: int


def child(question: Mapping[str, Any]) -> dict[str, Any]:
    """The digests of each model after training. Runs in the process of a cell."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    steps, precision = question["steps"], question["precision"]
    found: dict[str, Any] = {"machine": machine(), "canonical": {}, "stock": {}}
    for name in question["models"]:
        with canonical(precision):
            found["canonical"][name] = _train(name, partial(AdamW, lr=LEARNING_RATE), steps)
        if question["control"]:
            stock = partial(torch.optim.AdamW, lr=LEARNING_RATE)
            found["stock"][name] = _train(name, stock, steps)
    return found


def _train(name: str, optimizer: Any, steps: int) -> str:
    training = build(name, optimizer)
    for _ in range(steps):
        training.step()
    return state_digest(training.state())


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A cell and its environment. `python`: path of the environment's interpreter."""

    cell: Cell
    python: str
    has_control: bool


def places(plan: Plan, cells: list[Cell], beside: list[str]) -> list[Place]:
    """All cells in this environment, then the first cells in each other environment."""
    here = [
        Place(cell=cell, python=sys.executable, has_control=at < plan.controls)
        for at, cell in enumerate(cells)
    ]
    there = [
        Place(cell=cell, python=python, has_control=True)
        for python in beside
        for cell in cells[:CONTROLS]
    ]
    return here + there


def run_cells(plan: Plan, chosen: list[Place], jobs: int) -> Iterator[dict[str, Any]]:
    """The result of each cell, in order; `{"error": ...}` for a cell that failed."""

    def run(place: Place) -> dict[str, Any]:
        question = {
            "models": plan.models,
            "steps": plan.steps,
            "precision": plan.precision,
            "control": place.has_control,
        }
        settings = settings_of(place.cell)
        try:
            return ask("benchmarks.numerics_matrix", question, settings, place.python)
        except ChildFailed as error:
            return {"error": str(error), "canonical": {}, "stock": {}}

    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(run, chosen)


# -- the report ----------------------------------------------------------------------------------


def _row(number: int, cell: Cell, result: Mapping[str, Any]) -> str:
    values = " ".join(f"{value:<10}" for value in cell.values())
    if "error" in result:
        return f"{number:>3} {values} FAILED\n{result['error']}"
    ran, stock = result["machine"], result["stock"]
    tiles = "tiles" if ran["tiles"] else "no tiles"
    seen = f"torch {ran['torch']}, {ran['aten']}, {ran['threads']} threads, {tiles}"
    digests = " ".join(
        f"{name} {digest[:8]}" + (f" (stock {stock[name][:8]})" if name in stock else "")
        for name, digest in result["canonical"].items()
    )
    return f"{number:>3} {values} {digests}  [{seen}]"


def _case(name: str, results: list[dict[str, Any]]) -> dict[str, Any]:
    """The numbers of distinct digests of one model, canonical and stock."""
    ours = [one["canonical"][name] for one in results if name in one["canonical"]]
    stock = [one["stock"][name] for one in results if name in one["stock"]]
    distinct, control = len(set(ours)), len(set(stock))
    return {
        "case": name,
        "ours": distinct,
        "baseline": control,
        "ratio": round(distinct / control, 3) if control else None,
        "cells": len(ours),
        "controls": len(stock),
        "digest": ours[0] if distinct == 1 else None,
    }


def _verdict(cases: list[dict[str, Any]], failed: int) -> list[str]:
    """A line for each expectation that does not hold."""
    wrong = [f"{failed} cells failed"] if failed else []
    for case in cases:
        if case["ours"] != 1:
            wrong.append(f"{case['case']}: {case['ours']} canonical digests, not one")
        if case["baseline"] < 2:
            wrong.append(f"{case['case']}: the control does not differ, so its cells show nothing")
    return wrong


def _chosen_models(asked: list[str] | None, quick: bool) -> list[str]:
    chosen = asked or (list(QUICK_MODELS) if quick else list(TASKS))
    for name in [one for one in chosen if missing(one)]:
        print(f"{name}: left out, no {', '.join(missing(name))} here")
        chosen.remove(name)
    return chosen


def main() -> int:
    parser = argparse.ArgumentParser(description="One digest on every machine")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="three cells, within a minute")
    parser.add_argument("--steps", type=int, default=None, help="AdamW steps; default 200")
    parser.add_argument("--models", nargs="+", choices=TASKS, help="default: all models")
    parser.add_argument("--precision", choices=BITS, default="highest")
    parser.add_argument("--control", action="store_true", help="stock float32 in every cell")
    parser.add_argument("--beside", nargs="+", default=[], metavar="PYTHON", help="interpreters")
    parser.add_argument("--cells", type=int, default=None, help="number of first cells")
    parser.add_argument("--jobs", type=int, default=1, help="cells in parallel")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        print(json.dumps(child(options.child)))
        return 0
    cells = design(LEAST_CELLS)[: QUICK_CELLS if options.quick else options.cells]
    plan = Plan(
        models=_chosen_models(options.models, options.quick),
        steps=options.steps or (QUICK_STEPS if options.quick else 200),
        precision=options.precision,
        controls=len(cells) if options.control else CONTROLS,
    )
    print("    " + " ".join(f"{factor:<10}" for factor in FACTORS))
    chosen = places(plan, cells, options.beside)
    results: list[dict[str, Any]] = []
    for result in run_cells(plan, chosen, options.jobs):
        print(_row(len(results) + 1, chosen[len(results)].cell, result), flush=True)
        results.append(result)
    return _report(plan, results, options.json)


def _report(plan: Plan, results: list[dict[str, Any]], as_json: bool) -> int:
    """Print the results; returns the exit code."""
    cases = [_case(name, results) for name in plan.models]
    for case in cases:
        print(
            f"{case['case']}: {case['ours']} digest(s) in {case['cells']} cells after "
            f"{plan.steps} steps; stock {case['baseline']} in {case['controls']}"
        )
    wrong = _verdict(cases, sum("error" in one for one in results))
    print("\n".join(wrong) or "one digest for each model")
    if as_json:
        headline = {
            "name": "numerics_matrix",
            "ratio": cases[0]["ratio"] if cases else None,
            "better": "lower",
            "unit": "distinct digests",
        }
        print(json.dumps({**headline, "cases": cases}))
    return 1 if wrong or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
