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

_AMOUNT = re.compile(r"-?(0|[1-9][0-9]{0,18})")


class NotCanonical(ValueError):
    """The bytes are not the canonical encoding of the value that they spell."""


def encode(value: Any) -> bytes:
    """Canonical bytes of a JSON value (dicts, lists, text, whole and finite numbers, bool, None).

    Raises `ValueError` for anything JSON cannot hold, NaN and infinities included.
    """
    return rfc8785.dumps(_amounts_to_text(value))


def decode(data: bytes) -> Any:
    """The value behind canonical bytes. Raises `NotCanonical` unless `encode` gives `data` back."""
    try:
        value = _amounts_to_int(json.loads(data))
        again = encode(value)
    except (ValueError, RecursionError, rfc8785.CanonicalizationError) as error:
        raise NotCanonical(f"not JSON that can be canonical: {error}") from None
    if again != data:
        raise NotCanonical("the bytes are not in canonical form")
    return value


def digest(value: Any) -> str:
    """Hex SHA-256 of a value's canonical bytes."""
    return hashlib.sha256(encode(value)).hexdigest()


def _amounts_to_text(value: Any) -> Any:
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return {
            key: str(item) if key.endswith("_micro") else _amounts_to_text(item)
            for key, item in items
        }
    if isinstance(value, list | tuple):
        return [_amounts_to_text(item) for item in cast("list[Any]", value)]
    return value


def _amounts_to_int(value: Any) -> Any:
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {
            key: _parse_amount(item) if key.endswith("_micro") else _amounts_to_int(item)
            for key, item in items
        }
    if isinstance(value, list):
        return [_amounts_to_int(item) for item in cast("list[Any]", value)]
    return value


def _parse_amount(value: Any) -> int:
    if not isinstance(value, str) or _AMOUNT.fullmatch(value) is None:
        raise ValueError(f"an amount is decimal text, not {value!r}")
    return int(value)
