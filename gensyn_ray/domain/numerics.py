"""Names of numerics: what a job asks for, what a node serves, what a leaf was computed in.

`pinned` asks for stock kernels, whose bits agree among nodes of one class only; a class is named by
the digest that its nodes compute. Every other mode gives the same bits on every machine, so it is a
class by itself: `reproducible/v1/highest` is version 1 of the canonical operator set with products
of the highest precision.
"""

PINNED = "pinned"
REPRODUCIBLE = "reproducible/v1/highest"


def is_reproducible(numerics: str) -> bool:
    """Whether a mode or class is one of canonical arithmetic."""
    return numerics.startswith("reproducible/")


def pinned_class(joined: str) -> str:
    """The first class of stock kernels among those that a node joined with, or nothing."""
    return next(iter(classes_in(joined, PINNED)), "")


def classes_in(joined: str, mode: str) -> list[str]:
    """Those of a node's classes (comma-joined) in which it may serve a job of that mode."""
    classes = joined.split(",")
    if mode == PINNED:
        return [one for one in classes if one and not is_reproducible(one)]
    return [one for one in classes if one == mode]
