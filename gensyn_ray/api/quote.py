"""Inputs of a quote: the program's time on this machine, and the volunteers' nodes.

The program runs a few steps in this process. The self-test's speed here converts its seconds to
reference seconds, so that they can be compared with other machines'.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from gensyn_ray.api.submission import Submission, WithOwnData
from gensyn_ray.domain.errors import OperationError
from gensyn_ray.jobs.nodes import VolunteerNode
from workloads.core.bundle import load_program
from workloads.core.data_cache import DataCache, Store
from workloads.core.program_errors import told_to_its_author
from workloads.core.quote import REFERENCE_SPEED, Pool, mean_stay_s
from workloads.core.segment import Runner
from workloads.core.task_spec import plain_config
from workloads.numerics import self_test
from workloads.numerics.arithmetic import arithmetic
from workloads.ray_jobs.kind.interface import Timing

TIMED_STEPS = 5


def measured(submission: Submission, config: dict[str, Any], store: Store) -> Timing:
    """Run the self-test, then a few steps of the program with this config.

    Takes some seconds. `store`: source of prepared data. Raises `OperationError` if this machine
    fails the self-test, and `ProgramFailed` for what the program raises."""
    here = self_test.run()
    if here.failures:
        raise OperationError(f"this machine cannot be compared: {here.failures[0]}")
    spec = replace(submission.template, config=plain_config(config), task="quote")
    with told_to_its_author(submission.bundle.file):
        program = load_program(submission.bundle)()
        data = DataCache().get(spec, WithOwnData(submission.own, store))
        return timing_of(
            Runner(program, spec, data, arithmetic),
            segment_steps=program.steps_per_segment,
            speed=here.steps_per_second,
            clock=time.perf_counter,
        )


def timing_of(
    runner: Runner, *, segment_steps: int, speed: float, clock: Callable[[], float]
) -> Timing:
    """Time `TIMED_STEPS` steps and the end of a segment.

    `speed`: of this machine in the self-test, in steps per second. `clock`: seconds."""
    runner.train(1)  # not timed: the first step compiles kernels
    started_s = clock()
    runner.train(TIMED_STEPS)
    trained_s = clock()
    runner.finish()
    reference = speed / REFERENCE_SPEED
    return Timing(
        step_s=(trained_s - started_s) / TIMED_STEPS * reference,
        end_s=(clock() - trained_s) * reference,
        segments=runner.segments,
        segment_steps=segment_steps,
    )


def pool_of(nodes: Sequence[VolunteerNode]) -> Pool:
    """The pool of the volunteers' nodes. Raises `OperationError` if none is there."""
    speeds = [node.speed / REFERENCE_SPEED for node in nodes if not node.gone]
    if not speeds:
        raise OperationError("the network has no volunteer's node: a quote needs one at least")
    return Pool(
        speeds=speeds, mean_stay_s=mean_stay_s([(node.seconds, node.gone) for node in nodes])
    )
