"""The time of a canonical training step against a stock one.

    python -m benchmarks.numerics_overhead --json [--quick] [--profile]

Each side trains the same model with the same weights and batches: stock float32 with torch's AdamW,
and canonical arithmetic with its own AdamW, at the precisions `highest` and `high`. The sides take
turns in one process, so a drift of the machine's speed affects all of them. A ratio is the median
of the ratios of all rounds. Each setting (all instruction sets, AVX-512 without tiles, AVX2) and
each number of threads has its own process. `--profile` prints the time of each operator.

Not covered: the time to compile the kernels, about a minute for each machine and setting.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.numerics_matrix import Settings, ask, has_avx512, machine, numba_cpu
from benchmarks.numerics_models import Training, build
from workloads.numerics.mode import Observer, canonical
from workloads.numerics.optim import AdamW
from workloads.numerics.registry import Implementation, Operator

LEARNING_RATE = 1e-3
SIDES: tuple[str, ...] = ("stock", "highest", "high")
WARM_UP = 3
"""Steps without timing: they load kernels and choose the faster of two products."""
LEAST_ROUNDS, MOST_ROUNDS = 5, 25
SECONDS, QUICK_SECONDS = 30.0, 6.0
"""The time limit for the rounds of one case, beyond the least number of rounds."""
SHOWN = 18
"""Number of rows of a profile."""

SETTINGS: Mapping[str, Settings] = MappingProxyType(
    {
        "native": {},
        "avx512": {
            "ATEN_CPU_CAPABILITY": "avx512",
            "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
            "MKL_ENABLE_INSTRUCTIONS": "AVX512",
            **numba_cpu("skylake-avx512"),
        },
        "avx2": {
            "ATEN_CPU_CAPABILITY": "avx2",
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "MKL_ENABLE_INSTRUCTIONS": "AVX2",
            **numba_cpu("haswell"),
        },
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One model of one size. `sizes`: arguments of its builder. `threads`: numbers to measure."""

    name: str
    task: str
    sizes: Mapping[str, int]
    threads: tuple[int, ...] = (1, 2)


def _transformer(width: int, rows: int, length: int) -> Case:
    return Case(
        name=f"d={width}",
        task="transformer",
        sizes={"width": width, "layers": 4, "rows": rows, "length": length},
    )


CASES = (
    _transformer(128, 16, 128),
    _transformer(384, 8, 256),
    _transformer(768, 4, 256),
    Case(name="cnn", task="cnn", sizes={"rows": 64}, threads=(1,)),
    Case(name="gru", task="gru", sizes={"rows": 32, "length": 64}, threads=(1,)),
)
HEADLINE = "d=384, 2 threads, native, highest"


# -- timing --------------------------------------------------------------------------------------


def arithmetic(side: str, observer: Observer | None = None) -> AbstractContextManager[Any]:
    """The context manager of a side's arithmetic."""
    return nullcontext() if side == "stock" else canonical(side, observer=observer)  # type: ignore[arg-type]


def sides(case: Case) -> dict[str, Training]:
    """The same training for each side."""
    stock, ours = (
        partial(one, lr=LEARNING_RATE) for one in (torch.optim.AdamW, AdamW)
    )  # torch's AdamW chooses its default implementation, as users run it
    return {
        side: build(case.task, stock if side == "stock" else ours, **case.sizes) for side in SIDES
    }


def timed_step(side: str, training: Training) -> float:
    """The seconds of one step."""
    with arithmetic(side):
        begun = time.perf_counter()
        training.step()
        return time.perf_counter() - begun


def measure(case: Case, seconds: float) -> list[dict[str, float]]:
    """Side -> the seconds of a step in each round."""
    trainings = sides(case)
    for _ in range(WARM_UP):
        for side, training in trainings.items():
            timed_step(side, training)
    rounds: list[dict[str, float]] = []
    until = time.perf_counter() + seconds
    while len(rounds) < LEAST_ROUNDS or (len(rounds) < MOST_ROUNDS and time.perf_counter() < until):
        rounds.append({side: timed_step(side, one) for side, one in trainings.items()})
    return rounds


# -- where the time goes -------------------------------------------------------------------------


@dataclass(slots=True)
class Clock:
    """Collects the seconds and calls of each operator."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    calls: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def observe(
        self,
        operator: Operator,
        run: Implementation,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Observer of `canonical(observer=...)`: measures each operator."""
        begun = time.perf_counter()
        result = run(*args, **kwargs)
        name = str(operator)
        self.seconds[name] += time.perf_counter() - begun
        self.calls[name] += 1
        return result


