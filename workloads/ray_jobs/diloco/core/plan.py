"""The settings of a DiLoCo run."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The settings of a training in rounds.

    `rounds`: how many. `steps`: inner steps of a round, for a worker of the faster half. `bits`:
    for each number of a pseudo-gradient, 8 or 32. `outer_lr`, `outer_momentum`: of the outer step.
    `patience`: a round ends for late workers after the median of its times plus so many median
    absolute deviations.

    The outer step's defaults are milder than DiLoCo's 0.7 and 0.9, which overshoot while rounds are
    few (docs/results.md).
    """

    rounds: int
    steps: int
    bits: int = 8
    outer_lr: float = 0.8
    outer_momentum: float = 0.5
    patience: float = 4.0
