"""The self-test: whether this machine computes the bits that verifiers expect.

    python -m workloads.numerics.self_test      one line of JSON; exit code 1 if the test failed

It checks the rules of arithmetic, the golden vectors of every operator and a short training. The
training's speed is the node's benchmark. The test takes a few seconds with compiled kernels, about
a minute without.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from gensyn_ray.domain import canonical
from gensyn_ray.domain.records import to_json
from workloads.numerics import compile_kernels, guard
from workloads.numerics.arithmetic import served
from workloads.numerics.golden import trainings, vectors
from workloads.numerics.node_test import Node, SelfTest
from workloads.numerics.pinned import numerics_class
from workloads.numerics.registry import LATEST

TRAINING = "transformer"
"""The training that is compared and timed."""
ROUNDS = 3
"""Repetitions of the timed training. The fastest one counts."""
REASONS = 3
"""Largest number of differences that are listed. Further ones are counted."""


def run(folder: Path | None = None) -> SelfTest:
    """Test canonical arithmetic in this process. `folder`: the golden files, if not those of the
    package."""
    started = time.monotonic()
    failures: list[str] = []
    try:
        failures += _differences(folder)
    except Exception as error:  # any error is a failure of this machine: report it to its owner
        failures.append(f"{type(error).__name__}: {error}")
    speed = 0.0 if failures else _steps_per_second()
    return SelfTest(
        numerics=f"reproducible/v{LATEST}",
        failures=failures,
        seconds=round(time.monotonic() - started, 3),
        steps_per_second=round(speed, 1),
    )


def _differences(folder: Path | None) -> Iterator[str]:
    """One line for each difference from the golden files. Raises `guard.UnfitMachine`."""
    guard.check()
    found = vectors.verify(folder=folder, quick=True)
    found += trainings.verify(folder=folder, names=[TRAINING])
    yield from found[:REASONS]
    if len(found) > REASONS:
        yield f"and {len(found) - REASONS} more"


def _steps_per_second() -> float:
    """Steps per second of the fastest repetition, which other load on the machine disturbs
    least."""
    best = 0.0
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        trainings.digest(TRAINING, "highest")
        best = max(best, trainings.STEPS / (time.perf_counter() - begun))
    return best


def node() -> Node:
    """Test this process in both modes."""
    return node_of(pinned=numerics_class(), reproducible=run())


def node_of(*, pinned: str, reproducible: SelfTest) -> Node:
    """The node with these results. It may join with the reproducible classes if their test
    passed."""
    classes = [pinned, *(served(LATEST) if reproducible.passed else ())]
    return Node(pinned=pinned, reproducible=reproducible, classes=classes)


if __name__ == "__main__":
    compile_kernels.in_other_process()
    tested = node()
    print(canonical.encode(to_json(tested)).decode())
    for failure in tested.reproducible.failures:
        print(f"self-test: {failure}", file=sys.stderr)
    sys.exit(0 if tested.reproducible.passed else 1)
