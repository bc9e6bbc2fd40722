"""The authority decides commands, folds settlement, and journals both.

It holds the network's key and the beacon's seed, and signs the network's own commands and receipts.
No process in Ray holds either secret. `authority_daemon` runs it as a process.

    submit   decide a batch -> fold -> carry out what is due -> one sync -> receipts
    tick     carry out what time has made due -> one sync
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gensyn_ray.domain import signing
from gensyn_ray.domain.clock import Clock
from gensyn_ray.domain.errors import OperationError
from gensyn_ray.domain.signing import Envelope, SigningKey
from gensyn_ray.queries.network_state import NetworkState
from gensyn_ray.queries.readings import NoSuchThing
from gensyn_ray.services import snapshots
from gensyn_ray.services.home import Config, Secrets
from gensyn_ray.settlement import decisions
from gensyn_ray.settlement.admission import admit
from gensyn_ray.settlement.state import Settlement
from ledger.client import Signer
from ledger.core import checkpoint, invariants, orders
from ledger.core.checkpoint import Checkpoint
from ledger.core.commands import Command, Found
from ledger.core.journal import Duplicate, Entry, Journal, parse_entry
from ledger.core.orders import Order
from ledger.core.refusals import Rejected
from ledger.service.app import UnknownView
from ledger.storage.journal import JournalStore
from verifier_actors.core import beacon

BEACON_LINKS = 1 << 16
OVERDUE_MS = 1_000
"""Interval at which the authority checks for commands that time makes due, and stores its head."""
READ_APART = 4
"""Batches of fewer than twice as many signatures are checked in one thread."""
SNAPSHOT_ENTRIES = 10_000
"""A start that folds more entries than this stores a snapshot for the next start."""


class Authority:
    """Decides, folds, journals. Only one thread may use it. It opens no socket.

    `store`: the journal. `clock`: Unix milliseconds. `remembered`: a head that the journal must
    contain. `remember`: stores a signed head. Raises `OperationError` if the stored books do not
    balance or lack the remembered head.
    """

    def __init__(
        self,
        *,
        config: Config,
        secrets: Secrets,
        store: JournalStore,
        clock: Clock,
        remembered: Checkpoint | None = None,
        remember: Callable[[str], None] = lambda note: None,
    ) -> None:
        self._key = SigningKey(bytes.fromhex(secrets.network_seed))
        self._secret = bytes.fromhex(secrets.network_seed)
        self._links = _chain(bytes.fromhex(secrets.beacon_seed))
        self._config = config
        self._store = store
        self._wall_clock = clock
        self._remember = remember
        self._helper = ThreadPoolExecutor(1, thread_name_prefix="helper")
        self._pending: list[bytes] = []
        """Lines that are folded and not durable yet."""
        self._looked_ms = 0
        self._load(remembered)
        if not len(self.journal.tree):
            self._found()
        self._remembered_size = 0
        self._remember_head()

    @property
    def genesis(self) -> str:
        """Hash of the founding command. It identifies this network."""
        return self.journal.genesis

    @property
    def journal(self) -> Journal:
        """The log and the book."""
        return self._state.journal

    @property
    def settlement(self) -> Settlement:
        """The state of all audits."""
        return self._state.settlement

    @property
    def public_key(self) -> bytes:
        return self._key.public

    def submit(self, envelopes: Sequence[Envelope]) -> list[dict[str, Any]]:
        """Receipts or refusals of a batch, in order. The batch, and the network's commands that
        follow from it, are durable when this returns."""
        decided = [self._decide(order) for order in self._read(envelopes)]
        self._do_what_is_due()
        self._flush()
        return [self._answer(one) for one in decided]

    def tick(self) -> None:
        """Carry out the commands that time has made due."""
        self._do_what_is_due()
        now_ms = self._clock()
        if now_ms - self._looked_ms >= OVERDUE_MS:
            self._looked_ms = now_ms
            while overdue := decisions.overdue(self.settlement, self.journal.book, now_ms):
                for command in overdue:
                    self._do(command)
            self._flush()
            self._remember_head()
        self._flush()

    def stop(self) -> None:
        """Store the head and a snapshot. The journal can be closed afterwards."""
        self._flush()
        self._remember_head()
        self._keep_snapshot()

    def checkpoint(self) -> str:
        """The durable log's signed head."""
        size = len(self.journal.tree) - len(self._pending)
        root = self.journal.tree.root_at(size)
        head = Checkpoint(origin=self._config.network, size=size, root=root)
        return checkpoint.sign(head, self._key)

    def read(self, view: str, parameters: Mapping[str, str]) -> Any:
        """A reading. Raises `UnknownView` if the view or its subject does not exist."""
        if view == "health":
            return {"entries": len(self.journal.tree), "root": self.journal.tree.root().hex()}
        try:
            return self._state.read(view, parameters, line=self._line, note=self.checkpoint)
        except NoSuchThing as error:
            raise UnknownView(str(error)) from None

    # -- commands ----------------------------------------------------------------------------

    def _read(self, envelopes: Sequence[Envelope]) -> list[Order | Rejected]:
        """Open envelopes. Checking a signature is a third of a command's cost and runs outside the
        interpreter's lock, so a second thread takes half of a larger batch."""
        if len(envelopes) < 2 * READ_APART:
            return [orders.read(envelope) for envelope in envelopes]
        half = len(envelopes) // 2
        first = self._helper.submit(lambda: [orders.read(one) for one in envelopes[:half]])
        second = [orders.read(envelope) for envelope in envelopes[half:]]
        return first.result() + second

    def _decide(self, order: Order | Rejected) -> Entry | Rejected:
        """The entry of an order: a new one, or the first one if the order was sent before."""
        result = self.journal.propose_read(order, self._clock(), self._admit)
        match result:
            case Rejected():
                return result
            case Duplicate():
                return parse_entry(self._line(result.index))
            case Entry():
                self._fold(result)
                return result

    def _answer(self, decided: Entry | Rejected) -> dict[str, Any]:
        if isinstance(decided, Rejected):
            return {"refused": decided.reason.value, "detail": decided.detail}
        return {"receipt": self._receipt(decided)}

    def _receipt(self, entry: Entry) -> dict[str, str]:
        """The receipt: the network's signature under an accepted command, its events and the log's
        head."""
        members = {
            "network": f'"{self.genesis}"',
            "index": str(entry.index),
            "time_ms": str(entry.time_ms),
            "command": f'"{entry.envelope.body_hash}"',
            "events": entry.events_text,
            "head": f'"{self.journal.head_at(entry.index + 1)}"',
        }
        return signing.seal_text(self._key, signing.RECEIPT, members).to_json()

    def _do_what_is_due(self) -> None:
        while due := decisions.due(self.settlement, self._clock(), self._links.__getitem__):
            for command in due:
                self._do(command)

    def _do(self, command: Command) -> None:
        """Carry out a command of the network's own. A refusal here is a bug."""
        result = self.journal.propose(self._signer().sign(command), self._clock(), self._admit)
        if not isinstance(result, Entry):
            raise RuntimeError(f"the network refused itself: {command} -> {result}")
        self._fold(result)

    def _admit(self, order: Order) -> Rejected | None:
        return admit(self.settlement, order)

    def _clock(self) -> int:
        """The time, in Unix milliseconds. It is never earlier than the last entry's."""
        self._now_ms = max(self._now_ms, self._wall_clock())
        return self._now_ms

    def _signer(self) -> Signer:
        return Signer(
            self._key,
            role="network",
            network=self._config.network,
            genesis=self.journal.genesis,
            clock=self._clock,
            # Unique, and the same for the same history: equal commands give equal logs.
            nonce=lambda: f"entry {len(self.journal.tree)}",
        )

    def _found(self) -> None:
        config = self._config
        self._do(
            Found(
                network=config.network,
                network_key=self._key.public.hex(),
                treasury_keys=config.treasury_keys,
                treasury_threshold=config.treasury_threshold,
                beacon_anchor=self._links[0].hex(),
                vetted=config.vetted,
                parameters=config.parameters,
            )
        )
        self._flush()

    # -- the journal -------------------------------------------------------------------------

    def _load(self, remembered: Checkpoint | None) -> None:
        """Fold the stored entries. Raises `OperationError` if they lack the remembered head."""
        self._state = snapshots.load(self._store, self._secret) or NetworkState()
        self._now_ms = self._state.last_ms
        begun = len(self.journal.tree)
        for line in self._store.read(begun):
            self._fold(parse_entry(line))
            self._pending.clear()
        if broken := invariants.check(self.journal.book):
            raise OperationError(f"the journal's books do not balance: {broken[0]}")
        if remembered is not None:
            self._check_remembered(remembered)
        if len(self.journal.tree) - begun > SNAPSHOT_ENTRIES:
            self._keep_snapshot()

    def _check_remembered(self, remembered: Checkpoint) -> None:
        size = len(self.journal.tree)
        if remembered.size > size:
            raise OperationError(
                f"the journal has {size} entries and a head of {remembered.size} was signed: it is "
                "an old copy; restore the newest one"
            )
        if self.journal.tree.root_at(remembered.size) != remembered.root:
            raise OperationError(
                f"the journal's first {remembered.size} entries are not those whose head was "
                "signed: it is another history; restore the right one"
            )

    def _fold(self, entry: Entry) -> None:
        self._state.fold(entry)
        self._pending.append(entry.line)
        self._now_ms = max(self._now_ms, entry.time_ms)

    def _flush(self) -> None:
        """Sync all entries since the last sync. If this fails, the process must end."""
        if self._pending:
            self._store.append(len(self.journal.tree) - len(self._pending), self._pending)
            self._pending = []

    def _line(self, index: int) -> bytes:
        durable = len(self.journal.tree) - len(self._pending)
        return self._store.line(index) if index < durable else self._pending[index - durable]

    def _remember_head(self) -> None:
        if len(self.journal.tree) > self._remembered_size:
            self._remembered_size = len(self.journal.tree)
            self._remember(self.checkpoint())

    def _keep_snapshot(self) -> None:
        snapshots.save(self._store, self._state, self._secret)


def _chain(seed: bytes) -> list[bytes]:
    """Every link of the beacon's chain, the anchor first."""
    links = [seed]
    for _ in range(BEACON_LINKS):
        links.append(beacon.link_of(links[-1], 1, 0))
    return links[::-1]
