"""Runs a program segment by segment. Operators and verifiers run this same code.

The start state's digest, the spec and the program's bundle determine the end state and the metrics.
"""

# torch's own annotations leave some functions partly unknown.
# pyright: reportUnknownMemberType=false

import math
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from gensyn_ray.domain.errors import OperationError
from workloads.core import capture, diloco
from workloads.core.program import Metrics, Program
from workloads.core.rng import Rng, seed_torch
from workloads.core.settings import Settings
from workloads.core.state import State, state_digest
from workloads.core.task_spec import OuterStep, TaskSpec

STEP = "progress/step"
RNG_KEY = "progress/rng_key"

Arithmetic = Callable[[str], AbstractContextManager[None]]
"""Enters the arithmetic that a numerics mode names: `workloads.numerics.arithmetic.arithmetic`."""


class Abandoned(OperationError):
    """The job no longer needs the segment. Its computation stopped between two steps."""


def always() -> bool:
    """The default of `is_wanted`: the segment is needed until it is done."""
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """The end of a segment.

    `state`: copies of the tensors. `state_after`: digest of `state`. `metrics`: finite numbers."""

    state: dict[str, torch.Tensor]
    state_after: str
    metrics: Metrics


class Runner:
    """Runs one program in this process, in the arithmetic that its spec names.

    `data`: what the program trains on. `inputs`: input name -> state. The constructor calls the
    program's `init`. It raises `KeyError` if the input `global` lacks one of the program's
    parameters, and what the program raises."""

    def __init__(
        self,
        program: Program,
        spec: TaskSpec,
        data: Any,
        arithmetic: Arithmetic,
        inputs: Mapping[str, State] | None = None,
    ) -> None:
        self._arithmetic = arithmetic
        self._program = program
        self._spec = spec
        self._data = data
        self._inputs = inputs or {}
        self._step = 0
        rng = self._rng("init")
        seed_torch(rng.seed())
        with arithmetic(spec.numerics):
            program.init(spec.config, data, rng)
        capture.begin(program)
        self._modes = _modes(program)
        if "global" in self._inputs:
            self._begin_at(self._inputs["global"])

    @property
    def segments(self) -> int:
        """The number of segments of the task."""
        return 1 if self._is_diloco else self._program.segments

    @property
    def segments_done(self) -> int:
        """The number of whole segments before the present state. Counts the segments of another
        task's state that this one continues."""
        if self._is_diloco:
            return 1
        return self._step // self._program.steps_per_segment

    @property
    def _is_diloco(self) -> bool:
        return self._spec.inner_steps is not None or self._spec.outer_step is not None

    def load(self, state: State) -> None:
        """Continue from a state. Raises `KeyError` if it is not one of this program's.

        If another task made the state, optimizers and schedules keep the settings that `init` took
        from this task's config (`workloads.core.settings`)."""
        rest = dict(state)
        self._step = int(rest.pop(STEP))
        is_own = torch.equal(rest.pop(RNG_KEY), self._key())
        settings = Settings(capture.holdings(self._program))
        self._program.set_state(rest)
        if not is_own:
            settings.put_back()

    def run_segment(self, is_wanted: Callable[[], bool] = always) -> Computed:
        """Compute one segment: `steps_per_segment` steps and an evaluation, or a DiLoCo worker's
        inner steps, or an outer step.

        Raises `NotANumber` if the state holds NaN or a pseudo-gradient is not finite, `ValueError`
        if a metric is not finite, and `Abandoned` before a step for which `is_wanted` is false.
        """
        if self._spec.outer_step is not None:
            return self._take_outer_step(self._spec.outer_step)
        inner = self._spec.inner_steps
        self.train(inner.steps if inner else self._program.steps_per_segment, is_wanted)
        return self.finish()

    def train(self, steps: int, is_wanted: Callable[[], bool] = always) -> None:
        """Take `steps` training steps. Raises `Abandoned` before one that is not wanted, and what
        the program raises."""
        with self._arithmetic(self._spec.numerics), _uncompiled():
            for _ in range(steps):
                if not is_wanted():
                    raise Abandoned("the job no longer needs this segment")
                rng = self._rng("step", self._step)
                seed_torch(rng.seed())
                self._program.step(self._data, rng)
                self._step += 1

    def finish(self) -> Computed:
        """The present state with its digest and metrics.

        Inner steps have no metrics: the outer step evaluates the global state, once for all."""
        inner = self._spec.inner_steps
        if inner is not None:
            start = diloco.parameters_of(self._inputs["global"])
            state = diloco.pseudo_gradient(start, self._program.parameters(), inner.bits)
            metrics: Metrics = {}
        else:
            metrics = self._evaluate()
            state = self._program.get_state()
        state[STEP] = torch.tensor(self._step, dtype=torch.int64)
        state[RNG_KEY] = self._key()
        return Computed(state=state, state_after=state_digest(state), metrics=metrics)

    def _take_outer_step(self, step: OuterStep) -> Computed:
        if step.weights:
            state = diloco.outer_step(
                self._inputs["global"],
                [self._inputs[name] for name in sorted(step.weights)],
                [step.weights[name] for name in sorted(step.weights)],
                lr=step.lr,
                momentum=step.momentum,
            )
        else:
            parameters = self._program.parameters()
            state = diloco.first_global({n: p.detach().clone() for n, p in parameters.items()})
        self._begin_at(state)
        metrics = self._evaluate()
        return Computed(state=state, state_after=state_digest(state), metrics=metrics)

    def _begin_at(self, state: State) -> None:
        """Set the program's parameters to those of a global state."""
        given = diloco.parameters_of(state)
        with torch.no_grad():
            for name, parameter in self._program.parameters().items():
                parameter.copy_(given[name])
        if self._spec.inner_steps is not None:
            self._step = self._spec.inner_steps.first_step
            with self._arithmetic(self._spec.numerics):
                self._program.resume_at(self._step)

    def _evaluate(self) -> Metrics:
        with self._arithmetic(self._spec.numerics), _uncompiled(), torch.no_grad():
            metrics = _finite(_mapping(self._program.evaluate(self._data)))
        # A replay of the next segment starts in the modes that `init` sets. `evaluate` may leave
        # other ones.
        for module, is_training in self._modes:
            module.training = is_training
        return metrics

    def _key(self) -> torch.Tensor:
        """The task's random key, uint8 of shape (16,). Every task of a job has another one."""
        return torch.frombuffer(bytearray(self._rng().key), dtype=torch.uint8)

    def _rng(self, *purpose: str | int) -> Rng:
        return Rng(self._spec.seed, self._spec.task, *purpose)


