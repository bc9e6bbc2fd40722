"""Who leads a search: by one metric, or by several that may be at odds."""

from collections.abc import Mapping

Objectives = Mapping[str, str]
"""What a search wants of each metric, "min" or "max"; people are shown the first, and schedulers
stop by it."""


def leaders(values: Mapping[str, Mapping[str, float]], objectives: Objectives) -> list[str]:
    """Of candidates with a value for each metric, those that no other beats in every objective:
    with one objective all that share the best value, with several the weak Pareto front, which
    has whoever is best in any one of them."""
    signs = {name: 1.0 if mode == "max" else -1.0 for name, mode in objectives.items()}
    goods = {
        who: [sign * mine[name] for name, sign in signs.items()] for who, mine in values.items()
    }

    def is_beaten(mine: list[float]) -> bool:
        return any(
            all(theirs > own for theirs, own in zip(other, mine, strict=True))
            for other in goods.values()
        )

    return [who for who, mine in goods.items() if not is_beaten(mine)]
