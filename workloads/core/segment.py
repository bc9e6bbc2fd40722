"""Runs a program segment by segment, on the node that is paid for it and again wherever it is
checked: both sides run this code.

The digest of the state that a segment starts from, the spec and the program's bundle determine the
state that it ends in and its metrics.
"""

# torch's own annotations leave some functions partly unknown.
# pyright: reportUnknownMemberType=false

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from gensyn_ray.domain import canonical
from gensyn_ray.domain.errors import OperationError
from gensyn_ray.domain.ids import Slot
from gensyn_ray.domain.numerics import PINNED
from gensyn_ray.domain.records import to_json
from workloads.core import diloco
from workloads.core.program import Metrics, Program
from workloads.core.rng import Rng
from workloads.core.state import State, state_digest

STEP = "progress/step"
RNG_KEY = "progress/rng_key"

Arithmetic = Callable[[str], AbstractContextManager[None]]
"""Enters the arithmetic that a numerics mode names: `workloads.numerics.arithmetic.arithmetic`."""


class Abandoned(OperationError):
    """Nobody wants the segment any more: its steps were given up."""


def always() -> bool:
    """Wanted, whatever happens."""
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A worker's round of loosely coupled training (`outer`): from the input `global`, `steps`
    steps that begin at `first_step` of the run, and what they changed, `bits` bits a number."""

    steps: int
    first_step: int
    bits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """The outer step: the inputs that `weights` names, in the order of their names, merged into the
    input `global`. Without weights the global state is made, by `init`."""

    weights: dict[str, int]
    lr: float
    momentum: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """What a task is: with the bundle's code, the same spec gives the same states; where `numerics`
    is `pinned`, on nodes of one class.

    `data`: digest of a prepared data set, empty where the program brings its own. `inputs`: name ->
    digest of the states of other tasks that this one grows from. A task with a `round` or a `merge`
    is one segment; else it is a run of the program."""

    bundle: str
    config: dict[str, Any]
    seed: int
    task: str
    numerics: str = PINNED
    data: str = ""
    inputs: dict[str, str] = field(default_factory=dict[str, str])
    round: Round | None = None
    merge: Merge | None = None

    @property
    def digest(self) -> str:
        return canonical.digest(to_json(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """The end of a segment: its state (copies), that state's digest, and the metrics."""

    state: dict[str, torch.Tensor]
    state_after: str
    metrics: Metrics


