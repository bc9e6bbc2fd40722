"""The arithmetic that each numerics mode's name stands for."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType

from gensyn_ray.domain.errors import OperationError
from gensyn_ray.domain.numerics import PINNED
from workloads.numerics.mode import BITS, Observer, Precision, canonical
from workloads.numerics.pinned import one_thread
from workloads.numerics.registry import LATEST


def served(version: int) -> list[str]:
    """The names of the modes of one version of the operator set: one for each precision of
    products."""
    return [f"reproducible/v{version}/{precision}" for precision in BITS]


REPRODUCIBLE: Mapping[str, tuple[int, Precision]] = MappingProxyType(
    {
        mode: (version, precision)
        for version in range(1, LATEST + 1)
        for mode, precision in zip(served(version), BITS, strict=True)
    }
)
"""Operator set version and precision of each reproducible mode, by the mode's name."""
MODES = (*REPRODUCIBLE, PINNED)
"""The modes that a job may choose from."""


def arithmetic(numerics: str, *, observer: Observer | None = None) -> AbstractContextManager[None]:
    """The context in which a program of this mode runs. Raises `OperationError` for an unknown
    mode.

    `observer`: called around every operator of a reproducible mode. The pinned mode ignores it.
    """
    if numerics == PINNED:
        return one_thread()
    if numerics not in REPRODUCIBLE:
        raise OperationError(f"unknown numerics {numerics!r}: choose from {', '.join(MODES)}")
    version, precision = REPRODUCIBLE[numerics]
    return canonical(precision, version=version, observer=observer)
