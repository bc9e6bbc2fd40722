"""The base class of programs: a user's deterministic training run.

    class Digits(Program):
        steps_per_segment = 40
        segments = 8

        def load_data(self): return {"x": ..., "y": ...}
        def init(self, config, data, rng): self.model = ...; self.optimizer = ...
        def step(self, data, rng): ...
        def evaluate(self, data): return {"accuracy": ...}

The state of a program is every tensor, module, optimizer and learning-rate scheduler among its
attributes, and what else `step` changes of numbers, containers and objects with a `state_dict`
(`workloads.core.program_state` has the list). It must contain everything that the next step
depends on: it is stored, committed and given to the next node. Attributes whose names begin with an
underscore are not part of the state. They may hold what `init` makes from the data and no step
changes, such as the frozen weights under an adapter.

A program that adds up gradients over more than one segment sets `keeps_gradients = True`.

Randomness comes from the argument `rng`. Torch's global generator is seeded from it before each
call, so dropout replays, too. A program must not read a clock, the host, the network or the
environment, because its replay would differ.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from gensyn_ray.domain.errors import UsageError
from workloads.core.program_state import (
    ALWAYS,
    Leaf,
    boxed,
    fingerprint,
    flatten,
    has,
    items_of,
    loaded,
    made,
    module_items,
    plain,
    reached,
    take,
    unsaved_buffers,
)
from workloads.core.rng import Rng
from workloads.core.state import State

Config = Mapping[str, Any]
Metrics = dict[str, float]
GRADIENTS, TRAINED = "parameters.grad/", "parameters.requires_grad/"
"""Prefixes of names in the state. No attribute's name has a dot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    """What `init` left. `parts`: part of the state -> fingerprint. `groups`: optimizer -> number of
    its parameter groups. `trained`: names of the tensors that require a gradient."""

    parts: dict[str, str]
    groups: dict[str, int]
    trained: frozenset[str]


class Program(ABC):
    """One training run. The platform calls the constructor without arguments, then `init`."""

    steps_per_segment: ClassVar[int]
    """Training steps of a segment."""
    segments: ClassVar[int]
    """Segments of a whole run, without early stopping."""
    keeps_gradients: ClassVar[bool] = False
    """Whether a step reads the `.grad` that the step before it left. The state has them then."""
    _start: _Start | None = None

    def load_data(self) -> State:
        """The program's own data set: name -> tensor.

        A program without this method trains on a prepared data set, which the job names. Then this
        default raises `UsageError` if the job names none."""
        raise UsageError(
            f"{type(self).__name__} brings no data: name a prepared data set "
            "(`gensyn-ray data prepare` gives its digest)"
        )

    @abstractmethod
    def init(self, config: Config, data: Any, rng: Rng) -> None:
        """Set models and optimizers as attributes. `data`: the result of `load_data`, or the job's
        prepared `DataSet`. `rng`: the stream of the initialisation."""

    @abstractmethod
    def step(self, data: Any, rng: Rng) -> None:
        """Take one training step. `rng`: the stream of this step."""

    @abstractmethod
    def evaluate(self, data: Any) -> Mapping[str, float]:
        """Metrics of the present state: name -> finite number. Must not change the state."""

    def resume_at(self, step: int) -> None:
        """Called when a DiLoCo round starts at this step of the run, with a fresh optimizer.

        The default advances each learning-rate scheduler to the step."""
        with warnings.catch_warnings():
            # Other workers' optimizers took those steps.
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            for _, owner in self._owners():
                if isinstance(owner, LambdaLR) and step:
                    # Its rate depends on the step alone. A loop over all steps would make the
                    # start of each round slower than the last one.
                    owner.last_epoch = step - 1
                    owner.step()
                elif isinstance(owner, LRScheduler):
                    for _ in range(step):
                        owner.step()

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """The trained parameters, by their names in the state."""
        return {
            f"{name}/{plain(path)}": parameter
            for name, owner in self._owners()
            if isinstance(owner, torch.nn.Module)
            for path, parameter in owner.named_parameters()
            if parameter.requires_grad
        }

    def gradients(self) -> dict[str, torch.Tensor]:
        """The present `.grad` of parameters and of tensors in attributes, by their names."""
        found = self._trainable()
        return {name: tensor.grad for name, tensor in found if tensor.grad is not None}

    def holdings(self) -> list[Any]:
        """All objects in attributes and in their containers, whether they are state or not."""
        return [one for name, value in vars(self).items() for _, one in reached(name, value)]

    def begin(self) -> None:
        """Note what `init` left. The platform calls this after `init`.

        From then on the state leaves out the numbers and containers that `init` would make again.
        """
        parts = {name: fingerprint(items.items()) for name, items in self._parts()}
        self._start = _Start(parts=parts, groups=self._groups(), trained=self._trained())

    def get_state(self) -> dict[str, torch.Tensor]:
        """Copies of the state's tensors by name. Numbers become tensors of shape ().

        Raises `UsageError` if a step added a parameter group to an optimizer."""
        start = self._start or _Start(parts={}, groups=self._groups(), trained=self._trained())
        for name, groups in self._groups().items():
            if groups > start.groups.get(name, groups):
                raise UsageError(
                    f"`self.{name}` gets a parameter group after `init`, and a replay would not "
                    "know its parameters: make all groups in `init`, with lr = 0 until they train"
                )
        state = dict(self._items())
        for name, items in self._parts():
            if fingerprint(items.items()) != start.parts.get(name):
                state.update(items)
        trained = self._trained()
        state.update({TRAINED + name: name in trained for name in trained ^ start.trained})
        return {name: boxed(value) for name, value in state.items()}

    def set_state(self, state: State) -> None:
        """Load a state into a program on which `init` ran. Parts that the state leaves out stay as
        `init` made them. Raises `KeyError` if it lacks a name."""
        taken: set[int] = set()
        for name, owner in self._owners():
            setattr(self, name, loaded(name, owner, state, taken))
        for name, value in self._others():
            if has(name, state):
                setattr(self, name, loaded(name, value, state, taken))
        for name in {path.split("/")[0] for path in state}:  # attributes that a step set first
            if name.isidentifier() and name not in vars(self):
                setattr(self, name, made(name, state))
        for name, tensor in self._trainable():
            if TRAINED + name in state:
                tensor.requires_grad_(bool(state[TRAINED + name]))
            given = state.get(GRADIENTS + name)
            tensor.grad = None if given is None else given.clone()

    def _owners(self) -> Iterator[tuple[str, Any]]:
        """The attributes that are always in the state."""
        return ((name, one) for name, one in self._public() if isinstance(one, ALWAYS))

    def _others(self) -> Iterator[tuple[str, Any]]:
        return ((name, one) for name, one in self._public() if not isinstance(one, ALWAYS))

    def _public(self) -> list[tuple[str, Any]]:
        return sorted(item for item in vars(self).items() if not item[0].startswith("_"))

    def _items(self) -> Iterator[tuple[str, Leaf]]:
        for name, owner in self._owners():
            if isinstance(owner, torch.Tensor):
                yield name, owner
            elif isinstance(owner, torch.nn.Module):
                yield from module_items(name, owner)
            else:
                yield from flatten(name, owner.state_dict())
        if self.keeps_gradients:
            for name, gradient in self.gradients().items():
                yield GRADIENTS + name, gradient

    def _parts(self) -> Iterator[tuple[str, dict[str, Leaf]]]:
        """What is in the state once it differs from what `init` left, part by part."""
        taken: set[int] = set()
        for name, owner in self._owners():
            take(owner, taken)
            if isinstance(owner, torch.nn.Module):
                for path, buffer in unsaved_buffers(name, owner):
                    yield path, {path: buffer}
        for name, value in self._others():
            items = dict(items_of(name, value, taken))
            if items:
                yield name, items

    def _trainable(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Each tensor that can have a gradient: parameters, and tensors as attributes."""
        for attribute, value in self._public():
            for name, one in reached(attribute, value):
                if isinstance(one, torch.nn.Module):
                    for path, parameter in one.named_parameters():
                        yield f"{name}/{plain(path)}", parameter
                elif isinstance(one, torch.Tensor) and one.is_leaf and one.is_floating_point():
                    yield name, one

    def _trained(self) -> frozenset[str]:
        return frozenset(name for name, tensor in self._trainable() if tensor.requires_grad)

    def _groups(self) -> dict[str, int]:
        return {
            name: len(one.param_groups)
            for attribute, value in self._public()
            for name, one in reached(attribute, value)
            if isinstance(one, torch.optim.Optimizer)
        }
