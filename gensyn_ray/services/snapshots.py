"""Snapshots of the folded state: a restart folds only the journal's entries after the snapshot.

A snapshot is used only by the code that wrote it, only if it is authenticated with the network's
secret (a database's administrator cannot plant one), and only if the journal still has the entries
that it was folded from. Otherwise it is ignored, and the journal is folded from its beginning.
"""

import hashlib
import hmac
import pickle
from functools import cache
from pathlib import Path
from types import ModuleType

from gensyn_ray import domain, queries, settlement
from gensyn_ray.domain.merkle import leaf_hash
from gensyn_ray.queries.network_state import NetworkState
from ledger import core as ledger_core
from ledger.storage.journal import JournalStore
from verifier_actors import core as verification_core

_PACKAGES: tuple[ModuleType, ...] = (
    domain,
    ledger_core,
    verification_core,
    settlement,
    queries,
)
"""Packages whose objects a snapshot holds. A change in a source file of them invalidates it."""


def save(store: JournalStore, state: NetworkState, secret: bytes) -> None:
    """Store a snapshot of the whole stored journal's folded state."""
    data = pickle.dumps(state, protocol=pickle.HIGHEST_PROTOCOL)
    store.save_snapshot(len(state.journal.tree), _mac(secret, data) + data)


def load(store: JournalStore, secret: bytes) -> NetworkState | None:
    """The stored snapshot, if it may be used."""
    found = store.load_snapshot()
    if found is None:
        return None
    size, sealed = found
    mac, data = sealed[:32], sealed[32:]
    if not hmac.compare_digest(mac, _mac(secret, data)) or not 0 < size <= store.count():
        return None
    state: NetworkState = pickle.loads(data)
    last = state.journal.tree.leaf_hash(size - 1)
    return state if last == leaf_hash(store.line(size - 1)) else None


def _mac(secret: bytes, data: bytes) -> bytes:
    return hmac.digest(hashlib.sha256(secret + _code()).digest(), data, "sha256")


@cache
def _code() -> bytes:
    """Hash of every source file of the packages whose objects a snapshot holds."""
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for source in sorted(Path(package.__path__[0]).glob("*.py")):
            digest.update(f"{package.__name__}/{source.name}\0".encode())
            digest.update(hashlib.sha256(source.read_bytes()).digest())
    return digest.digest()
