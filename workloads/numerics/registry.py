"""The operator set: the ATen operators that have a canonical definition, and the version that each
definition belongs to.

A *reference definition* is a function in plain torch. It computes the operator's result from single
IEEE-754 roundings, integers and exact sums only, on any device. A *kernel* gives the same bits
faster, on CPUs. An *exact stock* operator has a stock kernel that is exact: it moves values,
compares them, or rounds once.

A released definition never changes. A better definition belongs to the next version, and the old
one stays runnable, because receipts of version 1 must verify at any later time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

Operator = Any
"""An ATen overload, e.g. `torch.ops.aten.mm.default`."""
Implementation = Callable[..., Any]
"""A function with the arguments and results of an operator, and the keyword `bits` if the
definition takes it."""

LATEST = 1
"""The newest version of the operator set."""


class Source(Protocol):
    """The source of an example's arguments: a seed (golden vectors) or hypothesis (tests)."""

    def whole(self, low: int, high: int) -> int:
        """An integer n, low <= n <= high."""
        ...

    def choose(self, *options: Any) -> Any:
        """One of the options."""
        ...

    def shape(self, low: int = 0, high: int = 4) -> tuple[int, ...]:
        """A shape of `low` to `high` dimensions. Sizes may be 0 or 1."""
        ...

    def tensor(self, shape: tuple[int, ...], spread: float | None = None) -> Any:
        """A float32 tensor of any strides. Without `spread`, ordinary and adversarial values of
        every magnitude; with it, values within +-spread."""
        ...

    def integers(self, shape: tuple[int, ...], high: int) -> Any:
        """An int64 tensor, 0 <= value < high."""
        ...


Example = Callable[[Source], tuple[Any, ...]]
"""Draws one set of arguments. The last element holds the keyword arguments if it is a dict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One operator in one version of the operator set.

    `reference`: the reference definition. `example`: draws arguments for golden vectors and tests.
    `takes_bits`: the implementation takes the precision of products as the keyword `bits`.
    `kernel`: a faster implementation with the same bits, for CPUs.
    """

    reference: Implementation
    example: Example
    takes_bits: bool
    kernel: Implementation | None = None


_definitions: dict[Operator, dict[int, Definition]] = {}
_exact_stock: dict[Operator, int] = {}


def define(
    *operators: Operator, example: Example, takes_bits: bool = False, version: int = 1
) -> Callable[[Implementation], Implementation]:
    """Decorator: register a function as the reference definition of these operators."""

    def register(reference: Implementation) -> Implementation:
        for operator in operators:
            _definitions.setdefault(operator, {})[version] = Definition(
                reference=reference, example=example, takes_bits=takes_bits
            )
        return reference

    return register


def kernel_for(
    *operators: Operator, version: int = 1
) -> Callable[[Implementation], Implementation]:
    """Decorator: register a function as the kernel of these operators. Raises `KeyError` if an
    operator has no reference definition."""

    def register(kernel: Implementation) -> Implementation:
        for operator in operators:
            known = _definitions[operator][version]
            _definitions[operator][version] = Definition(
                reference=known.reference,
                example=known.example,
                takes_bits=known.takes_bits,
                kernel=kernel,
            )
        return kernel

    return register


def exact_stock(*operators: Operator, version: int = 1) -> None:
    """Register operators whose stock kernels are exact."""
    for operator in operators:
        _exact_stock.setdefault(operator, version)


def definitions(version: int = LATEST) -> dict[Operator, Definition]:
    """Every defined operator with its newest definition up to `version`. Raises `KeyError` for an
    unknown version."""
    if not 1 <= version <= LATEST:
        raise KeyError(f"operator set v{version} does not exist: choose v1 to v{LATEST}")
    return {
        operator: versions[max(known)]
        for operator, versions in _definitions.items()
        if (known := [one for one in versions if one <= version])
    }


def exact_stock_operators(version: int = LATEST) -> frozenset[Operator]:
    """The operators whose stock kernels are exact, up to `version`."""
    return frozenset(operator for operator, since in _exact_stock.items() if since <= version)
