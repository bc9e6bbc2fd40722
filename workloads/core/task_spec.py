"""What defines a task. Imports no torch: a job's driver names tasks and trains none."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from gensyn_ray.domain import canonical
from gensyn_ray.domain.errors import UsageError
from gensyn_ray.domain.numerics import PINNED
from gensyn_ray.domain.records import to_json


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerSteps:
    """A DiLoCo worker's part of one round (`workloads.core.diloco`).

    The task loads the global state from its input `global` and takes `steps` training steps. The
    first one has number `first_step` in the run. Its end state is the pseudo-gradient, with `bits`
    bits for each number: 8 or 32."""

    steps: int
    first_step: int
    bits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OuterStep:
    """A DiLoCo outer step: applies the mean of pseudo-gradients to the input `global`.

    `weights`: input name -> weight of that pseudo-gradient. The inputs are added in the order of
    their names. Empty weights make the first global state from the program's `init`.
    `lr`, `momentum`: of the outer SGD with Nesterov momentum."""

    weights: dict[str, int]
    lr: float
    momentum: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """Defines a task. Node and verifier read it from the object store, by its digest.

    With the same bundle, the same spec gives the same states: on every machine, or within one
    numerics class if `numerics` is `pinned`.

    `bundle`: digest of the program's code. `task`: seeds the task's random numbers, together with
    `seed`. `data`: digest of a prepared data set; empty if the program has its own. `inputs`:
    name -> digest of a state of another task. A task with `inner_steps` or `outer_step` has one
    segment. Any other task is a run of the whole program."""

    bundle: str
    config: dict[str, Any]
    seed: int
    task: str
    numerics: str = PINNED
    data: str = ""
    inputs: dict[str, str] = field(default_factory=dict[str, str])
    inner_steps: InnerSteps | None = None
    outer_step: OuterStep | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, as hex."""
        return canonical.digest(to_json(self))


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config as JSON values: NumPy scalars as Python numbers, tuples as lists.

    Raises `UsageError` that names the first value that cannot travel."""
    plain = {name: _plain(value) for name, value in config.items()}
    for name, value in plain.items():
        try:
            canonical.encode({name: value})
        except (ValueError, TypeError):
            raise UsageError(
                f"the config's {name!r} is {value!r}, a {type(value).__name__}: use numbers, text, "
                "true or false, None, and lists and dicts of these with text as keys"
            ) from None
    return plain


def _plain(value: Any) -> Any:
    match value:
        case tuple() | list():
            return [_plain(one) for one in cast("list[Any]", value)]
        case dict():
            return {key: _plain(one) for key, one in cast("dict[Any, Any]", value).items()}
        case _ if hasattr(value, "item") and getattr(value, "shape", None) == ():
            return value.item()
        case _:
            return value
