"""Finds what would make an honest replay of a program differ, by a few of its steps.

A run that goes on is compared with one that loads the stored state first. If they differ, the
attributes that the state did not carry are named, each with its remedy.

Not covered: what changes after these steps only; the order of a set of texts, which is fixed
within one process; arithmetic of other machines.
"""

import copy
import dataclasses
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from workloads.core import capture
from workloads.core.attributes import Described, described
from workloads.core.dataset import DataSet
from workloads.core.program import Program
from workloads.core.program_state import fingerprint
from workloads.core.segment import RNG_KEY, STEP, Arithmetic, Computed, Runner
from workloads.core.state import State
from workloads.core.task_spec import TaskSpec

OUTSIDE = ("random", "time", "datetime", "uuid", "secrets", "os", "socket")
"""Modules of Python whose values a replay does not see again."""
REMEDIES: Mapping[str, str] = {
    "number": "set it in `init` as a number, or as an empty list or dict of numbers",
    "text": "keep a number instead, and set it in `init`",
    "tensor": "set it in `init` as a tensor, or as an empty list or dict of tensors",
    "inside": "keep it in an attribute of the program or in a buffer of a module, or give the "
    "object that holds it `state_dict` and `load_state_dict`",
    "array": "keep a tensor (`torch.from_numpy`) or a Python number instead",
    "generator": "draw from `rng`, which each step gets, or keep a `torch.Generator`",
    "iterator": "choose each batch from `rng` in `step` (`rng.integers`, `rng.permutation`)",
    "set": "keep a list or a dict of numbers instead",
    "optimizer": "choose one whose own state has only tensors and numbers (LBFGS has None, too)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`name`: what is wrong, such as `self.best`, `.grad`, `evaluate`. `sentence`: what it does and
    what to write instead."""

    name: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """A program at the end of its steps. `gradients`: fingerprint of each `.grad`."""

    program: Program
    computed: Computed
    gradients: dict[str, str]

    def differs_from(self, other: "_Run") -> bool:
        return (
            self.computed.state_after != other.computed.state_after
            or self.computed.metrics != other.computed.metrics
            or self.gradients != other.gradients
        )


class _Vetted:
    """One program with its spec and data. Each run has a copy of the data."""

    def __init__(self, spec: TaskSpec, data: Any, arithmetic: Arithmetic, steps: int) -> None:
        self.spec, self.data, self.arithmetic, self.steps = spec, data, arithmetic, steps

    def begin(self, kind: type[Program]) -> tuple[Program, Runner, Any]:
        # A prepared data set cannot be changed.
        data = self.data if isinstance(self.data, DataSet) else copy.deepcopy(self.data)
        program = kind()
        return program, Runner(program, self.spec, data, self.arithmetic), data

    def go_on(self, program: Program, runner: Runner) -> _Run:
        runner.train(self.steps)
        return self.stand(program, runner)

    def stand(self, program: Program, runner: Runner) -> _Run:
        found = capture.gradients(program)
        gradients = {name: fingerprint([(name, one)]) for name, one in found.items()}
        return _Run(program=program, computed=runner.finish(), gradients=gradients)


def uncaptured(
    kind: type[Program], spec: TaskSpec, data: Any, arithmetic: Arithmetic, *, steps: int = 2
) -> list[Finding]:
    """What a replay of this program would not see. Empty if it replays.

    Takes 3 x `steps` steps of a program that replays, and more to name what is wrong. `steps` is
    at most half of the program's run: a schedule may end with it. A run of one step has no state
    to continue from, so it has no finding. `data`: what the program trains on; it is not changed.
    The spec's inner and outer steps are ignored. Raises what the program raises in a first run."""
    steps = min(steps, kind.segments * kind.steps_per_segment // 2)
    if steps == 0:
        return []
    plain = dataclasses.replace(spec, inner_steps=None, outer_step=None, inputs={})
    vetted = _Vetted(plain, data, arithmetic, steps)
    program, runner, _ = vetted.begin(kind)
    start = program.get_state()
    edge = vetted.go_on(program, runner)
    runner.train(steps)
    before = program.get_state()
    end = vetted.stand(program, runner)
    evaluation = _evaluation(before, end.computed, runner.finish())
    trouble = _trouble(vetted, kind, start, edge, end)
    if trouble is None:
        return [*evaluation, *_unlike_when_loaded(vetted, kind, end)]
    return [*evaluation, *_explained(vetted, kind, edge, end, trouble)]


def _trouble(
    vetted: _Vetted, kind: type[Program], start: State, edge: _Run, end: _Run
) -> str | None:
    """How a run from the edge's stored state differs from the one that went on, if it does."""
    try:
        program, runner, _ = vetted.begin(kind)
        if _changed(program.get_state(), start):
            return "begins elsewhere"
        runner.load(_as_stored(edge.computed.state))
        again = vetted.go_on(program, runner)
    except Exception as error:  # any exception of the program: the run that went on had none
        return f"raises {type(error).__name__}: {error}"
    if not again.differs_from(end):
        return None
    changed = _changed(again.computed.state, end.computed.state)
    return f"differs in `{changed[0]}`" if changed else "differs"


def _unlike_when_loaded(vetted: _Vetted, kind: type[Program], end: _Run) -> list[Finding]:
    """What a program that loads the end's state has under other names, dtypes or values."""
    program, runner, _ = vetted.begin(kind)
    try:
        runner.load(_as_stored(end.computed.state))
        state = program.get_state()
    except Exception as error:  # any exception of the program: the run that went on had none
        return [_unexplained(kind, f"raises {type(error).__name__}: {error}")]
    stored = {n: one for n, one in end.computed.state.items() if n not in (STEP, RNG_KEY)}
    changed = _changed(state, stored)
    if not changed:
        return []
    name = changed[0].removeprefix(capture.TRAINED).removeprefix(capture.GRADIENTS)
    attribute = name.split("/")[0]
    sentence = (
        f"`self.{attribute}` loads as something else than what was stored (`{changed[0]}`): set it "
        "in `init` as a number or tensor, or as an empty list or dict of these"
    )
    return [Finding(name=f"self.{attribute}", sentence=sentence)]


def _explained(
    vetted: _Vetted, kind: type[Program], edge: _Run, end: _Run, trouble: str
) -> list[Finding]:
    program, runner, data = vetted.begin(kind)
    second = vetted.go_on(program, runner)
    lived = _everything(program, data)
    if second.differs_from(edge) or vetted.go_on(program, runner).differs_from(end):
        return [_unlike(kind, second.computed, edge.computed)]
    if not kind.keeps_gradients and _replays_with_gradients(vetted, kind):
        return [
            Finding(
                name=".grad",
                sentence="`.grad` of the parameters is read by the next step and is not part of "
                "the state: set `keeps_gradients = True` in the class, or call `zero_grad` at the "
                "start of each step",
            )
        ]
    loaded, reloading, fresh = vetted.begin(kind)
    try:
        reloading.load(_as_stored(edge.computed.state))
    except Exception:  # `trouble` tells which
        return _unknown_to_init(lived, _everything(loaded, fresh)) or [_unexplained(kind, trouble)]
    return _responsible(lived, _everything(loaded, fresh)) or [_unexplained(kind, trouble)]


def _unexplained(kind: type[Program], trouble: str) -> Finding:
    sentence = (
        f"a run from the stored state {trouble}: something that `step` reads is neither in the "
        "state nor in another attribute, so set it in `init` as an attribute"
    )
    return Finding(name="step", sentence=sentence + _hint(kind))


def _unknown_to_init(
    lived: Mapping[str, Described], fresh: Mapping[str, Described]
) -> list[Finding]:
    """The first thing that a step made, for a state that a fresh program cannot load."""
    made = [path for path in lived if path not in fresh]
    return [
        Finding(
            name=_head(path),
            sentence=f"`{path}` is first made in `step`, so a fresh program cannot load its state: "
            "make it in `init`",
        )
        for path in made[:1]
    ]


def _replays_with_gradients(vetted: _Vetted, kind: type[Program]) -> bool:
    keeping = type(kind.__name__, (kind,), {"keeps_gradients": True})
    program, runner, _ = vetted.begin(keeping)
    start = program.get_state()
    edge = vetted.go_on(program, runner)
    end = vetted.go_on(program, runner)
    return _trouble(vetted, keeping, start, edge, end) is None


def _as_stored(state: State) -> dict[str, torch.Tensor]:
    return dict(sorted(state.items()))


def _everything(program: Program, data: Any) -> dict[str, Described]:
    found = {
        path: one
        for name, value in vars(program).items()
        if name != capture.START
        for path, one in described(f"self.{name}", value).items()
    }
    if not isinstance(data, DataSet):
        found.update(described("data", data))
    found.update(described("numpy.random", np.random.get_state()))
    return found


def _responsible(lived: Mapping[str, Described], stored: Mapping[str, Described]) -> list[Finding]:
    """One finding for each attribute that differs. `lived`: of the run that went on."""
    found: dict[str, Finding] = {}
    for path in [*lived, *(path for path in stored if path not in lived)]:
        if lived.get(path) != stored.get(path):
            head = _head(path)
            one = lived.get(path) or stored[path]
            found.setdefault(head, Finding(name=head, sentence=_sentence(head, path, one.kind)))
    return list(found.values())


def _head(path: str) -> str:
    """The attribute of `self` that the path begins with."""
    return ".".join(path.split("[", maxsplit=1)[0].split(".")[:2])


def _sentence(head: str, path: str, kind: str) -> str:
    if head == "data":
        return (
            f"`{path}` changes in `step`, but each node loads the data anew: keep what changes in "
            "an attribute"
        )
    if head == "numpy.random":
        return (
            "NumPy's global generator is seeded in `init` and is not part of the state: draw from "
            "`rng`, which each step gets"
        )
    name = head.removeprefix("self.")
    if name.startswith("_"):
        return (
            f"`{path}` changes in `step`, and an attribute whose name begins with an underscore is "
            f"not part of the state: call it `self.{name.lstrip('_')}`"
        )
    beyond = re.sub(r"\[.*?\]", "", path.removeprefix(head))  # a key may have a dot
    remedy = REMEDIES["inside" if "." in beyond else kind]
    return f"`{path}` changes in `step` and is not part of the state: {remedy}"


def _unlike(kind: type[Program], one: Computed, other: Computed) -> Finding:
    changed = _changed(one.state, other.state)
    where = f" in `{changed[0]}`" if changed else ""
    sentence = (
        f"two runs with the same seed differ{where}: `step`, `init` or `evaluate` reads a clock, "
        "`random`, `numpy.random`, the order of a set, or a variable outside of `self`; draw from "
        "`rng` and keep what changes in attributes"
    )
    return Finding(name="step", sentence=sentence + _hint(kind))


def _hint(kind: type[Program]) -> str:
    """Which modules of `OUTSIDE` the class mentions, and NumPy's generator."""
    used: set[str] = set()
    for base in kind.__mro__[: kind.__mro__.index(Program)]:
        for method in vars(base).values():
            if inspect.isfunction(method):
                used.update(method.__code__.co_names)
    names = [name for name in OUTSIDE if name in used]
    return f" (it uses {', '.join(f'`{name}`' for name in names)})" if names else ""


def _evaluation(before: State, first: Computed, second: Computed) -> list[Finding]:
    """Whether `evaluate` changes the state, or its own result."""
    changed = _changed({**first.state, **before}, first.state) or _changed(
        first.state, second.state
    )
    if changed:
        attribute = changed[0].split("/")[0]
        sentence = (
            f"`evaluate` changes `self.{attribute}` (`{changed[0]}`): call `eval()` on a module "
            "first, change attributes in `step`, and begin the name of one that no step reads with "
            "an underscore"
        )
        return [Finding(name="evaluate", sentence=sentence)]
    unlike = [name for name in first.metrics if first.metrics[name] != second.metrics.get(name)]
    if unlike:
        sentence = (
            f"`evaluate` gives another `{unlike[0]}` the second time: call `eval()` on each module "
            "in it, and draw no random numbers"
        )
        return [Finding(name="evaluate", sentence=sentence)]
    return []


def _changed(one: State, other: State) -> list[str]:
    """The names of tensors that only one of the states has, or that differ."""
    return [
        name
        for name in sorted({*one, *other})
        if name not in one
        or name not in other
        or fingerprint([("", one[name])]) != fingerprint([("", other[name])])
    ]
