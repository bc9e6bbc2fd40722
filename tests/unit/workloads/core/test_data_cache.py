"""The data cache: a process loads data once, and each task gets its own copy."""

import pyarrow as pa
import pytest
import torch

from gensyn_ray.domain.errors import OperationError
from workloads.core import data_cache, dataset, own_data
from workloads.core.data_cache import DataCache, KeptBytes
from workloads.core.dataset import Manifest, Prepared, prepare
from workloads.core.task_spec import TaskSpec


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


def spec_of(store: Fetched) -> TaskSpec:
    data = store._prepared.manifest.digest
    return TaskSpec(bundle="b", config={}, seed=1, task="t", data=data)


def read_all(cache: DataCache, store: Fetched) -> None:
    data = cache.get(spec_of(store), store)
    assert sum(len(rows) for rows in data["train"].batches(7)) == 60
    assert data.files("model") == {"a": b"a" * 10}


def test_changes_of_a_task_to_its_data_do_not_reach_other_tasks(store: Fetched) -> None:
    cache, own = DataCache(), Fetched(own_data.pack({"x": torch.zeros(3)}))
    for _ in range(3):
        data = cache.get(spec_of(own), own)
        assert {name: tensor.tolist() for name, tensor in data.items()} == {"x": [0.0] * 3}
        data["x"].fill_(torch.nan)
        data["mean"] = 0.5
    assert len(own.fetched) == 2, "the manifest and the file, once each"
    for _ in range(2):
        data = cache.get(spec_of(store), store)
        assert not hasattr(data, "seen")
        assert list(data) == ["train"]
        data.seen = True
        data.manifest.splits.clear()


def test_a_spec_without_data_is_refused(store: Fetched) -> None:
    with pytest.raises(OperationError, match="names no data"):
        DataCache().get(TaskSpec(bundle="b", config={}, seed=1, task="t"), store)


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


def test_the_number_of_cached_manifests_is_limited() -> None:
    cache = DataCache()
    stores = [
        Fetched(own_data.pack({"x": torch.full((1,), float(number))}))
        for number in range(data_cache.KEPT_MANIFESTS + 1)
    ]
    for one in (*stores, stores[-1], stores[0]):
        cache.get(spec_of(one), one)
    fetched = [one.fetched.count("manifest") for one in stores]
    assert fetched == [2] + [1] * data_cache.KEPT_MANIFESTS, "the oldest was given up"
