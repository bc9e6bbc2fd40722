"""A witness: remembers the newest head of a log, and cosigns heads that continue it.

All readers of cosigned heads see the same history. The module is pure: the caller passes the time
and stores the head to remember. The caller must store the head before it hands out the cosigned
note, and must handle one note at a time; otherwise two notes could be checked against the same old
head. Keep the cosigned note: together with a note that is refused as forked, it proves that the
network signed both.

Not defended here: a witness that loses its memory, is restored from an old copy or runs twice under
one key; the first head that it sees, which it trusts; a wrong clock; entries that break the
ledger's rules, because a witness sees only hashes; a network that stops sending heads; witnesses
that collude with the network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from gensyn_ray.domain.merkle import EMPTY_ROOT, verify_consistency
from gensyn_ray.domain.signing import SigningKey
from ledger.core import checkpoint
from ledger.core.checkpoint import Checkpoint


class Refusal(StrEnum):
    """Why a note is not cosigned. If several reasons apply, the first of these is the answer."""

    NOT_SIGNED = "not signed by the network"
    ANOTHER_LOG = "of another log than the one seen before"
    ROLLED_BACK = "smaller than the log seen before"
    FORKED = "of the same size as the log seen before, with another root"
    UNPROVEN = "not proven to continue the log seen before"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosigned:
    """The note with the witness's line. `seen`: the head to remember from now on."""

    note: str
    seen: Checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """One witness of one log. `seen`: the head that it cosigned last, or None."""

    name: str
    key: SigningKey
    network_key: bytes
    seen: Checkpoint | None = None

    def cosign(self, note: str, proof: Sequence[bytes], now_s: int) -> Cosigned | Refusal:
        """Cosign a note at `now_s` (Unix seconds) if `proof` shows that it continues `seen`.

        `proof`: consistency proof (RFC 6962, 2.1.2) from the size of `seen`; empty if `seen` is
        None, has size 0 or has the note's size. Raises `ValueError` for a time or a name that no
        cosignature can have.
        """
        try:
            head = checkpoint.read(note, self.network_key)
        except ValueError:
            return Refusal.NOT_SIGNED
        seen = self.seen or Checkpoint(origin=head.origin, size=0, root=EMPTY_ROOT)
        if head.origin != seen.origin:
            return Refusal.ANOTHER_LOG
        if head.size < seen.size:
            return Refusal.ROLLED_BACK
        if head.size == seen.size and head.root != seen.root:
            return Refusal.FORKED
        if not _continues(seen, head, proof):
            return Refusal.UNPROVEN
        cosigned = checkpoint.cosign(note, name=self.name, key=self.key, time_s=now_s)
        return Cosigned(note=cosigned, seen=head)


def _continues(seen: Checkpoint, head: Checkpoint, proof: Sequence[bytes]) -> bool:
    if seen.size == 0:
        return not proof
    return verify_consistency(
        first=seen.size,
        second=head.size,
        first_root=seen.root,
        second_root=head.root,
        proof=proof,
    )
