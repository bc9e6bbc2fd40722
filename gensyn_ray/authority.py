"""The authority: the one process that can move money.

It holds the network's key and the beacon's seed, decides commands, folds settlement, and journals
what follows under its own key. Nothing in Ray holds either secret.

    python -m gensyn_ray.authority HOME ADDRESS      HOME holds config.json, written by `prepare`

Not defended here: whoever reads this process's home directory is the network. Run it under a user
of its own.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from gensyn_ray import readings
from gensyn_ray.admission import admit
from gensyn_ray.domain import canonical, records, signing
from gensyn_ray.domain.clock import Clock
from gensyn_ray.domain.errors import OperationError
from gensyn_ray.domain.signing import Envelope, SigningKey
from gensyn_ray.settlement import Settlement
from gensyn_ray.wall_clock import now_ms
from ledger.client import Signer
from ledger.core.commands import Command, Found
from ledger.core.journal import Duplicate, Entry, Journal, parse_entry
from ledger.core.orders import Order
from ledger.core.refusals import Rejected
from ledger.service import UnknownView, make_app
from ledger.storage.journal import JournalStore
from ledger.storage.sqlite import SqliteJournal
from verifier_actors.core import beacon

BEACON_LINKS = 1 << 16
TICK_MS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """Hex of the network key's seed and of the beacon's seed."""

    network_seed: str
    beacon_seed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a network is founded with."""

    network: str
    treasury_key: str
    vetted: list[str]
    reserve_micro: int


class Authority:
    """Decides, folds, journals. Takes its storage and its clock; knows no socket."""

    def __init__(
        self, *, config: Config, secrets: Secrets, store: JournalStore, clock: Clock
    ) -> None:
        self._key = SigningKey(bytes.fromhex(secrets.network_seed))
        self._links = _chain(bytes.fromhex(secrets.beacon_seed))
        self._store = store
        self._wall_clock = clock
        self._last_ms = 0
        self._entries: list[Entry] = []
        self.journal = Journal()
        self.settlement = Settlement()
        for line in store.read():
            self._fold(parse_entry(line))
        self._durable = len(self._entries)
        if not self._entries:
            self._sign_as(config.network)
            self._do(
                Found(
                    network=config.network,
                    network_key=self._key.public.hex(),
                    treasury_key=config.treasury_key,
                    beacon_anchor=self._links[0].hex(),
                    vetted=config.vetted,
                    reserve_micro=config.reserve_micro,
                )
            )
            self._flush()
        self._sign_as(config.network)

    @property
    def genesis(self) -> str:
        """Hash of the founding command: names this network for ever."""
        return self.journal.genesis

    @property
    def public_key(self) -> bytes:
        return self._key.public

    def submit(self, envelopes: Sequence[Envelope]) -> list[dict[str, Any]]:
        """Decide a batch; durable when this returns. What follows from it is journaled with it."""
        answers = [self._submit_one(envelope) for envelope in envelopes]
        self._do_what_is_due()
        self._flush()
        return answers

    def tick(self) -> None:
        """Do what time has made due."""
        self._do_what_is_due()
        self._flush()

    def read(self, view: str, parameters: Mapping[str, str]) -> Any:
        """A reading. Raises `UnknownView` if the view or what it should show does not exist."""
        if view == "health":
            return {"entries": len(self.journal.tree), "root": self.journal.tree.root().hex()}
        if (found := readings.VIEWS.get(view)) is None:
            raise UnknownView(f"there is no view {view!r}; there are {', '.join(readings.VIEWS)}")
        try:
            return found(self.journal, self.settlement, parameters)
        except readings.NoSuchThing as error:
            raise UnknownView(str(error)) from None

    def _submit_one(self, envelope: Envelope) -> dict[str, Any]:
        result = self.journal.propose(envelope, self._clock(), self._admit)
        match result:
            case Rejected():
                return {"refused": result.reason.value, "detail": result.detail}
            case Duplicate():
                return {"receipt": self._receipt(self._entries[result.index])}
            case Entry():
                self._fold(result)
                return {"receipt": self._receipt(result)}

    def _receipt(self, entry: Entry) -> dict[str, str]:
        """The network's signature under what an accepted command did."""
        body = {
            "network": self.genesis,
            "index": entry.index,
            "time_ms": entry.time_ms,
            "command": entry.envelope.body_hash,
            "events": [records.to_tagged(event) for event in entry.events],
        }
        return signing.seal(self._key, signing.RECEIPT, body).to_json()

    def _do_what_is_due(self) -> None:
        while due := self.settlement.due(self._clock(), self._links.__getitem__):
            for command in due:
                self._do(command)

    def _do(self, command: Command) -> None:
        """Carry out a command of the network's own. A refusal here is a bug."""
        result = self.journal.propose(self._signer.sign(command), self._clock(), self._admit)
        if not isinstance(result, Entry):
            raise RuntimeError(f"the network refused itself: {command} -> {result}")
        self._fold(result)

    def _admit(self, order: Order) -> Rejected | None:
        return admit(self.settlement, order)

    def _clock(self) -> int:
        """Now; never earlier than the last entry, whatever the host's clock does."""
        self._last_ms = max(self._last_ms, self._wall_clock())
        return self._last_ms

    def _sign_as(self, network: str) -> None:
        self._signer = Signer(
            self._key,
            role="network",
            network=network,
            genesis=self.journal.genesis,
            clock=self._clock,
        )

    def _fold(self, entry: Entry) -> None:
        self.journal.apply(entry)
        self.settlement.fold(entry.events, entry.time_ms)
        self._entries.append(entry)
        self._last_ms = max(self._last_ms, entry.time_ms)

    def _flush(self) -> None:
        """One sync for everything since the last. If it fails, the process must end."""
        if self._durable < len(self._entries):
            lines = [entry.line for entry in self._entries[self._durable :]]
            self._store.append(self._durable, lines)
            self._durable = len(self._entries)


