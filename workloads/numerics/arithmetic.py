"""From a numerics mode's name to the arithmetic that a program runs in."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType

from gensyn_ray.domain.errors import OperationError
from gensyn_ray.domain.numerics import PINNED
from workloads.numerics.mode import BITS, Observer, Precision, canonical
from workloads.numerics.pinned import one_thread
from workloads.numerics.registry import LATEST


def served(version: int) -> list[str]:
    """The modes of one version of the operator set: one for each precision of products."""
    return [f"reproducible/v{version}/{precision}" for precision in BITS]


REPRODUCIBLE: Mapping[str, tuple[int, Precision]] = MappingProxyType(
    {
        mode: (version, precision)
        for version in range(1, LATEST + 1)
        for mode, precision in zip(served(version), BITS, strict=True)
    }
)
"""Version and precision of each reproducible mode."""
MODES = (*REPRODUCIBLE, PINNED)
"""What a job may ask for."""


def arithmetic(numerics: str, *, observer: Observer | None = None) -> AbstractContextManager[None]:
    """The context that a mode's name stands for. Raises `OperationError` for an unknown name.

    `observer` stands around every operator of a reproducible mode; a pinned one has none.
    """
    if numerics == PINNED:
        return one_thread()
    if numerics not in REPRODUCIBLE:
        raise OperationError(
            f"no numerics are called {numerics!r} here: choose from {', '.join(MODES)}"
        )
    version, precision = REPRODUCIBLE[numerics]
    return canonical(precision, version=version, observer=observer)
