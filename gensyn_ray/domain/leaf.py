"""What an operator signs for one segment: where it began, where it ended, in which arithmetic.

The canonical JSON of a leaf is what a commitment's Merkle root is made of, so its fields are part
of the protocol.
"""

import math
from dataclasses import dataclass
from typing import Any

from gensyn_ray.domain import canonical, records
from gensyn_ray.domain.ids import Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One segment's claim. `job`, `task`, `segment` and `attempt` name its slot.

    `state_before`, `state_after`: hex digests of states; the first is empty where `init` began the
    segment. `metrics`: name -> finite value. `data_digest`: hex digest of the data set. `numerics`:
    the class that the segment was computed in. `operator`: party id of the signer. Raises
    `ValueError` for a metric that is not finite or whose name reads as an amount of money.
    """

    job: str
    task: str
    segment: int
    attempt: int
    state_before: str
    state_after: str
    metrics: dict[str, float]
    data_digest: str
    numerics: str
    operator: str

    def __post_init__(self) -> None:
        for name, value in self.metrics.items():
            if name.endswith("_micro") or not math.isfinite(value):
                raise ValueError(f"the metric {name!r} cannot be {value!r} in a leaf")

    @property
    def slot(self) -> Slot:
        """The slot that this leaf answers."""
        return Slot(job=self.job, task=self.task, segment=self.segment, attempt=self.attempt)

    @property
    def claimed(self) -> str:
        """Hex digest of the end state and the metrics: what a replay's result is compared with."""
        return result_digest(self.state_after, self.metrics)

    @classmethod
    def parse(cls, value: Any) -> "Leaf":
        """The leaf that a JSON object spells. Raises `BadRecord`."""
        if not isinstance(value, dict):
            raise records.BadRecord("a leaf is a JSON object")
        return records.from_json(cls, value)  # pyright: ignore[reportUnknownArgumentType]

    def to_json(self) -> dict[str, Any]:
        """The inverse of `parse`."""
        return records.to_json(self)

    def encode(self) -> bytes:
        """Canonical bytes: what the commitment's Merkle root hashes."""
        return canonical.encode(self.to_json())


def result_digest(state_after: str, metrics: dict[str, float]) -> str:
    """Hex digest of what a segment comes to: its end state and its metrics, to the bit."""
    return canonical.digest({"state_after": state_after, "metrics": metrics})
