"""The data cache: a process loads data once, and each task gets its own copy."""

from typing import Any

import pyarrow as pa
import pytest
import torch

from workloads.core import data_cache, dataset
from workloads.core.data_cache import DataCache, KeptBytes
from workloads.core.dataset import Manifest, Prepared, prepare
from workloads.core.program import Program
from workloads.core.state import state_digest
from workloads.core.task_spec import TaskSpec


class Owner(Program):
    """A program with its own data that counts its loads."""

    steps_per_segment = segments = 1

    def __init__(self) -> None:
        self.loads = 0

    def load_data(self) -> dict[str, torch.Tensor]:
        self.loads += 1
        return {"x": torch.zeros(3)}

    def init(self, config: Any, data: Any, rng: Any) -> None: ...
    def step(self, data: Any, rng: Any) -> None: ...
    def evaluate(self, data: Any) -> dict[str, float]:
        return {}


class Fetched:
    """A store that counts fetches."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self.fetched: list[str] = []

    def get_manifest(self, digest: str) -> Manifest:
        self.fetched.append("manifest")
        assert digest == self._prepared.manifest.digest
        return self._prepared.manifest

    def get_data(self, digest: str) -> bytes:
        self.fetched.append(digest)
        return self._prepared.blobs[digest]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Fetched:
    """A data set with one shard of several groups, and a file."""
    monkeypatch.setattr(dataset, "GROUP_ROWS", 10)
    rows = pa.table({"x": list(range(60))})
    prepared = prepare({"train": rows}, {"model/a": b"a" * 10})
    (shard,) = prepared.manifest.splits["train"]
    assert len(shard.groups) == 6
    return Fetched(prepared)


def spec_of(store: Fetched | None = None, bundle: str = "b") -> TaskSpec:
    data = store._prepared.manifest.digest if store else ""
    return TaskSpec(bundle=bundle, config={}, seed=1, task="t", data=data)


def read_all(cache: DataCache, store: Fetched) -> None:
    data, digest = cache.get(spec_of(store), Owner(), store)
    assert digest == store._prepared.manifest.digest
    assert sum(len(rows) for rows in data["train"].batches(7)) == 60
    assert data.files("model") == {"a": b"a" * 10}


def test_changes_of_a_task_to_its_data_do_not_reach_other_tasks(store: Fetched) -> None:
    cache, program = DataCache(), Owner()
    for _ in range(3):
        data, digest = cache.get(spec_of(), program, store)
        assert digest == state_digest({"x": torch.zeros(3)}) == state_digest(data)
        data["x"].fill_(torch.nan)
        data["mean"] = 0.5
    assert program.loads == 1
    for _ in range(2):
        data, _ = cache.get(spec_of(store), program, store)
        assert not hasattr(data, "seen")
        assert list(data) == ["train"]
        data.seen = True
        data.manifest.splits.clear()


def test_a_shard_is_fetched_once_for_all_its_groups_and_all_tasks(store: Fetched) -> None:
    cache = DataCache()
    for _ in range(3):
        read_all(cache, store)
    assert len(store.fetched) == len(set(store.fetched)) == 3


def test_the_size_of_cached_bytes_is_limited(
    store: Fetched, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard, file = (len(data) for data in store._prepared.blobs.values())
    assert file == 10 < shard
    for limit, again in ((shard + file, 0), (shard + file - 1, 2), (shard - 1, 6), (9, 7)):
        monkeypatch.setattr(data_cache, "KEPT_BYTES", limit)
        cache = DataCache()
        read_all(cache, store)
        store.fetched.clear()
        read_all(cache, store)
        assert len(store.fetched) == again, limit


def test_damaged_bytes_are_not_kept() -> None:
    kept, answers = KeptBytes(), [b"damaged", b"whole"]
    fetch = kept.through(lambda _: answers.pop(0))
    digest = dataset.digest_of(b"whole")
    assert [fetch(digest) for _ in range(3)] == [b"damaged", b"whole", b"whole"]


def test_the_number_of_cached_data_sets_is_limited(store: Fetched) -> None:
    cache, program = DataCache(), Owner()
    bundles = [str(number) for number in range(data_cache.KEPT_SETS + 1)]
    for bundle in (*bundles, bundles[-1], bundles[0]):
        cache.get(spec_of(bundle=bundle), program, store)
    assert program.loads == len(bundles) + 1, "the oldest was given up, the newest was not"
