"""Signed envelopes: a sealed body opens, and every changed envelope is refused."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gensyn_ray.domain import canonical, signing
from gensyn_ray.domain.ids import party_id
from gensyn_ray.domain.signing import (
    COMMAND,
    RECEIPT,
    Envelope,
    SigningKey,
    from_base64,
    seal,
    to_base64,
    unseal,
    verify,
)

KEY = SigningKey(b"k" * 32)
OTHER = SigningKey(b"o" * 32)
BODY: dict[str, Any] = {"name": "a party", "amount_micro": 10**17, "list": [1, {"x": None}]}


def flipped(data: bytes, at: int, mask: int = 1) -> bytes:
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


def test_a_sealed_body_opens_and_names_its_signer() -> None:
    envelope = seal(KEY, COMMAND, BODY)
    assert unseal(envelope, COMMAND) == {**BODY, "key": KEY.public.hex()}
    assert unseal(envelope, COMMAND, expected_key=KEY.public)["name"] == "a party"


def test_a_signer_cannot_be_named_by_the_body_that_it_signs() -> None:
    envelope = seal(KEY, COMMAND, {**BODY, "key": OTHER.public.hex()})
    assert unseal(envelope, COMMAND)["key"] == KEY.public.hex()


def test_the_same_body_and_key_give_the_same_envelope() -> None:
    assert seal(KEY, COMMAND, BODY) == seal(KEY, COMMAND, dict(reversed(BODY.items())))


def test_a_party_is_its_key() -> None:
    assert KEY.party == party_id(KEY.public) != OTHER.party
    assert len(KEY.party) == 20


def test_a_signature_is_valid_for_one_purpose() -> None:
    envelope = seal(KEY, COMMAND, BODY)
    for tag in (RECEIPT, b"", COMMAND + b" "):
        with pytest.raises(ValueError, match="does not hold"):
            unseal(envelope, tag)


def test_another_key_than_the_expected_one_is_refused() -> None:
    with pytest.raises(ValueError, match="another key"):
        unseal(seal(OTHER, COMMAND, BODY), COMMAND, expected_key=KEY.public)


def test_a_key_put_in_place_of_the_signers_is_refused() -> None:
    envelope = seal(KEY, COMMAND, BODY)
    body = envelope.body.replace(KEY.public.hex().encode(), OTHER.public.hex().encode())
    forged = Envelope(body=body, signature=envelope.signature)
    with pytest.raises(ValueError, match="does not hold"):
        unseal(forged, COMMAND)


def test_every_flipped_byte_of_the_body_is_refused() -> None:
    envelope = seal(KEY, COMMAND, BODY)
    for at in range(len(envelope.body)):
        for mask in (1, 0x20, 0x80):
            forged = Envelope(body=flipped(envelope.body, at, mask), signature=envelope.signature)
            with pytest.raises(ValueError, match=r"canonical|key|hold"):
                unseal(forged, COMMAND)


def test_every_flipped_byte_of_the_signature_is_refused() -> None:
    envelope = seal(KEY, COMMAND, BODY)
    for at in range(64):
        for mask in (1, 0x80):
            forged = Envelope(body=envelope.body, signature=flipped(envelope.signature, at, mask))
            with pytest.raises(ValueError, match="does not hold"):
                unseal(forged, COMMAND)


@pytest.mark.parametrize("cut", [0, 1, 63, 65, 128])
def test_a_signature_of_another_length_is_refused(cut: int) -> None:
    envelope = seal(KEY, COMMAND, BODY)
    signature = (envelope.signature * 2)[:cut]
    with pytest.raises(ValueError, match="does not hold"):
        unseal(Envelope(body=envelope.body, signature=signature), COMMAND)


@pytest.mark.parametrize("key", [b"", b"k", b"k" * 31, b"k" * 33, bytes(32)])
def test_an_invalid_key_verifies_nothing(key: bytes) -> None:
    assert not verify(key, COMMAND, b"body", KEY.sign(COMMAND, b"body"))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"key": None},
        {"key": 5},
        {"key": ""},
        {"key": "zz"},
        {"key": "00"},
        {"key": KEY.public.hex().upper()},
        {"key": KEY.public.hex() + " "},
        [],
        "text",
        None,
    ],
)
def test_a_body_that_does_not_name_its_key_in_one_way_is_refused(body: Any) -> None:
    data = canonical.encode(body)
    envelope = Envelope(body=data, signature=KEY.sign(COMMAND, data))
    with pytest.raises(ValueError, match=r"key|object|hold"):
        unseal(envelope, COMMAND)


def test_a_body_that_is_not_canonical_is_refused_though_its_signature_holds() -> None:
    data = canonical.encode({"key": KEY.public.hex()}).replace(b":", b": ")
    assert verify(KEY.public, COMMAND, data, KEY.sign(COMMAND, data))
    with pytest.raises(canonical.NotCanonical):
        unseal(Envelope(body=data, signature=KEY.sign(COMMAND, data)), COMMAND)


def test_an_envelope_survives_json() -> None:
    envelope = seal(KEY, RECEIPT, {"name": "\u20ac"})
    again = Envelope.from_json(envelope.to_json())
    assert again == envelope
    assert again.body_hash == envelope.body_hash
    assert unseal(again, RECEIPT)["name"] == "\u20ac"


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "text",
        {},
        {"body": "{}"},
        {"signature": "AA=="},
        {"body": "{}", "signature": "AA==", "more": 1},
        {"body": 1, "signature": "AA=="},
        {"body": "{}", "signature": None},
        {"body": "\ud800", "signature": "AA=="},
        {"body": "{}", "signature": "!"},
        {"body": "{}", "signature": "\u20ac"},
    ],
)
def test_what_is_no_envelope_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"nothing else|are text|base64|ASCII|surrogates"):
        Envelope.from_json(value)


@pytest.mark.parametrize(
    "text",
    ["AB==", "AAB=", "AA=", "AA", "A", "AA==\n", " AA==", "AA==AA==", "A-_A", "AAAA=", "====", "="],
)
def test_base64_that_is_not_canonical_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="base64"):
        from_base64(text)


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_base64_comes_back(data: bytes) -> None:
    assert from_base64(to_base64(data)) == data


@settings(deadline=None)
@given(st.text(alphabet="AQgw=/+-_ \n", max_size=12))
def test_no_two_texts_are_the_base64_of_the_same_bytes(text: str) -> None:
    try:
        data = from_base64(text)
    except ValueError:
        return
    assert to_base64(data) == text


def test_the_hash_of_an_envelope_is_that_of_its_body_alone() -> None:
    one = seal(KEY, COMMAND, BODY)
    assert one.body_hash == Envelope(body=one.body, signature=b"").body_hash
    assert one.body_hash != seal(OTHER, COMMAND, BODY).body_hash


def test_the_tags_of_commands_and_receipts_differ() -> None:
    assert signing.COMMAND != signing.RECEIPT
