"""What the tasks of one process train on, loaded once.

Each task gets data of its own: a task whose data another one could have changed would depend on
what ran in this process before it, and could not be replayed.

Not defended: a program that reaches for this module. Code of a job is not kept from anything in its
process.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

from workloads.core.dataset import DataSet, Fetch, Manifest, digest_of
from workloads.core.program import Program
from workloads.core.segment import TaskSpec
from workloads.core.state import state_digest

KEPT_BYTES = 512 << 20
"""Of shards and files, in one process: a volunteer's link may be slow, and the groups of a shard
are read one by one, a model's files once a task."""
KEPT_SETS = 2
"""Manifests and programs' own data; more only stay where a process serves many jobs."""


class Store(Protocol):
    """Where prepared data come from; each raises `OperationError` if it has none."""

    def get_manifest(self, digest: str) -> Manifest: ...
    def get_data(self, digest: str) -> bytes: ...


class KeptBytes:
    """What was fetched last, by its digest. What is no more than this is not kept: damaged bytes,
    and what alone exceeds the limit."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    def through(self, fetch: Fetch) -> Fetch:
        """`fetch`, asked only for what is not here."""

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
    """Data by the program that loads them, or by their own digest."""

    def __init__(self) -> None:
        self._sets: OrderedDict[tuple[str, str], tuple[Any, str]] = OrderedDict()
        self._bytes = KeptBytes()

    def get(self, spec: TaskSpec, program: Program, store: Store) -> tuple[Any, str]:
        """What the program trains on, the caller's to change, and its digest.

        Raises `OperationError`, and what the program raises if it brings its own."""
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
