"""Checks TOML values of a job file against the parameters of a record or constructor."""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar, get_type_hints

import msgspec

from gensyn_ray.domain.errors import UsageError

T = TypeVar("T")


def filled(make: Callable[..., T], table: Any, *, where: str) -> T:
    """`make(**table)`, after a check of each value against the type of its parameter.

    `where`: the table's name in the file. Raises `UsageError` that names the field, for an unknown,
    missing or mistyped one."""
    if not isinstance(table, Mapping):
        raise UsageError(f"{where} must be a table: write [{where}]")
    parameters = inspect.signature(make).parameters
    refuse_unknown(table, parameters, where=f"{where}.")
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in table:
            raise UsageError(f"{where}: missing required field `{name}`")
    types = get_type_hints(make)
    return make(
        **{name: typed(value, types[name], f"{where}.{name}") for name, value in table.items()}
    )


def typed(value: Any, kind: Any, where: str) -> Any:
    """The value as a `kind`. Raises `UsageError` that names `where`."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {error}") from None


def refuse_unknown(names: Iterable[str], known: Collection[str], *, where: str = "") -> None:
    """Raises `UsageError` for a name that is not known, with the names that are."""
    for name in names:
        if name not in known:
            raise UsageError(f"unknown {where}{name}: choose from {', '.join(known)}")