@contextmanager
def _uncompiled() -> Generator[None]:
    """Context in which `torch.compile` has no effect. The bits of compiled kernels depend on the
    compiler and on the shapes that the process has seen before."""
    if "torch._dynamo" not in sys.modules:  # torch imports it for the first `torch.compile`
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def _modes(program: Program) -> list[tuple[nn.Module, bool]]:
    """Each torch module in the program's attributes, with its training mode."""
    held = [one for one in capture.holdings(program) if isinstance(one, nn.Module)]
    return [(module, module.training) for one in held for module in one.modules()]


def _mapping(metrics: Any) -> Mapping[str, float]:
    if not isinstance(metrics, Mapping):
        shown = "None" if metrics is None else f"a {type(metrics).__name__}"
        raise TypeError(f"evaluate gives {shown}: return a dict of numbers by name")
    return cast("Mapping[str, float]", metrics)


def _finite(metrics: Mapping[str, float]) -> Metrics:
    clean = {name: float(value) for name, value in metrics.items()}
    for name, value in clean.items():
        if not math.isfinite(value):
            raise ValueError(f"the metric {name!r} is {value}: it cannot be committed")
        if name.endswith("_micro"):
            raise ValueError(
                f"the metric {name!r} ends in _micro, as amounts of money do: rename it"
            )
    return clean
