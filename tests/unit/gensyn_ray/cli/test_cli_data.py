"""`gensyn-ray data prepare` prints the digest of a data set, or an error of one line."""

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

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
    (folder / "config.json").write_text("{}")
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
    assert list(data.files("model")) == ["config.json"]


def test_a_folder_of_texts(store: str, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.txt").write_text("to be or not to be " * 60)
    data = opened(store, run("text", folder, "--length", "32", "--store", store))
    assert data.files("vocabulary") == {"size": b"256"}
    assert len(data["train"]) > len(data["test"]) > 0


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
