"""The base class of programs: a user's deterministic training run.

    class Digits(Program):
        steps_per_segment = 40
        segments = 8

        def load_data(self): return {"x": ..., "y": ...}
        def init(self, config, data, rng): self.model = ...; self.optimizer = ...
        def step(self, data, rng): ...
        def evaluate(self, data): return {"accuracy": ...}

The state of a program is every tensor, module, optimizer and learning-rate scheduler among its
attributes. It must contain everything that the next step depends on: it is stored, committed and
given to the next node. Attributes whose names begin with an underscore are not part of the state.
They may hold what `init` makes from the data and no step changes, such as the frozen weights under
an adapter.

Randomness comes from the argument `rng`. Torch's global generator is seeded from it before each
call, so dropout replays, too. A program must not read a clock, the host, the network or the
environment, because its replay would differ.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, cast

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from gensyn_ray.domain.errors import UsageError
from workloads.core.rng import Rng
from workloads.core.state import State

Config = Mapping[str, Any]
Metrics = dict[str, float]
_STATEFUL = (torch.nn.Module, torch.optim.Optimizer, LRScheduler)


class Program(ABC):
    """One training run. The platform calls the constructor without arguments, then `init`."""

    steps_per_segment: ClassVar[int]
    """Training steps of a segment."""
    segments: ClassVar[int]
    """Segments of a whole run, without early stopping."""

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
            f"{name}/{path}": parameter
            for name, owner in self._owners()
            if isinstance(owner, torch.nn.Module)
            for path, parameter in owner.named_parameters()
            if parameter.requires_grad
        }

    def get_state(self) -> dict[str, torch.Tensor]:
        """Copies of the state's tensors by name. Numbers become tensors of shape ()."""
        return {
            name: value.detach().clone() if isinstance(value, torch.Tensor) else _box(value)
            for name, value in self._items()
        }

    def set_state(self, state: State) -> None:
        """Load a state of a program with the same config. Raises `KeyError` if it lacks a name."""
        for attribute, owner in self._owners():
            nested = _unflatten(attribute, state)
            if isinstance(owner, torch.Tensor):
                given = state[attribute]
                if given.shape == owner.shape and given.dtype == owner.dtype:
                    with torch.no_grad():  # in place: an optimizer may hold this tensor
                        owner.copy_(given)
                else:
                    setattr(self, attribute, given.clone().requires_grad_(owner.requires_grad))
            elif isinstance(owner, torch.nn.Module):
                owner.load_state_dict(cast("dict[str, Any]", _flat_below(attribute, state)))
            else:
                owner.load_state_dict(_merge(owner.state_dict(), nested))

    def _owners(self) -> Iterator[tuple[str, Any]]:
        for name, value in sorted(vars(self).items()):
            if isinstance(value, (*_STATEFUL, torch.Tensor)) and not name.startswith("_"):
                yield name, value

    def _items(self) -> Iterator[tuple[str, Any]]:
        for name, owner in self._owners():
            if isinstance(owner, torch.Tensor):
                yield name, owner
            else:
                yield from _flatten(name, owner.state_dict())


def _flatten(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The tensors and numbers in a nested value. Text, None and callables come from `init`."""
    if isinstance(value, Mapping):
        for key, item in cast("Mapping[Any, Any]", value).items():
            yield from _flatten(f"{prefix}/{key}", item)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(cast("list[Any]", value)):
            yield from _flatten(f"{prefix}/{index}", item)
    elif isinstance(value, torch.Tensor | bool | int | float):
        yield prefix, value


def _box(value: bool | int | float) -> torch.Tensor:
    kinds = {bool: torch.bool, int: torch.int64, float: torch.float64}
    return torch.tensor(value, dtype=kinds[type(value)])


def _flat_below(prefix: str, state: State) -> dict[str, torch.Tensor]:
    start = f"{prefix}/"
    return {name[len(start) :]: t for name, t in state.items() if name.startswith(start)}


def _unflatten(prefix: str, state: State) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for path, tensor in _flat_below(prefix, state).items():
        *parents, last = path.split("/")
        here = root
        for part in parents:
            here = here.setdefault(part, {})
        here[last] = tensor
    return root


def _merge(shape: Any, values: Any) -> Any:
    """`values` in the structure of `shape`, plus the keys that only `values` has.

    Those are an optimizer's moments: a fresh optimizer has none.
    """
    given = cast("dict[str, Any]", values if isinstance(values, dict) else {})
    if isinstance(shape, Mapping):
        known = {str(key): (key, item) for key, item in cast("Mapping[Any, Any]", shape).items()}
        merged = {key: _merge(item, given.get(name)) for name, (key, item) in known.items()}
        for name, found in given.items():
            if name not in known:
                merged[int(name) if name.isdigit() else name] = _as_found(found)
        return merged
    if isinstance(shape, list | tuple):
        items = cast("list[Any]", shape)
        merged_items = [_merge(item, given.get(str(i))) for i, item in enumerate(items)]
        return tuple(merged_items) if isinstance(shape, tuple) else merged_items
    if isinstance(values, torch.Tensor) and not isinstance(shape, torch.Tensor):
        return values.item()
    return values.clone() if isinstance(values, torch.Tensor) else shape


def _as_found(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    return {
        int(name) if name.isdigit() else name: _as_found(item)
        for name, item in cast("dict[str, Any]", value).items()
    }
