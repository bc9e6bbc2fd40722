"""One byte string for each value: RFC 8785 canonical JSON.

What is hashed or signed goes through here. Amounts (keys ending in `_micro`) are whole numbers in
memory and decimal text in JSON, because JSON numbers are doubles to many readers and lose
micro-credits above 2^53.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, cast

import rfc8785

MAX_DEPTH = 32
"""Levels of nesting; without a limit, what one stack accepts another could not read again."""
_EXACT = 1 << 53
_AMOUNT = re.compile(r"-?(0|[1-9][0-9]{0,18})")


class NotCanonical(ValueError):
    """The bytes are not the canonical encoding of the value that they spell."""


def encode(value: Any) -> bytes:
    """Canonical bytes of a JSON value (dicts, lists, text, whole and finite numbers, bool, None).

    Raises `ValueError` for anything that `decode` would not give back: NaN and infinities, keys
    that are not text, amounts that are not whole numbers, more than `MAX_DEPTH` levels.
    """
    return rfc8785.dumps(_amounts_to_text(value, 0))


def decode(data: bytes) -> Any:
    """The value behind canonical bytes. Raises `NotCanonical` unless `encode` gives `data` back."""
    try:
        value = _amounts_to_int(json.loads(data, parse_int=_parse_number), 0)
        again = encode(value)
    except (ValueError, RecursionError, rfc8785.CanonicalizationError) as error:
        raise NotCanonical(f"not JSON that can be canonical: {error}") from None
    if again != data:
        raise NotCanonical("the bytes are not in canonical form")
    return value


def digest(value: Any) -> str:
    """Hex SHA-256 of a value's canonical bytes."""
    return hashlib.sha256(encode(value)).hexdigest()


def _amounts_to_text(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError(f"more than {MAX_DEPTH} levels deep")
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {_key(key): _write(key, item, depth + 1) for key, item in items}
    if isinstance(value, list | tuple):
        return [_amounts_to_text(item, depth + 1) for item in cast("list[Any]", value)]
    return value


def _write(key: Any, item: Any, depth: int) -> Any:
    if not _key(key).endswith("_micro"):
        return _amounts_to_text(item, depth)
    if not isinstance(item, int) or isinstance(item, bool) or not _AMOUNT.fullmatch(str(item)):
        raise ValueError(f"{key} is an amount: a whole number of micro-credits, not {item!r}")
    return str(item)


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise ValueError(f"a key is text, not {key!r}")
    return key


def _amounts_to_int(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError(f"more than {MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {
            key: _parse_amount(item) if key.endswith("_micro") else _amounts_to_int(item, depth + 1)
            for key, item in items
        }
    if isinstance(value, list):
        return [_amounts_to_int(item, depth + 1) for item in cast("list[Any]", value)]
    return value


def _parse_number(text: str) -> int | float:
    """Digits beyond 2^53 are a double that was written without a fraction, as RFC 8785 does."""
    number = int(text)
    return number if abs(number) < _EXACT else float(text)


def _parse_amount(value: Any) -> int:
    if not isinstance(value, str) or _AMOUNT.fullmatch(value) is None:
        raise ValueError(f"an amount is decimal text, not {value!r}")
    return int(value)
