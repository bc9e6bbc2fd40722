"""Ed25519 signatures over canonical JSON, each under a domain tag.

The signature covers the tag and the bytes, so a signature for one purpose is invalid for another.
Messages and the journal keep the exact signed bytes; no check encodes a body again.

Not defended here: the storage of private keys. File permissions protect a key file; keep it out of
reach of Ray's worker processes.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Any, cast

import nacl.exceptions
import nacl.signing

from gensyn_ray.domain import canonical
from gensyn_ray.domain.ids import party_id

COMMAND = b"gensyn-ray/command/v1\n"
RECEIPT = b"gensyn-ray/receipt/v1\n"
CHECKPOINT = b""  # C2SP signed notes sign the note's own text


class SigningKey:
    """A private key from a 32-byte seed."""

    def __init__(self, seed: bytes) -> None:
        self._key = nacl.signing.SigningKey(seed)
        self.public: bytes = bytes(self._key.verify_key)

    @property
    def party(self) -> str:
        """The id of the key's party."""
        return party_id(self.public)

    def sign(self, tag: bytes, body: bytes) -> bytes:
        """64-byte signature of `body` under `tag`."""
        return self._key.sign(tag + body).signature


def verify(public_key: bytes, tag: bytes, body: bytes, signature: bytes) -> bool:
    """Whether `signature` is the key's signature of `body` under `tag`."""
    try:
        nacl.signing.VerifyKey(public_key).verify(tag + body, signature)
    except (nacl.exceptions.BadSignatureError, ValueError, TypeError):
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A signed body: canonical JSON with the signer's public key (hex) under `"key"`."""

    body: bytes
    signature: bytes

    @property
    def body_hash(self) -> str:
        """SHA-256 of the body, hex: the idempotency key of a command."""
        return hashlib.sha256(self.body).hexdigest()

    def to_json(self) -> dict[str, str]:
        """As JSON: the body as text, the signature in base64."""
        return {"body": self.body.decode(), "signature": to_base64(self.signature)}

    @classmethod
    def from_json(cls, value: Any) -> "Envelope":
        """The inverse of `to_json`. Raises `ValueError`."""
        if not isinstance(value, dict) or set(value) != {"body", "signature"}:  # pyright: ignore[reportUnknownArgumentType]
            raise ValueError("an envelope has a body and a signature, nothing else")
        body, signature = value["body"], value["signature"]  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(body, str) or not isinstance(signature, str):
            raise ValueError("body and signature are text")
        return cls(body=body.encode(), signature=from_base64(signature))


def seal(key: SigningKey, tag: bytes, body: dict[str, Any]) -> Envelope:
    """Sign a body; adds the signer's public key (hex) to it under `"key"`."""
    data = canonical.encode({**body, "key": key.public.hex()})
    return Envelope(body=data, signature=key.sign(tag, data))


def seal_text(key: SigningKey, tag: bytes, members: dict[str, str]) -> Envelope:
    """`seal` for a body whose members are canonical text already."""
    data = canonical.encode_object({**members, "key": f'"{key.public.hex()}"'})
    return Envelope(body=data, signature=key.sign(tag, data))


def unseal(envelope: Envelope, tag: bytes, *, expected_key: bytes | None = None) -> dict[str, Any]:
    """Verify an envelope and return its body.

    Raises `ValueError` if the body is not canonical or names no key, if the key differs from
    `expected_key`, or if the signature is invalid.
    """
    body = canonical.decode(envelope.body)
    if not isinstance(body, dict):
        raise ValueError("a signed body is an object")
    content = cast("dict[str, Any]", body)
    try:
        key = bytes.fromhex(content["key"])
    except (KeyError, TypeError, ValueError):
        raise ValueError("the body does not name its signer's key") from None
    if expected_key is not None and key != expected_key:
        raise ValueError("signed by another key than the expected one")
    if content["key"] != key.hex() or not verify(key, tag, envelope.body, envelope.signature):
        raise ValueError("the signature does not hold")
    return content


def to_base64(data: bytes) -> str:
    """Standard base64 with padding."""
    return base64.b64encode(data).decode()


def from_base64(text: str) -> bytes:
    """The inverse of `to_base64`, strict: one text for each byte string. Raises `ValueError`."""
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from None
    if to_base64(data) != text:
        raise ValueError("not the canonical base64 of its bytes")
    return data
