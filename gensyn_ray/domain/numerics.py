"""Names of numerics modes and classes.

A job asks for a mode. A node serves classes, and a leaf names the class in which it was computed.

`pinned` is the mode of stock kernels, whose bits agree only among nodes of one class. A class is
named by the digest that its nodes compute. Every other mode gives the same bits on every machine,
so the mode is its own class: `reproducible/v1/highest` is version 1 of the canonical operator set
with products of the highest precision.
"""

PINNED = "pinned"
REPRODUCIBLE = "reproducible/v1/highest"


def is_reproducible(numerics: str) -> bool:
    """Whether a mode or class is canonical arithmetic."""
    return numerics.startswith("reproducible/")


def pinned_class(joined: str) -> str:
    """The first class of stock kernels among a node's classes (comma-joined), or empty."""
    return next(iter(classes_in(joined, PINNED)), "")


def classes_in(joined: str, mode: str) -> list[str]:
    """The classes of a node (comma-joined) that serve a job of this mode."""
    classes = joined.split(",")
    if mode == PINNED:
        return [one for one in classes if one and not is_reproducible(one)]
    return [one for one in classes if one == mode]
