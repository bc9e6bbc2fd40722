"""The data of a process's tasks. Each data set is loaded once; each task gets a copy of its own.

A task that sees another task's changes to its data would depend on what ran before in this process.
Its replay would differ.

Not defended: a program that changes this cache. A job's code has no sandbox within its process.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

from workloads.core.dataset import DataSet, Fetch, Manifest, digest_of
from workloads.core.program import Program
from workloads.core.state import state_digest
from workloads.core.task_spec import TaskSpec

KEPT_BYTES = 512 << 20
"""The most bytes of shards and files in one process. Each task reads a shard's groups one by one,
and the model's files. Without the cache a slow link would carry them again each time."""
KEPT_SETS = 2
"""The most data sets (manifests or programs' own data) in one process."""


class Store(Protocol):
    """The source of prepared data. Both calls raise `OperationError` for an unknown digest."""

    def get_manifest(self, digest: str) -> Manifest: ...
    def get_data(self, digest: str) -> bytes: ...


class KeptBytes:
    """LRU cache of fetched bytes by digest. Skips items above `KEPT_BYTES` and bytes whose digest
    does not match."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    def through(self, fetch: Fetch) -> Fetch:
        """A `fetch` that asks the given one only for bytes that are not cached."""

        def get(digest: str) -> bytes:
            if digest in self._kept:
                self._kept.move_to_end(digest)
                return self._kept[digest]
            data = fetch(digest)
            if len(data) <= KEPT_BYTES and digest_of(data) == digest:
                self._keep(digest, data)
            return data

        return get

    def _keep(self, digest: str, data: bytes) -> None:
        self._kept[digest] = data
        self._size += len(data)
        while self._size > KEPT_BYTES:
            self._size -= len(self._kept.popitem(last=False)[1])


class DataCache:
    """LRU cache of data sets, by the program's bundle and the prepared data set's digest."""

    def __init__(self) -> None:
        self._sets: OrderedDict[tuple[str, str], tuple[Any, str]] = OrderedDict()
        self._bytes = KeptBytes()

    def get(self, spec: TaskSpec, program: Program, store: Store) -> tuple[Any, str]:
        """(a copy of the data that the program trains on, their digest).

        The caller may change the copy. Raises `OperationError` if `store` has no such data set, and
        what the program's `load_data` raises."""
        if spec.data:
            manifest, digest = self._set(spec, lambda: (store.get_manifest(spec.data), spec.data))
            return DataSet(manifest, self._bytes.through(store.get_data)), digest
        return self._set(spec, lambda: _own(program))

    def _set(self, spec: TaskSpec, load: Callable[[], tuple[Any, str]]) -> tuple[Any, str]:
        key = (spec.bundle, spec.data)
        if key not in self._sets:
            self._sets[key] = load()
        self._sets.move_to_end(key)
        while len(self._sets) > KEPT_SETS:
            self._sets.popitem(last=False)
        data, digest = self._sets[key]
        return copy.deepcopy(data), digest


def _own(program: Program) -> tuple[Any, str]:
    data = program.load_data()
    return data, state_digest(data)
