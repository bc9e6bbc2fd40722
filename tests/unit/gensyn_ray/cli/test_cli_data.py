"""`gensyn-ray data prepare` prints the digest of a data set, or an error of one line."""

import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from safetensors.numpy import save_file

from gensyn_ray.object_store.blobs import Blobs
from tests.kits.command_line import Said, gensyn_ray
from workloads.core.dataset import DataSet


def run(*arguments: str | Path) -> Said:
    return gensyn_ray("data", "prepare", *map(str, arguments))


@pytest.fixture
def store(tmp_path: Path) -> str:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder.as_uri()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.parquet"
    rows = {"body": [f"text {at}" for at in range(40)], "stars": [at % 3 for at in range(40)]}
    parquet.write_table(pa.table(rows), path)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "tokenizer.json").write_text("{}")
    save_file({"weight": np.zeros(2, dtype=np.float32)}, folder / "model.safetensors")
    return folder


def opened(store: str, done: Said) -> DataSet:
    assert done.returncode == 0, done.stderr
    blobs = Blobs(store)
    return DataSet(blobs.get_manifest(done.stdout.split()[-1]), blobs.get_data)


def test_sentences_of_ones_own(store: str, table: Path, model: Path) -> None:
    options = ("--text", "body", "--label", "stars", "--model", model, "--test-rows", "10")
    done = run("sentences", table, *options, "--store", store)
    assert "10 test, 30 train rows" in done.stdout
    data = opened(store, done)
    (batch,) = data["test"].batches(10)
    assert set(batch.column_names) == {"text", "label"}
    assert set(batch["label"].to_pylist()) <= {0, 1, 2}
    assert sorted(data.files("model")) == ["config.json", "model.safetensors", "tokenizer.json"]


def test_a_folder_of_texts(store: str, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.txt").write_text("to be or not to be " * 60)
    data = opened(store, run("text", folder, "--length", "32", "--store", store))
    assert data.files("vocabulary") == {"size": b"256"}
    assert len(data["train"]) > len(data["test"]) > 0


def test_the_labels_are_printed_and_kept(store: str, tmp_path: Path) -> None:
    def digest(*names: str) -> str:
        path = tmp_path / "t.csv"
        path.write_text("x,y\n" + "".join(f"{at},{names[at % 2]}\n" for at in range(20)))
        done = run("table", path, "--label", "y", "--test-rows", "4", "--store", store)
        assert done.stdout.splitlines()[:2] == [
            f"label {number} is {name!r}: 10 rows" for number, name in enumerate(sorted(names))
        ]
        assert opened(store, done).labels() == sorted(names)
        return done.stdout.split()[-1]

    assert digest("ja", "nein") != digest("no", "yes")


def test_rows_without_a_value_are_dropped_only_on_request(store: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = [f"{at},{'ab'[at % 2]}\n" for at in range(20)]
    path.write_text("x,y\n" + "".join([*rows, ",a\n", "inf,b\n", "3,\n"]))
    arguments = ("table", path, "--label", "y", "--test-rows", "4", "--store", store)
    refused = run(*arguments)
    assert refused.returncode == 2
    assert f"{path}: the column 'x' holds nothing in row 21" in refused.stderr
    assert "--drop-missing" in refused.stderr
    assert "4 test, 16 train rows" in run(*arguments, "--drop-missing").stdout


def test_a_name_that_looks_the_same_is_the_same(store: str, tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "größe") for form in ("NFC", "NFD"))
    assert composed != decomposed
    path = tmp_path / "t.csv"
    path.write_text(f"x,{decomposed}\n" + "1,a\n2,b\n" * 8)
    for name in (composed, decomposed):
        opened(store, run("table", path, "--label", name, "--test-rows", "2", "--store", store))


def test_another_encoding_is_named(store: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("x,größe\n1,süß\n2,nicht\n3,süß\n4,nicht\n".encode("cp1252"))
    arguments = ("table", path, "--label", "größe", "--test-rows", "2", "--store", store)
    refused = run(*arguments)
    assert refused.returncode == 2
    assert f"{path} is not utf-8: byte 0xf6 in line 1" in refused.stderr
    data = opened(store, run(*arguments, "--encoding", "cp1252"))
    assert data.labels() == ["nicht", "süß"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sentences", "TABLE", "--text", "bodi", "--model", "MODEL"), "no column 'bodi': choose"),
        (("sentences", "TABLE", "--text", "body"), "sentences need --model"),
        (("sentences", "nowhere.parquet", "--model", "MODEL"), "needs a SOURCE that exists"),
        (("table", "TABLE", "--label", "stars"), "the column 'body' holds string, not numbers"),
        (
            ("sentences", "TABLE", "--text", "body", "--label", "stars", "--model", "MODEL"),
            "500 of 40 rows cannot be held out",
        ),
        (("text", "MODEL"), "needs at least two files"),
        (("text", "TABLE"), "reviews.parquet is a file: give a folder"),
        (("shakespeare", "--vocabulary", "100"), "the vocabulary has 256 to 65536 tokens, not 100"),
        (("fashion-mnits",), "fashion-mnits"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: tuple[str, ...], said: str, store: str, table: Path, model: Path
) -> None:
    named = {"TABLE": str(table), "MODEL": str(model)}
    done = run(*[named.get(one, one) for one in arguments], "--store", store)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_damaged_parquet_file_is_named(store: str, table: Path, model: Path) -> None:
    table.write_bytes(table.read_bytes()[:100])
    done = run("sentences", table, "--text", "body", "--model", model, "--store", store)
    assert done.returncode == 2
    assert f"{table} cannot be read as a table" in done.stderr
