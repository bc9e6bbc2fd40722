"""Signed tree heads in the C2SP checkpoint format (a signed note), with witnesses' cosignatures.

    <origin>
    <number of entries>
    <base64 of the root>
    <empty line>
    — <origin> <base64 of key hash and signature>
    — <witness> <base64 of key hash, time and signature>        zero or more lines

A key hash is the first four bytes of SHA-256(name, newline, kind, public key); the kind is 0x01 for
the network and 0x04 for a witness. The network signs the first three lines; a witness signs them
under a tag and the time. Sources: C2SP `tlog-checkpoint`, `signed-note` and `tlog-cosignature`
(`cosignature/v1`, Ed25519).

A note has exactly one text: `read` encodes it again and compares.

Not defended here: lines of unknown witnesses, which anyone can add, change and drop; the time that
a witness states; two witnesses that are one person. The receiver must bound a note's length.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gensyn_ray.domain import signing
from gensyn_ray.domain.signing import SigningKey

_NETWORK = b"\x01"
_WITNESS = b"\x04"
_COSIGNATURE = b"cosignature/v1\n"
_KEY_NAME = re.compile(r"[^\s+\x00-\x1f\ud800-\udfff]+")
_TIME_END_S = 1 << 63


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A tree head. `origin`: the log's name. `size`: number of entries. `root`: 32 bytes."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The signed text."""
        return f"{self.origin}\n{self.size}\n{signing.to_base64(self.root)}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A signature line. `blob`: four bytes of key hash, then what the kind of key defines."""

    name: str
    blob: bytes

    @property
    def key(self) -> tuple[str, bytes]:
        """Name and hash of the key that the line claims."""
        return self.name, self.blob[:4]

    def text(self) -> str:
        return f"— {self.name} {signing.to_base64(self.blob)}\n"


def sign(checkpoint: Checkpoint, key: SigningKey) -> str:
    """The signed note."""
    signature = key.sign(signing.CHECKPOINT, checkpoint.text().encode())
    blob = _key_hash(checkpoint.origin, _NETWORK, key.public) + signature
    return _note(checkpoint, [_Line(name=checkpoint.origin, blob=blob)])


def cosign(note: str, *, name: str, key: SigningKey, time_s: int) -> str:
    """The note with a cosignature of the witness `name` at `time_s` (Unix seconds).

    Replaces an earlier line of the same witness. Does not check the note's history; see `Witness`.
    Raises `ValueError` for a malformed note, for a name with a space, a plus or a control
    character, and for a time outside 0 to 2^63 - 1.
    """
    if not _KEY_NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a key")
    if not 0 <= time_s < _TIME_END_S:
        raise ValueError(f"{time_s} is no time that a cosignature can have")
    checkpoint, lines = _parse(note)
    signature = key.sign(_COSIGNATURE, _timed(checkpoint, time_s))
    blob = _key_hash(name, _WITNESS, key.public) + time_s.to_bytes(8, "big") + signature
    mine = _Line(name=name, blob=blob)
    return _note(checkpoint, [*(one for one in lines if one.key != mine.key), mine])


def read(note: str, public_key: bytes) -> Checkpoint:
    """Parse a note and verify its first signature with the network's key.

    Further lines must be well-formed; their signatures are not verified. Raises `ValueError`.
    """
    checkpoint, lines = _parse(note)
    own = lines[0]
    if own.key != (checkpoint.origin, _key_hash(checkpoint.origin, _NETWORK, public_key)):
        raise ValueError("the checkpoint is signed by another key")
    body = checkpoint.text().encode()
    if not signing.verify(public_key, signing.CHECKPOINT, body, own.blob[4:]):
        raise ValueError("the checkpoint's signature does not hold")
    return checkpoint


def cosigners(note: str, witnesses: Mapping[str, bytes]) -> dict[str, int]:
    """Name and time (Unix seconds) of each of these witnesses that cosigned the note.

    `witnesses`: public keys by name. Does not verify the network's signature; see `read`. Raises
    `ValueError` for a malformed note, for an invalid cosignature of one of these witnesses, and for
    two witnesses with one key: a cosignature does not cover its name, so one key would count twice.
    """
    if len(set(witnesses.values())) != len(witnesses):
        raise ValueError("two witnesses have one key")
    known = {(name, _key_hash(name, _WITNESS, key)): key for name, key in witnesses.items()}
    checkpoint, lines = _parse(note)
    return {
        one.name: _cosigned_at(checkpoint, one, known[one.key]) for one in lines if one.key in known
    }


def _cosigned_at(checkpoint: Checkpoint, line: _Line, public_key: bytes) -> int:
    time_s, signature = int.from_bytes(line.blob[4:12], "big"), line.blob[12:]
    body = _timed(checkpoint, time_s)
    if time_s >= _TIME_END_S or not signing.verify(public_key, _COSIGNATURE, body, signature):
        raise ValueError(f"the cosignature of {line.name} under the checkpoint does not hold")
    return time_s


def _timed(checkpoint: Checkpoint, time_s: int) -> bytes:
    return f"time {time_s}\n{checkpoint.text()}".encode()


def _parse(note: str) -> tuple[Checkpoint, list[_Line]]:
    """Parse a note without verifying signatures. Raises `ValueError` if it is malformed."""
    try:
        origin, size, root, _, *below, _ = note.split("\n")
        checkpoint = Checkpoint(origin=origin, size=int(size), root=signing.from_base64(root))
        lines = [_parse_line(line) for line in below]
    except ValueError:
        raise ValueError("not a signed checkpoint") from None
    distinct = len({one.key for one in lines}) == len(lines) > 0
    if not distinct or checkpoint.size < 0 or len(checkpoint.root) != 32:
        raise ValueError("not a signed checkpoint")
    if _note(checkpoint, lines) != note:
        raise ValueError("not the one text of its checkpoint")
    return checkpoint, lines


def _parse_line(line: str) -> _Line:
    _, name, text = line.split(" ")
    blob = signing.from_base64(text)
    if not _KEY_NAME.fullmatch(name) or len(blob) <= 4:
        raise ValueError("not a signature")
    return _Line(name=name, blob=blob)


def _note(checkpoint: Checkpoint, lines: Sequence[_Line]) -> str:
    return checkpoint.text() + "\n" + "".join(line.text() for line in lines)


def _key_hash(name: str, kind: bytes, public_key: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + kind + public_key).digest()[:4]
