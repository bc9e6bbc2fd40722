"""RFC 8785 canonical JSON: one byte string for each value.

Every hashed or signed value is encoded here. Amounts (keys ending in `_micro`) are integers in
memory and decimal text in JSON, because many readers parse JSON numbers as doubles and would lose
micro-credits above 2^53.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import rfc8785

MAX_DEPTH = 32
"""Levels of nesting. The limit lets every reader's stack decode what a writer's stack encodes."""
_EXACT = 1 << 53
_PLAIN = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))
_AMOUNT = re.compile(r"0|-?[1-9][0-9]{0,18}")


class NotCanonical(ValueError):
    """The bytes are not the canonical encoding of their value."""


def encode(value: Any, *, depth: int = 0) -> bytes:
    """Canonical bytes of a JSON value (dict, list, str, int, finite float, bool, None).

    `depth`: the value's depth in an enclosing value. Raises `ValueError` for values that `decode`
    would not return: NaN, infinities, keys that are not text, amounts that are not integers, more
    than `MAX_DEPTH` levels.
    """
    walk = _Walk(write_amount)
    return _dump(walk.over(value, depth), walk.is_plain)


def decode(data: bytes) -> Any:
    """Decode canonical bytes. Raises `NotCanonical` unless `encode` gives `data` again."""
    try:
        spelt = json.loads(data)
        walk = _Walk(_read_amount)
        value = walk.over(spelt, 0)
        again = _dump(spelt, is_plain=True) if walk.is_plain else encode(value)
    except (ValueError, OverflowError, RecursionError) as error:
        raise NotCanonical(f"not JSON that can be canonical: {error}") from None
    if again != data:
        raise NotCanonical("the bytes are not in canonical form")
    return value


def encode_object(members: Mapping[str, str]) -> bytes:
    """Canonical bytes of an object from ASCII keys and values that are canonical text already."""
    return ("{" + ",".join(f'"{key}":{members[key]}' for key in sorted(members)) + "}").encode()


def text(value: Any, *, depth: int = 0) -> str:
    """`encode` as text, for the members of `encode_object`."""
    return encode(value, depth=depth).decode()


def digest(value: Any) -> str:
    """Hex SHA-256 of a value's canonical bytes."""
    return hashlib.sha256(encode(value)).hexdigest()


class _Walk:
    """Copies a value with its amounts converted, and checks whether the fast encoder can write it.

    `is_plain`: the value holds only text, bools, integers below 2^53 and ordinary fractions under
    ASCII keys. For these the standard library's encoder, written in C, gives RFC 8785's bytes.
    """

    def __init__(self, change_amount: Callable[[str, Any], Any]) -> None:
        self._change_amount = change_amount
        self.is_plain = True

    def over(self, value: Any, depth: int) -> Any:
        kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
        if kind is str or kind is bool or value is None:
            return value
        if kind is int:
            return self._whole(value)
        if kind is dict or kind is list or isinstance(value, Mapping | list | tuple):
            inside: Any = value  # pyright: ignore[reportUnknownVariableType]
            if depth == MAX_DEPTH and inside:
                raise ValueError(f"more than {MAX_DEPTH} levels deep")
            if kind is dict or isinstance(value, Mapping):
                return self._object(inside, depth + 1)
            return [self.over(item, depth + 1) for item in inside]
        plain = kind is float and 1e-4 <= abs(value) < 1e16 and not value.is_integer()
        self.is_plain = self.is_plain and plain
        return value

    def _object(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        copy: dict[str, Any] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"a key is text, not {key!r}")
            if not key.isascii():
                self.is_plain = False
            if key.endswith("_micro"):
                copy[key] = self._change_amount(key, item)
            else:
                # Text is the most frequent value: save the call.
                copy[key] = item if type(item) is str else self.over(item, depth)
        return copy

    def _whole(self, value: int) -> int | float:
        """RFC 8785 writes a double without a fraction as digits: beyond 2^53, read a double."""
        if -_EXACT < value < _EXACT:
            return value
        self.is_plain = False
        return float(value) if self._change_amount is _read_amount else value


def _dump(value: Any, is_plain: bool) -> bytes:
    return _PLAIN.encode(value).encode() if is_plain else rfc8785.dumps(value)


def write_amount(key: str, item: Any) -> str:
    """An amount as decimal text. Raises `ValueError` unless it is an integer in range."""
    if not isinstance(item, int) or isinstance(item, bool) or not _AMOUNT.fullmatch(str(item)):
        raise ValueError(f"{key} is an amount: a whole number of micro-credits, not {item!r}")
    return str(item)


def _read_amount(key: str, item: Any) -> int:
    if not isinstance(item, str) or _AMOUNT.fullmatch(item) is None:
        raise ValueError(f"{key} is an amount: decimal text, not {item!r}")
    return int(item)
