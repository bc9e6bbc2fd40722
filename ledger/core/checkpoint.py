"""Signed tree heads in the C2SP checkpoint format (a signed note).

    <origin>
    <number of entries>
    <base64 of the root>
    <empty line>
    — <key name> <base64 of key hash and signature>

Sources: C2SP `tlog-checkpoint` and `signed-note`; key hash is the first four bytes of
SHA-256(name, newline, 0x01, public key).
"""

import hashlib
from dataclasses import dataclass

from gensyn_ray.domain import signing
from gensyn_ray.domain.signing import SigningKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A tree head: which log, how many entries, which root."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The part that is signed."""
        return f"{self.origin}\n{self.size}\n{signing.to_base64(self.root)}\n"


def sign(checkpoint: Checkpoint, key: SigningKey) -> str:
    """The whole signed note."""
    text = checkpoint.text()
    blob = _key_hash(checkpoint.origin, key.public) + key.sign(signing.CHECKPOINT, text.encode())
    return f"{text}\n— {checkpoint.origin} {signing.to_base64(blob)}\n"


def read(note: str, public_key: bytes) -> Checkpoint:
    """The checkpoint of a note whose signature holds. Raises `ValueError`."""
    try:
        origin, size, root, empty, signature, end = note.split("\n")
        dash, name, blob_text = signature.split(" ")
        checkpoint = Checkpoint(origin=origin, size=int(size), root=signing.from_base64(root))
        blob = signing.from_base64(blob_text)
    except ValueError:
        raise ValueError("not a signed checkpoint") from None
    text = checkpoint.text()
    whole = f"{text}\n— {origin} {blob_text}\n"
    if (empty, dash, name, end, whole) != ("", "—", origin, "", note):
        raise ValueError("not a signed checkpoint")
    if blob[:4] != _key_hash(origin, public_key):
        raise ValueError("the checkpoint is signed by another key")
    if not signing.verify(public_key, signing.CHECKPOINT, text.encode(), blob[4:]):
        raise ValueError("the checkpoint's signature does not hold")
    return checkpoint


def _key_hash(name: str, public_key: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n\x01" + public_key).digest()[:4]