class Runner:
    """One program in one process, in the arithmetic that its spec names.

    `inputs`: the states that the spec's inputs name. Raises `KeyError` if one of them is none of
    this program's."""

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
        torch.manual_seed(rng.seed())
        with arithmetic(spec.numerics):
            program.init(spec.config, data, rng)
        self._modes = _modes(program)
        if "global" in self._inputs:
            self._begin_at(self._inputs["global"])

    @property
    def segments(self) -> int:
        """How many segments the whole task has."""
        return 1 if self._spec.round or self._spec.merge else self._program.segments

    @property
    def segments_done(self) -> int:
        """Whole segments behind the present state, those of a state it grew from included."""
        if self._spec.round or self._spec.merge:
            return 1
        return self._step // self._program.steps_per_segment

    def load(self, state: State) -> None:
        """Go on from a state. Raises `KeyError` if it is not one of this program's."""
        rest = dict(state)
        self._step = int(rest.pop(STEP))
        rest.pop(RNG_KEY)
        self._program.set_state(rest)

    def run_segment(self, is_wanted: Callable[[], bool] = always) -> Computed:
        """Train `steps_per_segment` steps and evaluate; or a round, or a merge.

        Raises `NotANumber` if the state holds NaN or a round ends in numbers that are not finite,
        `ValueError` if a metric is not finite, `Abandoned` between two steps of which the second is
        not wanted.
        """
        if self._spec.merge:
            return self._merge(self._spec.merge)
        steps = self._spec.round.steps if self._spec.round else self._program.steps_per_segment
        self.train(steps, is_wanted)
        return self.finish()

    def train(self, steps: int, is_wanted: Callable[[], bool] = always) -> None:
        """Take `steps` training steps. Raises `Abandoned` before one that is not wanted."""
        with self._arithmetic(self._spec.numerics):
            for _ in range(steps):
                if not is_wanted():
                    raise Abandoned("nobody waits for these steps any more")
                rng = self._rng("step", self._step)
                torch.manual_seed(rng.seed())
                self._program.step(self._data, rng)
                self._step += 1

    def finish(self) -> Computed:
        """The present state with its digest and metrics. A round has none: what came of it is
        measured where it was merged, and workers would wait for each other's measuring."""
        if self._spec.round:
            start = diloco.parameters_of(self._inputs["global"])
            state = diloco.change(start, self._program.parameters(), self._spec.round.bits)
            metrics: Metrics = {}
        else:
            metrics = self._evaluate()
            state = self._program.get_state()
        state[STEP] = torch.tensor(self._step, dtype=torch.int64)
        state[RNG_KEY] = torch.frombuffer(bytearray(self._rng().key), dtype=torch.uint8)
        return Computed(state=state, state_after=state_digest(state), metrics=metrics)

    def _merge(self, merge: Merge) -> Computed:
        if merge.weights:
            state = diloco.merge(
                self._inputs["global"],
                [self._inputs[name] for name in sorted(merge.weights)],
                [merge.weights[name] for name in sorted(merge.weights)],
                lr=merge.lr,
                momentum=merge.momentum,
            )
        else:
            parameters = self._program.parameters()
            state = diloco.first_global({n: p.detach().clone() for n, p in parameters.items()})
        self._begin_at(state)
        metrics = self._evaluate()
        return Computed(state=state, state_after=state_digest(state), metrics=metrics)

    def _begin_at(self, state: State) -> None:
        """The program's parameters become those of a global state."""
        given = diloco.parameters_of(state)
        with torch.no_grad():
            for name, parameter in self._program.parameters().items():
                parameter.copy_(given[name])
        if self._spec.round:
            self._step = self._spec.round.first_step
            with self._arithmetic(self._spec.numerics):
                self._program.resume_at(self._step)

    def _evaluate(self) -> Metrics:
        with self._arithmetic(self._spec.numerics), torch.no_grad():
            metrics = _finite(self._program.evaluate(self._data))
        # A replay of the next segment begins in the modes that `init` gives, not in `evaluate`'s.
        for module, is_training in self._modes:
            module.training = is_training
        return metrics

    def _rng(self, *purpose: str | int) -> Rng:
        return Rng(self._spec.seed, self._spec.task, *purpose)


def _modes(program: Program) -> list[tuple[nn.Module, bool]]:
    """Each module that a program holds, with its training mode."""
    held = [one for one in vars(program).values() if isinstance(one, nn.Module)]
    return [(module, module.training) for one in held for module in one.modules()]


def make_leaf(
    *,
    slot: Slot,
    state_before: str,
    computed: Computed,
    data_digest: str,
    numerics: str,
    operator: str,
) -> dict[str, Any]:
    """The leaf that an operator signs for. `state_before` is empty where `init` began it."""
    return {
        **to_json(slot),
        "state_before": state_before,
        "state_after": computed.state_after,
        "metrics": computed.metrics,
        "data_digest": data_digest,
        "numerics": numerics,
        "operator": operator,
    }


def _finite(metrics: Mapping[str, float]) -> Metrics:
    clean = {name: float(value) for name, value in metrics.items()}
    for name, value in clean.items():
        if not math.isfinite(value):
            raise ValueError(f"the metric {name!r} is {value}: it cannot be committed")
        if name.endswith("_micro"):
            raise ValueError(f"{name!r} would read as an amount of money: rename the metric")
    return clean
