"""The objectives of a search, and its leading candidates: the best, or the weak Pareto front."""

from collections.abc import Mapping

Objectives = Mapping[str, str]
"""Metric -> "min" or "max". Schedulers and progress displays use the first metric."""


def leaders(values: Mapping[str, Mapping[str, float]], objectives: Objectives) -> list[str]:
    """The candidates that no other candidate beats in every objective, in the order given.

    `values`: candidate -> metric -> value; each candidate has all metrics of `objectives`.
    One objective: all candidates with the best value. Several: the weak Pareto front, which
    contains the best candidates of each objective."""
    signs = {name: 1.0 if mode == "max" else -1.0 for name, mode in objectives.items()}
    goods = {
        name: [sign * numbers[metric] for metric, sign in signs.items()]
        for name, numbers in values.items()
    }

    def is_beaten(goodness: list[float]) -> bool:
        return any(
            all(theirs > own for theirs, own in zip(other, goodness, strict=True))
            for other in goods.values()
        )

    return [name for name, goodness in goods.items() if not is_beaten(goodness)]
