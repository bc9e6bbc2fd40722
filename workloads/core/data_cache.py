"""The data of a process's tasks. Bytes are fetched once; each task gets data of its own.

A task that sees another task's changes to its data would depend on what ran before in this process.
Its replay would differ.

Not defended: a program that changes this cache. A job's code has no sandbox within its process.
"""

import copy
from collections import OrderedDict
from typing import Any, Protocol

from gensyn_ray.domain.errors import OperationError
from workloads.core import own_data
from workloads.core.dataset import DataSet, Fetch, Manifest, digest_of
from workloads.core.task_spec import TaskSpec

KEPT_BYTES = 512 << 20
"""The most bytes of shards and files in one process. Each task reads a shard's groups one by one,
and the model's files. Without the cache a slow link would carry them again each time."""
KEPT_MANIFESTS = 2
"""The most manifests in one process."""


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
    """LRU caches of manifests and bytes, by digest."""

    def __init__(self) -> None:
        self._manifests: OrderedDict[str, Manifest] = OrderedDict()
        self._bytes = KeptBytes()

    def get(self, spec: TaskSpec, store: Store) -> Any:
        """The data that the task's program trains on: a dict of tensors if its own `load_data` made
        them, else a `DataSet`. The caller may change them.

        Raises `OperationError` if `store` has no such data set, or if the spec names none."""
        if not spec.data:
            raise OperationError("the task's spec names no data")
        manifest = copy.deepcopy(self._manifest(spec.data, store))
        data = DataSet(manifest, self._bytes.through(store.get_data))
        own = own_data.unpack(data)
        return data if own is None else own

    def _manifest(self, digest: str, store: Store) -> Manifest:
        if digest not in self._manifests:
            self._manifests[digest] = store.get_manifest(digest)
        self._manifests.move_to_end(digest)
        while len(self._manifests) > KEPT_MANIFESTS:
            self._manifests.popitem(last=False)
        return self._manifests[digest]