def _chain(seed: bytes) -> list[bytes]:
    """Every link of the beacon's chain, the anchor first."""
    links = [seed]
    for _ in range(BEACON_LINKS):
        links.append(beacon.link_of(links[-1], 1, 0))
    return links[::-1]


def prepare(home: Path, config: Config, secrets: Secrets) -> None:
    """Write a new network's configuration and secrets, readable by their owner alone."""
    home.mkdir(parents=True, exist_ok=True)
    for name, record in (("config.json", config), ("secrets.json", secrets)):
        path = home / name
        path.touch(mode=0o600)
        path.write_bytes(canonical.encode(records.to_json(record)))


def load(home: Path) -> tuple[Config, Secrets]:
    """What `prepare` wrote. Raises `OperationError`."""
    try:
        return (
            records.from_json(Config, canonical.decode((home / "config.json").read_bytes())),
            records.from_json(Secrets, canonical.decode((home / "secrets.json").read_bytes())),
        )
    except (OSError, ValueError) as error:
        raise OperationError(f"{home} is not an authority's home: {error}") from None


def serve(home: Path, address: str) -> None:
    """Run until terminated. `address` is `unix:PATH` or `http://HOST:PORT`."""
    config, secrets = load(home)
    store = SqliteJournal(home / "journal.sqlite")
    authority = Authority(config=config, secrets=secrets, store=store, clock=now_ms)
    facts = {
        "network": config.network,
        "genesis": authority.genesis,
        "network_key": authority.public_key.hex(),
        "address": address,
    }
    (home / "network.json").write_text(json.dumps(facts))

    def end(error: BaseException) -> None:
        # After a failed sync nobody knows what the disk holds. Restarting reads it again.
        print(f"authority ends: {error!r}", file=sys.stderr, flush=True)
        os._exit(70)

    app = make_app(
        authority.submit, authority.read, authority.tick, tick_ms=TICK_MS, on_failure=end
    )
    listen = listening_on(address)
    uvicorn.run(app, log_level="warning", access_log=False, **listen)
    store.close()


def listening_on(address: str) -> dict[str, Any]:
    """uvicorn's arguments for an address."""
    if address.startswith("unix:"):
        return {"uds": address.removeprefix("unix:")}
    host, _, port = address.removeprefix("http://").rpartition(":")
    return {"host": host, "port": int(port)}


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2])
