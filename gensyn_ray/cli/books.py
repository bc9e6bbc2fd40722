"""Sources of the `ledger` commands: a running ledger, or a flat journal that is verified first."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gensyn_ray.domain.errors import OperationError, Refused, UsageError
from gensyn_ray.queries.network_state import NetworkState
from gensyn_ray.queries.readings import NoSuchThing
from gensyn_ray.settlement.admission import admit
from gensyn_ray.settlement.checks import problem_with
from ledger.client import LedgerClient
from ledger.core.checkpoint import read as read_checkpoint
from ledger.core.journal import CorruptJournal, Entry
from ledger.core.orders import Order
from ledger.core.refusals import Rejected
from ledger.export.flat import Verified, verify
from verifier_actors.core.audit import IllegalMove

LEDGER_VARIABLE = "GENSYN_LEDGER"


class Books(Protocol):
    """A source of readings."""

    def read(self, view: str, **parameters: str) -> Any:
        """A reading. Raises `OperationError`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFile:
    """A verified flat journal, folded."""

    verified: Verified
    state: NetworkState

    def read(self, view: str, **parameters: str) -> Any:
        """The same reading that a ledger with this journal gives."""
        entries, note = self.verified.entries, self.verified.note
        try:
            return self.state.read(
                view, parameters, line=lambda index: entries[index].line, note=lambda: note
            )
        except NoSuchThing as error:
            raise OperationError(str(error)) from None


class Ledger:
    """A running ledger."""

    def __init__(self, address: str, ca_file: str | None = None) -> None:
        self._client = LedgerClient(address, ca_file=ca_file)

    def read(self, view: str, **parameters: str) -> Any:
        """A reading. Raises `OperationError`, `Unreachable`."""
        try:
            return self._client.read(view, **parameters)
        except Refused as error:
            raise OperationError(error.detail or error.reason) from None


def open_books(ledger: str, journal: Path | None, key: str, ca_file: str | None = None) -> Books:
    """The books that the options name. Raises `UsageError` if they name none."""
    if journal is not None:
        if not key:
            raise UsageError("--journal needs --key: the network's public key, as hex")
        return check_file(journal, key)
    return open_ledger(ledger, ca_file)


def open_ledger(ledger: str, ca_file: str | None = None) -> Ledger:
    """The running ledger that the options or the environment name. Raises `UsageError`."""
    address = ledger or os.environ.get(LEDGER_VARIABLE, "")
    if not address:
        raise UsageError(
            f"give --ledger ADDRESS (or set {LEDGER_VARIABLE}); some commands take "
            "--journal FILE --key KEY instead"
        )
    return Ledger(address, ca_file)


def check_file(
    journal: Path, key: str, *, since: Path | None = None, draws: bool = False
) -> CheckedFile:
    """Verify a flat journal. Raises `UsageError`, or `OperationError` that names the fault.

    `draws`: also check that settlement admits each order, and that the network's evidence follows
    from the journal before it.
    """
    try:
        public = bytes.fromhex(key)
    except ValueError:
        raise UsageError("--key is the network's public key: 64 hex digits") from None
    try:
        data = journal.read_bytes()
        seen = None if since is None else read_checkpoint(since.read_text(), public)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot check {journal}: {error}") from None
    state = NetworkState()

    def admitted(order: Order) -> Rejected | None:
        return admit(state.settlement, order) if draws else None

    def follow(entry: Entry) -> None:
        for event in entry.events if draws else ():
            if problem := problem_with(state.settlement, event, entry.time_ms):
                raise CorruptJournal(f"entry {entry.index}: {problem}")
        try:
            state.settlement.fold(entry.events, entry.time_ms)
        except (KeyError, ValueError, IllegalMove) as error:
            raise CorruptJournal(f"entry {entry.index} does not follow: {error!r}") from None
        state.subjects.fold(entry)

    try:
        verified = verify(data, public, since=seen, admit=admitted, follow=follow)
    except CorruptJournal as error:
        raise OperationError(f"{journal} is not whole: {error}") from None
    state.journal = verified.journal
    return CheckedFile(verified=verified, state=state)


def subject_of(receipt: str) -> str:
    """The subject of `why`: the argument itself, or the first slot or party of the receipt in that
    file. Raises `UsageError`."""
    path = Path(receipt)
    if not path.is_file():
        return receipt
    try:
        last = path.read_text().strip().splitlines()[-1]
        events = json.loads(json.loads(last)["body"])["events"]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise UsageError(f"{path} holds no receipt: {error!r}") from None
    for name in ("slot", "evidence", "operator", "party", "job"):
        for event in events:
            if event.get(name):
                return str(event[name])
    for event in events:
        for account in (event.get("debit", ""), event.get("credit", "")):
            if "/" in account:
                return account.rpartition("/")[2]
    raise UsageError(f"{path}: the receipt names no segment, party or job")
