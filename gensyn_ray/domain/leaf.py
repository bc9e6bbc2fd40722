"""Leaves: an operator's signed statements about segments.

A commitment's Merkle root covers the canonical JSON of its leaves, so the fields are part of the
protocol.
"""

import math
from dataclasses import dataclass
from typing import Any

from gensyn_ray.domain import canonical, records
from gensyn_ray.domain.ids import Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A statement about one segment. `job`, `task`, `segment` and `attempt` are its slot.

    `state_before`, `state_after`: hex digests of states; `state_before` is empty if the segment
    starts with `init`. `metrics`: finite values by name. `data_digest`: hex digest of the data set.
    `numerics`: the numerics class of the computation. `operator`: party id of the signer. Raises
    `ValueError` for a metric that is not finite or whose name ends in `_micro`.
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
        """The slot that the leaf answers."""
        return Slot(job=self.job, task=self.task, segment=self.segment, attempt=self.attempt)

    @property
    def claimed(self) -> str:
        """The claim: result digest of the end state and the metrics, hex."""
        return result_digest(self.state_after, self.metrics)

    @classmethod
    def parse(cls, value: Any) -> "Leaf":
        """Parse a leaf from a JSON value. Raises `BadRecord`."""
        if not isinstance(value, dict):
            raise records.BadRecord("a leaf is a JSON object")
        return records.from_json(cls, value)  # pyright: ignore[reportUnknownArgumentType]

    def to_json(self) -> dict[str, Any]:
        """The inverse of `parse`."""
        return records.to_json(self)

    def encode(self) -> bytes:
        """Canonical bytes, as the commitment's Merkle root covers them."""
        return canonical.encode(self.to_json())


def result_digest(state_after: str, metrics: dict[str, float]) -> str:
    """Hex digest of a segment's end state (a hex digest) and its metrics, exact to the bit."""
    return canonical.digest({"state_after": state_after, "metrics": metrics})
