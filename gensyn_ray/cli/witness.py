"""`gensyn-ray ledger witness`: look at the ledger's head, and cosign it if it continues the last.

Keeps two files in its home: `witness.key` and `seen.note`, the last head that it cosigned. Run it
from a timer, on a machine that the network's runner does not control.
"""

import os
import secrets
from pathlib import Path
from typing import Any

from gensyn_ray.cli.books import Ledger
from gensyn_ray.domain import signing
from gensyn_ray.domain.errors import OperationError, UsageError
from gensyn_ray.domain.signing import SigningKey
from gensyn_ray.runtime.wall_clock import now_ms
from ledger.core import checkpoint
from ledger.core.checkpoint import Checkpoint
from ledger.core.witness import Refusal, Witness


def cosign_once(home: Path, ledger: Ledger, name: str, network_key: bytes) -> str:
    """The cosigned note, after it was written to `home`. Raises `OperationError` on a bad log."""
    home.mkdir(parents=True, exist_ok=True)
    kept = home / "seen.note"
    seen = _seen(kept, network_key)
    note, proof = _grown(ledger, seen)
    witness = Witness(name=name, key=_key(home), network_key=network_key, seen=seen)
    answer = witness.cosign(note, proof, now_ms() // 1000)
    if isinstance(answer, Refusal):
        raise OperationError(
            f"not cosigned: {answer.value}; keep {kept} and the ledger's answer: they are evidence"
        )
    fresh = home / "seen.note.new"
    fresh.write_text(answer.note)
    os.replace(fresh, kept)
    return answer.note


def _grown(ledger: Ledger, seen: Checkpoint | None) -> tuple[str, list[bytes]]:
    """The ledger's head, and its proof that it continues `seen`."""
    if seen is None:
        return ledger.read("checkpoint")["checkpoint"], []
    try:
        page: Any = ledger.read("consistency", first=str(seen.size))
    except OperationError:
        # A log that is shorter than `seen` has no such proof. Its head alone shows the fault.
        return ledger.read("checkpoint")["checkpoint"], []
    proof = [] if page["size"] == seen.size else page["proof"]
    return page["checkpoint"], [signing.from_base64(one) for one in proof]


def _seen(kept: Path, network_key: bytes) -> Checkpoint | None:
    if not kept.exists():
        return None
    try:
        return checkpoint.read(kept.read_text(), network_key)
    except ValueError as error:
        raise UsageError(f"{kept} is not a head of this network: {error}") from None


def _key(home: Path) -> SigningKey:
    path = home / "witness.key"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
    try:
        return SigningKey(bytes.fromhex(path.read_text().strip()))
    except ValueError:
        raise UsageError(f"{path} is not a key file") from None
