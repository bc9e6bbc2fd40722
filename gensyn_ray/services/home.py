"""The authority's home directory: configuration, secrets, and the head that it remembers.

    config.json     the founding configuration of the network, and the journal's address
    secrets.json    the network's and the beacon's seeds
    head.note       the last signed checkpoint: the authority does not start on a journal without it
    network.json    facts for clients, written when the service starts
    journal.sqlite  the journal, unless the configuration names a PostgreSQL database

Not defended here: a user that can read this directory has the network's key, and a user that can
write to it can roll back the remembered head together with the journal. Keep heads elsewhere too:
every receipt has one.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from gensyn_ray.domain import canonical, records
from gensyn_ray.domain.errors import OperationError
from ledger.core import checkpoint
from ledger.core.checkpoint import Checkpoint
from ledger.core.parameters import Parameters

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """Hex of the network key's seed and of the beacon's seed."""

    network_seed: str
    beacon_seed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The founding configuration of a network. `treasury_keys`: public keys, hex;
    `treasury_threshold` of them must approve a treasury command. `vetted`: digests of bundles.
    `journal`: a `postgresql://` address, or empty for SQLite in the home directory."""

    network: str
    treasury_keys: list[str]
    treasury_threshold: int
    vetted: list[str]
    parameters: Parameters
    journal: str = ""


def default_parameters(reserve_micro: int) -> Parameters:
    """Settings of a public network: jobs of a week, three weeks to unbond."""
    return Parameters(
        reserve_micro=reserve_micro,
        challenge_bond_micro=reserve_micro // 10,
        job_ms=7 * DAY_MS,
        holdback_ms=DAY_MS,
        challenge_ms=3 * DAY_MS,
        appeal_ms=3 * DAY_MS,
        unbonding_ms=21 * DAY_MS,
        evidence_ms=21 * DAY_MS,
        proposal_ms=DAY_MS,
        reporter_ppm=100_000,
        jackpot_ppm=400_000,
    )


def prepare(home: Path, config: Config, secrets: Secrets) -> None:
    """Write a new network's configuration and secrets, readable by their owner only."""
    home.mkdir(parents=True, exist_ok=True)
    for name, record in (("config.json", config), ("secrets.json", secrets)):
        path = home / name
        path.touch(mode=0o600)
        path.write_bytes(canonical.encode(records.to_json(record)))


def load(home: Path) -> tuple[Config, Secrets]:
    """The configuration and secrets that `prepare` wrote. Raises `OperationError`."""
    try:
        return (
            records.from_json(Config, canonical.decode((home / "config.json").read_bytes())),
            records.from_json(Secrets, canonical.decode((home / "secrets.json").read_bytes())),
        )
    except (OSError, ValueError) as error:
        raise OperationError(f"{home} is not an authority's home: {error}") from None


def journal_of(home: Path, config: Config) -> str:
    """The journal's database address or file."""
    return config.journal or str(home / "journal.sqlite")


def remember_head(home: Path, note: str) -> None:
    """Store a signed checkpoint. It replaces the old one atomically."""
    fresh = home / "head.note.new"
    fresh.write_text(note)
    os.replace(fresh, home / "head.note")


def remembered_head(home: Path, public_key: bytes) -> Checkpoint | None:
    """The stored checkpoint, or None. Raises `OperationError` if the network did not sign it."""
    path = home / "head.note"
    if not path.exists():
        return None
    try:
        return checkpoint.read(path.read_text(), public_key)
    except ValueError as error:
        raise OperationError(f"{path} is not this network's remembered head: {error}") from None
