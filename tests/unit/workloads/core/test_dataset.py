"""Prepared data: the random stream alone determines a draw; errors name the damaged part."""

from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pytest
import torch

from gensyn_ray.domain.errors import UsageError
from workloads.core import dataset
from workloads.core.dataset import BadData, DataSet, Prepared, label_file, prepare, tensor
from workloads.core.rng import Rng


def table(rows: int, first: int = 0) -> pa.Table:
    numbers = list(range(first, first + rows))
    return pa.table({"x": numbers, "text": [f"row {one}" for one in numbers]})


def opened(prepared: Prepared) -> DataSet:
    return DataSet(prepared.manifest, prepared.blobs.__getitem__)


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "GROUP_ROWS", 10)
    monkeypatch.setattr(dataset, "SHARD_GROUPS", 3)
    monkeypatch.setattr(dataset, "CACHED_GROUPS", 2)


def test_the_digest_depends_on_the_rows() -> None:
    names = {
        prepare({"train": table(40)}).manifest.digest,
        prepare({"train": table(40)}).manifest.digest,
        prepare({"train": table(40, first=1)}).manifest.digest,
        prepare({"test": table(40)}).manifest.digest,
        prepare({"train": table(40)}, {"model/a": b"1"}).manifest.digest,
        prepare({"train": table(40)}, {"model/a": b"2"}).manifest.digest,
    }
    assert len(names) == 5


@pytest.mark.usefixtures("small_groups")
def test_every_row_is_stored_once() -> None:
    data = opened(prepare({"train": table(95), "test": table(7)}))
    assert (len(data["train"]), len(data["test"])) == (95, 7)
    batches = list(data["train"].batches(4))
    assert Counter(x for one in batches for x in one["x"].to_pylist()) == Counter(range(95))
    assert max(len(one) for one in batches) == 4
    assert [x for one in batches for x in one["x"].to_pylist()] != list(range(95)), "shuffled"


@pytest.mark.usefixtures("small_groups")
def test_a_draw_follows_from_its_stream_and_meets_every_row() -> None:
    prepared = prepare({"train": table(95)})
    first, second = opened(prepared), opened(prepared)
    seen: Counter[int] = Counter()
    for step in range(400):
        rows = first["train"].draw(Rng(1, "task", step), 8)
        assert rows.equals(second["train"].draw(Rng(1, "task", step), 8))
        seen.update(rows["x"].to_pylist())
    assert set(seen) == set(range(95))
    # The last group has 5 rows and half the probability, so all rows are about equally likely.
    assert max(seen.values()) < 3 * 400 * 8 / 95
    other = first["train"].draw(Rng(1, "another task", 0), 8)
    assert not other.equals(first["train"].draw(Rng(1, "task", 0), 8))


@pytest.mark.usefixtures("small_groups")
def test_a_draw_fetches_only_its_shard() -> None:
    prepared = prepare({"train": table(300)})
    fetched: list[str] = []

    def fetch(digest: str) -> bytes:
        fetched.append(digest)
        return prepared.blobs[digest]

    data = DataSet(prepared.manifest, fetch)
    assert not fetched
    data["train"].draw(Rng(0), 4)
    assert len(fetched) == 1
    assert len(prepared.manifest.splits["train"]) == 10


def test_damage_is_named() -> None:
    prepared = prepare({"train": table(20)})
    (shard,) = prepared.manifest.splits["train"]
    data = DataSet(prepared.manifest, lambda digest: prepared.blobs[digest][:-1] + b"x")
    with pytest.raises(BadData, match=f"{shard.digest[:16]}.*damaged"):
        data["train"].draw(Rng(0), 1)


def test_bytes_that_are_no_parquet_are_named() -> None:
    rubbish = b"PAR1 and then nothing of the kind"
    shard = dataset.Shard(digest=dataset.digest_of(rubbish), groups=[3])
    manifest = dataset.Manifest(splits={"train": [shard]}, columns={"x": "int64"})
    with pytest.raises(BadData, match=r"'train' is no Parquet file"):
        DataSet(manifest, lambda _: rubbish)["train"].draw(Rng(0), 1)


def test_a_split_without_rows_is_named() -> None:
    good = prepare({"train": table(10)})
    empty = replace(good.manifest, splits={**good.manifest.splits, "test": []})
    split = DataSet(empty, good.blobs.__getitem__)["test"]
    with pytest.raises(BadData, match="'test' has no rows"):
        next(split.batches(5))
    with pytest.raises(BadData, match="'test' has no rows to draw"):
        split.draw(Rng("x"), 5)


def test_data_that_cannot_be_prepared_are_refused_with_the_cause() -> None:
    with pytest.raises(UsageError, match="split 'test' has no rows"):
        prepare({"train": table(3), "test": table(0)})
    with pytest.raises(UsageError, match="'x' of the split 'train' holds nulls"):
        prepare({"train": pa.table({"x": [1, None]})})
    with pytest.raises(UsageError, match="others have"):
        prepare({"train": table(3), "test": pa.table({"x": [1]})})


def test_a_missing_part_is_refused_with_the_existing_ones() -> None:
    data = opened(prepare({"train": table(3)}, {"model/config.json": b"{}"}))
    with pytest.raises(BadData, match="no split 'valid', only train"):
        data["valid"]
    with pytest.raises(BadData, match="no column 'y', only x, text"):
        tensor(data["train"].draw(Rng(0), 1), "y")
    with pytest.raises(BadData, match="'text' holds string"):
        tensor(data["train"].draw(Rng(0), 1), "text")
    with pytest.raises(BadData, match="no files below 'tokenizer'"):
        data.files("tokenizer")
    assert data.files("model") == {"config.json": b"{}"}


def test_columns_become_tensors() -> None:
    lists = pa.FixedSizeListArray.from_arrays(pa.array(range(6), pa.uint16()), 3)
    made = pa.table({"tokens": lists, "label": [1, 0]})
    assert tensor(made, "tokens").tolist() == [[0, 1, 2], [3, 4, 5]]
    assert tensor(made.slice(1), "tokens").tolist() == [[3, 4, 5]]
    assert tensor(made, "label").dtype == torch.int64


def test_the_number_of_classes_is_that_of_the_names() -> None:
    named = opened(prepare({"train": table(3)}, label_file(["ä", "b", "c"])))
    assert named.labels() == ["ä", "b", "c"]
    assert named.class_count(None) == named.class_count(3) == 3
    with pytest.raises(BadData, match="`classes` is 2, but the data set has 3: leave it out"):
        named.class_count(2)


def test_without_names_the_number_of_classes_must_be_given() -> None:
    nameless = opened(prepare({"train": table(3)}))
    assert nameless.labels() == []
    assert nameless.class_count(5) == 5
    with pytest.raises(BadData, match="keeps no names of its labels"):
        nameless.class_count(None)
