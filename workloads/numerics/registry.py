"""The operator set: which ATen operators have a canonical definition, and since which version.

A *definition* is a function in plain torch that computes the operator's result from single IEEE-754
roundings, integers and exact sums alone, on any device. A *fused* implementation gives the same
bits faster. A *passing* operator is one whose stock kernel is exact already: it moves values,
compares them, or rounds once.

A definition never changes after its version is out: a better one is defined again with the next
version, and the old one stays runnable, because a receipt of version 1 verifies for ever.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

Operator = Any
"""An ATen overload, e.g. `torch.ops.aten.mm.default`."""
Implementation = Callable[..., Any]

LATEST = 1


class Source(Protocol):
    """Where an example gets its arguments: a seed (golden vectors) or hypothesis (tests)."""

    def whole(self, low: int, high: int) -> int:
        """A whole number, low <= n <= high."""
        ...

    def choose(self, *options: Any) -> Any:
        """One of the options."""
        ...

    def shape(self, low: int = 0, high: int = 4) -> tuple[int, ...]:
        """A shape of `low` to `high` dimensions, some of them 0 or 1."""
        ...

    def tensor(self, shape: tuple[int, ...], spread: float | None = None) -> Any:
        """float32 tensor of any strides. Without `spread`: ordinary and adversarial values of every
        magnitude; with it: within +-spread."""
        ...

    def integers(self, shape: tuple[int, ...], high: int) -> Any:
        """int64 tensor, 0 <= value < high."""
        ...


Example = Callable[[Source], tuple[Any, ...]]
"""Draws one set of arguments. The last one, if it is a dict, holds keyword arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One operator as one version defines it.

    `takes_bits`: the implementation takes the precision of products as the keyword `bits`.
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
    """Decorator: this function is the canonical definition of these operators."""

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
    """Decorator: this function gives the definition's bits on a CPU, faster."""

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
    """The stock kernels of these operators are exact."""
    for operator in operators:
        _exact_stock.setdefault(operator, version)


def definitions(version: int = LATEST) -> dict[Operator, Definition]:
    """Every defined operator as `version` has it. Raises `KeyError` for an unknown version."""
    if not 1 <= version <= LATEST:
        raise KeyError(f"operator set v{version} does not exist: v1 to v{LATEST} do")
    return {
        operator: versions[max(known)]
        for operator, versions in _definitions.items()
        if (known := [one for one in versions if one <= version])
    }


def exact_stock_operators(version: int = LATEST) -> frozenset[Operator]:
    """The operators whose stock kernels `version` trusts."""
    return frozenset(operator for operator, since in _exact_stock.items() if since <= version)
