"""What the tasks of one process train on, loaded once.

A program's own data are tensors, which its code might change: they are digested again whenever a
task begins, and loaded anew if they are not what they were. Else a task would depend on what ran
in this process before it, and could not be replayed.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

from workloads.core.dataset import DataSet, Manifest
from workloads.core.program import Program
from workloads.core.segment import TaskSpec
from workloads.core.state import state_digest

KEPT = 2
"""Data sets; more only stay in the memory of a process that serves many jobs."""


class Store(Protocol):
    """Where prepared data come from; each raises `OperationError` if it has none."""

    def get_manifest(self, digest: str) -> Manifest: ...
    def get_data(self, digest: str) -> bytes: ...


class DataCache:
    """Data sets by the program that loads them, or by their own digest."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], tuple[Any, str]] = OrderedDict()

    def get(self, spec: TaskSpec, program: Program, store: Store) -> tuple[Any, str]:
        """What the program trains on and its digest. Raises `OperationError`."""
        key = (spec.bundle, spec.data)
        kept = self._kept.pop(key, None)
        if kept is None or not (spec.data or state_digest(kept[0]) == kept[1]):
            kept = self._load(spec, program.load_data, store)
        self._kept[key] = kept
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return kept

    def _load(self, spec: TaskSpec, own: Callable[[], Any], store: Store) -> tuple[Any, str]:
        if spec.data:
            return DataSet(store.get_manifest(spec.data), store.get_data), spec.data
        data = own()
        return data, state_digest(data)
