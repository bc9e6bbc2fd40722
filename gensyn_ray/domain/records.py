"""Frozen dataclasses to JSON values and back, strictly typed.

A union of records travels with its class name under `"type"`. Unknown or missing fields and
values of another type are refused: what comes over a socket is checked here, once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import cache
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


class BadRecord(ValueError):
    """A mapping does not spell a record of the wanted kind."""


def to_json(record: Any) -> dict[str, Any]:
    """A record as a JSON value, without its class name."""
    return msgspec.to_builtins(record)


def from_json(kind: type[T], value: Mapping[str, Any]) -> T:
    """The record that `value` spells. `BadRecord` on any unknown, missing or mistyped field."""
    known = _names_of(kind)
    if not known.issuperset(value):
        unknown = sorted(set(value) - known)
        raise BadRecord(f"{kind.__name__} has no field {unknown[0]!r}")
    try:
        record = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise BadRecord(f"{kind.__name__}: {error}") from None
    again = to_json(record)
    if any(again[name] != item for name, item in value.items()):
        raise BadRecord(f"{kind.__name__} holds something that its fields do not")
    return record


@cache
def _names_of(kind: type) -> frozenset[str]:
    return frozenset(field.name for field in fields(kind))


def to_tagged(record: Any) -> dict[str, Any]:
    """A record as a JSON value that names its class."""
    return {"type": type(record).__name__, **to_json(record)}


def from_tagged(kinds: Iterable[type[T]], value: Mapping[str, Any]) -> T:
    """The inverse of `to_tagged` among `kinds`. Raises `BadRecord`."""
    rest = dict(value)
    name = rest.pop("type", None)
    for kind in kinds:
        if kind.__name__ == name:
            return from_json(kind, rest)
    raise BadRecord(f"no record is called {name!r}")