class _Clocked(TorchDispatchMode):
    """Dispatch mode that measures stock operators with a clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return self._clock.observe(func, func, args, kwargs or {})


def profile(case: Case, seconds: float) -> list[str]:
    """A table: milliseconds per step of each operator on each side.

    `other`: the time outside of operators, which is Python, autograd, dispatch and the clock."""
    trainings, clocks = sides(case), {side: Clock() for side in SIDES}
    for _ in range(WARM_UP):
        for side, training in trainings.items():
            timed_step(side, training)
    steps, total = 0, dict.fromkeys(SIDES, 0.0)
    until = time.perf_counter() + seconds
    while steps < LEAST_ROUNDS or (steps < MOST_ROUNDS and time.perf_counter() < until):
        for side, training in trainings.items():
            total[side] += _clocked_step(side, training, clocks[side])
        steps += 1
    for side, clock in clocks.items():
        clock.seconds["other"] = total[side] - sum(clock.seconds.values())
        clock.seconds["all"] = total[side]
    return _table(clocks, steps)


def _clocked_step(side: str, training: Training, clock: Clock) -> float:
    watched = _Clocked(clock) if side == "stock" else nullcontext()
    with arithmetic(side, clock.observe), watched:
        begun = time.perf_counter()
        training.step()
        return time.perf_counter() - begun


def _table(clocks: Mapping[str, Clock], steps: int) -> list[str]:
    def milliseconds(name: str) -> list[float]:
        return [clock.seconds.get(name, 0.0) * 1000 / steps for clock in clocks.values()]

    def row(name: str, values: list[float]) -> str:
        calls = [clock.calls.get(name, 0) // steps for clock in clocks.values()]
        numbers = " | ".join(f"{value:.2f}" for value in values)
        return f"| {name} | {calls[0] or ''} | {calls[1] or ''} | {numbers} |"

    names = {name for clock in clocks.values() for name in clock.seconds}
    ordered = sorted(names, key=lambda name: -max(milliseconds(name)))
    rest: list[float] = [sum(one) for one in zip(*map(milliseconds, ordered[SHOWN:]), strict=True)]
    return [
        f"| operator | calls, stock | ours | {' | '.join(f'{side}, ms' for side in SIDES)} |",
        "|---" * (3 + len(SIDES)) + "|",
        *(row(name, milliseconds(name)) for name in ordered[:SHOWN]),
        *([row(f"{len(ordered) - SHOWN} more", rest)] if rest else []),
    ]


# -- processes -----------------------------------------------------------------------------------


def child(question: Mapping[str, Any]) -> dict[str, Any]:
    """The times and the profile of each case in the question. Runs in a setting's process."""
    torch.set_num_threads(question["threads"])
    found: dict[str, Any] = {"machine": machine(), "rounds": {}, "profile": {}}
    for case in CASES:
        if case.name not in question["cases"]:
            continue
        found["rounds"][case.name] = measure(case, question["seconds"])
        if question["profile"]:
            found["profile"][case.name] = profile(case, question["seconds"])
    return found


def run(
    chosen: Mapping[tuple[str, int], list[str]], *, seconds: float, is_profiled: bool
) -> Iterator[dict[str, Any]]:
    """The cases of the report, one by one. `chosen`: (setting, threads) -> names of cases."""
    for (setting, threads), names in chosen.items():
        question = {
            "threads": threads,
            "cases": names,
            "seconds": seconds,
            "profile": is_profiled,
        }
        environment = {**SETTINGS[setting], "OMP_NUM_THREADS": str(threads)}
        answer = ask("benchmarks.numerics_overhead", question, environment)
        plural = "thread" if threads == 1 else "threads"
        print(f"{setting}, {threads} {plural}: ran with {answer['machine']}", flush=True)
        for name, rounds in answer["rounds"].items():
            label = f"{name}, {threads} {plural}, {setting}"
            for side in SIDES[1:]:
                yield compare(f"{label}, {side}", rounds, side)
            print("\n".join(answer["profile"].get(name, [])))


def compare(name: str, rounds: list[dict[str, float]], side: str) -> dict[str, Any]:
    """Median milliseconds of both sides; median and quartiles of the ratios of all rounds."""
    ratios = [one[side] / one["stock"] for one in rounds]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "case": name,
        "ours": round(statistics.median(one[side] for one in rounds) * 1000, 3),
        "baseline": round(statistics.median(one["stock"] for one in rounds) * 1000, 3),
        "ratio": round(middle, 3),
        "quartiles": [round(low, 3), round(high, 3)],
        "rounds": len(rounds),
    }


def plan(is_quick: bool, only: list[str] | None) -> dict[tuple[str, int], list[str]]:
    """(setting, threads) -> names of cases.

    All cases, or for a quick run d=128 and d=384 with all instruction sets."""
    if is_quick:
        return {("native", 2): only or ["d=128", "d=384"]}
    cores = os.cpu_count() or 1
    found: dict[tuple[str, int], list[str]] = {}
    settings = [one for one in SETTINGS if one != "avx512" or has_avx512()]
    for setting in settings:
        for threads in (1, 2):
            names = [one.name for one in CASES if threads in one.threads]
            names = [name for name in names if only is None or name in only]
            if names and threads <= cores:
                found[setting, threads] = names
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="What canonical training costs")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="two sizes, within a minute")
    parser.add_argument("--cases", nargs="+", choices=[one.name for one in CASES])
    parser.add_argument("--profile", action="store_true", help="print the time of each operator")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        print(json.dumps(child(options.child)))
        return 0
    seconds = QUICK_SECONDS if options.quick else SECONDS
    cases: list[dict[str, Any]] = []
    chosen = plan(options.quick, options.cases)
    for case in run(chosen, seconds=seconds, is_profiled=options.profile):
        print("{case}: {ours} ms, stock {baseline} ms, ratio {ratio}".format(**case), flush=True)
        cases.append(case)
    headline = next((one for one in cases if one["case"] == HEADLINE), cases[0])
    result = {
        "name": "numerics_overhead",
        "ratio": headline["ratio"],
        "better": "lower",
        "unit": "ms a training step",
        "cases": cases,
    }
    if options.json:
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
