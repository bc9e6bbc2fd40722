"""Canonical JSON: each value has one encoding, and other bytes are refused."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gensyn_ray.domain import canonical
from gensyn_ray.domain.canonical import NotCanonical

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
SAFE = 2**53 - 1
LONGEST = 10**19 - 1


def json_values() -> st.SearchStrategy[Any]:
    """Values that survive a round trip: no whole floats between 2^53 and 1e21."""
    keys = st.text(max_size=8).filter(lambda key: not key.endswith("_micro"))
    amounts = st.tuples(
        keys.map(lambda key: f"{key}_micro"), st.integers(min_value=-LONGEST, max_value=LONGEST)
    )
    leaves = (
        st.none()
        | st.booleans()
        | st.integers(min_value=-SAFE, max_value=SAFE)
        | st.floats(allow_nan=False, allow_infinity=False).filter(
            lambda number: not number.is_integer() or abs(number) <= SAFE or abs(number) >= 1e21
        )
        | st.text(max_size=8)
    )
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.lists(st.tuples(keys, inner) | amounts, max_size=5).map(dict)
        ),
        max_leaves=20,
    )


def test_amounts_are_text_in_json_and_whole_numbers_in_memory() -> None:
    value = {"price_micro": 10**18, "items": [{"a_micro": -5, "count": 7}], "zero_micro": 0}
    data = canonical.encode(value)
    assert data == (
        b'{"items":[{"a_micro":"-5","count":7}],"price_micro":"1000000000000000000",'
        b'"zero_micro":"0"}'
    )
    assert canonical.decode(data) == value


def test_amounts_beyond_the_exact_range_of_doubles_are_kept_to_the_unit() -> None:
    for amount in (2**53 + 1, LONGEST, -LONGEST):
        assert canonical.decode(canonical.encode({"a_micro": amount})) == {"a_micro": amount}


def test_a_number_beyond_the_exact_range_of_doubles_cannot_be_encoded() -> None:
    canonical.encode({"count": SAFE})
    with pytest.raises(ValueError, match="exceeds safe integer domain"):
        canonical.encode({"count": SAFE + 1})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), b"bytes", {1, 2}, 1j])
def test_what_json_cannot_hold_cannot_be_encoded(value: Any) -> None:
    with pytest.raises(ValueError, match=r"not representable|unsupported type"):
        canonical.encode({"value": value})


def test_keys_are_ordered_by_their_utf16_units_as_in_rfc_8785() -> None:
    value = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }
    assert list(json.loads(canonical.encode(value)).values()) == [
        "Carriage Return",
        "One",
        "Control",
        "Latin Small Letter O With Diaeresis",
        "Euro Sign",
        "Emoji: Grinning Face",
        "Hebrew Letter Dalet With Dagesh",
    ]


def test_numbers_and_text_are_written_as_in_rfc_8785() -> None:
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
        "literals": [None, True, False],
    }
    assert canonical.encode(value).decode() == (
        '{"literals":[null,true,false],'
        '"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": 1}',
        b'{"a":1} ',
        b' {"a":1}',
        b'{"a":1}\n',
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a":1,"a":2}',
        b'{"a":1.0}',
        b'{"a":1e0}',
        b'{"a":01}',
        b'{"a":+1}',
        b'{"a":-0}',
        b'{"a":-0.0}',
        b'{"a":0.10}',
        b'{"a":1E+30}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1e400}',
        b'"\\u0041"',
        b'"\\/"',
        b'"\\ud800"',
        b'"\x01"',
        b"\xef\xbb\xbf1",
        b"\xff",
        '{"a":1}'.encode("utf-16"),
        b"",
        b"{",
        b"[1,]",
        b"'a'",
        b"[" * 100_000 + b"]" * 100_000,
    ],
)
def test_bytes_that_are_not_canonical_are_refused(data: bytes) -> None:
    with pytest.raises(NotCanonical):
        canonical.decode(data)


@pytest.mark.parametrize(
    "amount",
    [
        "1",
        "1.5",
        "null",
        "true",
        "[]",
        "{}",
        '""',
        '"-0"',
        '"01"',
        '"+1"',
        '" 1"',
        '"1\\n"',
        '"1.0"',
        '"1e3"',
        '"0x1"',
        '"1_000"',
        '"\u0661"',
        '"10000000000000000000"',
    ],
)
def test_an_amount_is_nothing_but_plain_decimal_text(amount: str) -> None:
    with pytest.raises(NotCanonical):
        canonical.decode(f'{{"a_micro":{amount}}}'.encode())
    with pytest.raises(NotCanonical):
        canonical.decode(f'[{{"b":{{"a_micro":{amount}}}}}]'.encode())


def test_a_digest_is_the_sha256_of_the_canonical_bytes() -> None:
    assert canonical.digest({"b": 1, "a": 2}) == hashlib.sha256(b'{"a":2,"b":1}').hexdigest()


@RELAXED
@given(json_values())
def test_every_value_comes_back_from_its_bytes(value: Any) -> None:
    data = canonical.encode(value)
    assert canonical.decode(data) == value
    assert canonical.encode(canonical.decode(data)) == data


@RELAXED
@given(json_values())
def test_no_other_spelling_of_a_value_is_read(value: Any) -> None:
    data = canonical.encode(value)
    parsed = json.loads(data)
    for spelling in (
        json.dumps(parsed, indent=1),
        json.dumps(parsed, separators=(", ", ": ")),
        json.dumps(parsed, ensure_ascii=True, separators=(",", ":")),
    ):
        if spelling.encode() != data:
            with pytest.raises(NotCanonical):
                canonical.decode(spelling.encode())


@RELAXED
@given(st.binary(max_size=60))
def test_whatever_is_read_is_canonical(data: bytes) -> None:
    try:
        value = canonical.decode(data)
    except NotCanonical:
        return
    assert canonical.encode(value) == data


def test_nesting_is_limited_the_same_way_in_both_directions() -> None:
    deep: object = 0
    for _ in range(canonical.MAX_DEPTH + 1):
        deep = [deep]
    with pytest.raises(ValueError, match="levels deep"):
        canonical.encode(deep)
    with pytest.raises(canonical.NotCanonical):
        canonical.decode(b"[" * 100_000 + b"]" * 100_000)


def test_a_diverged_loss_is_a_number_like_any_other() -> None:
    value = {"loss": 1e17, "small": 5e-324}
    assert canonical.decode(canonical.encode(value)) == value


@pytest.mark.parametrize("amount", [0.5, True, None, "1", 10**19])
def test_only_whole_numbers_in_range_are_written_as_amounts(amount: object) -> None:
    with pytest.raises(ValueError, match="amount"):
        canonical.encode({"pay_micro": amount})
