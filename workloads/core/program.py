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
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from gensyn_ray.domain.errors import UsageError
from workloads.core import capture
from workloads.core.program_state import plain
from workloads.core.rng import Rng
from workloads.core.state import State

Config = Mapping[str, Any]
Metrics = dict[str, float]


class Program(ABC):
    """One training run. The platform calls the constructor without arguments, then `init`."""

    steps_per_segment: ClassVar[int]
    """Training steps of a segment."""
    segments: ClassVar[int]
    """Segments of a whole run, without early stopping."""
    keeps_gradients: ClassVar[bool] = False
    """Whether a step reads the `.grad` that the step before it left. The state has them then."""

    def load_data(self) -> State:
        """The program's own data set: name -> tensor.

        Runs in the submitter's process only, in stock PyTorch: nodes and verifiers read the tensors
        under their digest. So it may read files and use operators that have no canonical
        definition. A program without this method trains on a prepared data set, which the job
        names. Then this default raises `UsageError` if the job names none."""
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
            for _, owner in capture.owners(self):
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
            for name, owner in capture.owners(self)
            if isinstance(owner, torch.nn.Module)
            for path, parameter in owner.named_parameters()
            if parameter.requires_grad
        }

    def get_state(self) -> dict[str, torch.Tensor]:
        """Copies of the state's tensors by name. Numbers become tensors of shape ().

        Raises `UsageError` if a step added a parameter group to an optimizer."""
        return capture.get_state(self)

    def set_state(self, state: State) -> None:
        """Load a state into a program on which `init` ran. Parts that the state leaves out stay as
        `init` made them. Raises `KeyError` if it lacks a name."""
        capture.set_state(self, state)
