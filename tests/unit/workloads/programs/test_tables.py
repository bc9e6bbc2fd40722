"""Tables that users bring become right data, or are refused with file, column, row and remedy."""

import datetime
import decimal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from gensyn_ray.domain.errors import UsageError
from workloads.core.dataset import DataSet, Prepared, tensor
from workloads.programs import recipes
from workloads.programs.tables import (
    complete,
    numbered,
    read_table,
    stratified,
    with_classes,
    with_texts,
)


def opened(prepared: Prepared) -> DataSet:
    return DataSet(prepared.manifest, prepared.blobs.__getitem__)


def labels_of(data: DataSet, split: str) -> Counter[int]:
    return Counter(
        one for rows in data[split].batches(1000) for one in tensor(rows, "label").tolist()
    )


def prepared(columns: dict[str, Any], test_rows: int = 4, **options: Any) -> DataSet:
    made = pa.table(columns)
    return opened(recipes.tabular(made, "y", test_rows, name="t.csv", **options))


def refusal(columns: dict[str, Any], test_rows: int = 4) -> str:
    with pytest.raises(UsageError) as refused:
        prepared(columns, test_rows)
    message = str(refused.value)
    assert message.startswith("t.csv")
    assert "\n" not in message
    return message


def csv(folder: Path, data: bytes) -> Path:
    path = folder / "t.csv"
    path.write_bytes(data)
    return path


X, Y = [float(at) for at in range(20)], [at % 2 for at in range(20)]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"x": [*X[:7], None, *X[8:]], "y": Y}, "'x' holds nothing in row 8 (1 of 20 rows"),
        ({"x": [*X[:7], float("nan"), *X[8:]], "y": Y}, "'x' holds nan in row 8"),
        ({"x": [*X[:19], float("inf")], "y": Y}, "'x' holds inf in row 20"),
        ({"x": X, "z": [None] * 20, "y": Y}, "'z' holds null, not numbers: drop it"),
        ({"x": X, "z": pa.nulls(20, pa.int64()), "y": Y}, "(20 of 20 rows have no value there)"),
        ({"x": X, "y": [None, *Y[1:]]}, "'y' holds nothing in row 1 (1 of 20"),
        ({"x": X, "y": [*"ab" * 9, " ", "b"]}, "'y' holds nothing in row 19"),
        ({"x": X, "y": [at / 7 for at in X]}, "'y' holds 0.142857142857142"),
        ({"x": X, "y": list(range(20))}, "the label 0 of the column 'y' has one row only"),
        ({"x": X, "y": [5] * 20}, "the label column 'y' holds 5 only: two classes are needed"),
        ({"x": X, "y": [[1]] * 20}, "'y' holds list<item: int64>: write the labels as text"),
        ({"x": X, "y": [decimal.Decimal("1.5")] * 20}, "'y' holds decimal128(2, 1): write"),
        ({"x": X, "y": [datetime.datetime(2026, 1, 1)] * 20}, "'y' holds timestamp[us]: write"),
        ({"x": [decimal.Decimal("1.5")] * 20, "y": Y}, "'x' holds decimal128(2, 1), not numbers"),
        ({"x": [datetime.datetime(2026, 1, 1)] * 20, "y": Y}, "'x' holds timestamp[us], not"),
        ({"x": [[1.0]] * 20, "y": Y}, "'x' holds list<item: double>, not numbers: drop it first"),
        ({"x": [{"a": 1}] * 20, "y": Y}, "'x' holds struct<a: int64>, not numbers: drop it"),
        ({"y": Y}, "no column besides the label 'y'"),
        ({"": X, "y": Y}, "the column '' holds row numbers"),
        ({"x": [*X[1:], 1e300], "y": Y}, "the column 'x' has numbers too large to scale"),
    ],
)
def test_a_table_that_would_train_wrongly_is_refused(columns: dict[str, Any], said: str) -> None:
    assert said in refusal(columns)


@pytest.mark.parametrize("rows", [1, 19, 500])
def test_the_rows_to_hold_out_have_all_classes(rows: int) -> None:
    said = refusal({"x": X, "y": Y}, rows)
    assert f"{rows} of 20 rows cannot be held out: give --test-rows from 2 to 18" in said


def test_features_have_mean_0_and_deviation_1() -> None:
    data = prepared({"x": X, "y": Y})
    parts = [tensor(rows, "features") for name in data for rows in data[name].batches(99)]
    found = np.sort(np.concatenate([part.numpy() for part in parts])[:, 0])
    expected = (np.arange(20) - 9.5) / np.sqrt((20**2 - 1) / 12)
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["no", "yes"] * 10, ["no", "yes"]),
        (pa.array(["no", "yes"] * 10).dictionary_encode(), ["no", "yes"]),
        ([7.0, 3.0] * 10, [3, 7]),
        ([True, False] * 10, [False, True]),
        ([10, 9] * 10, [9, 10]),
        (pa.array([2**63, 9] * 10, pa.uint64()), [9, 2**63]),
        (["\u00e9", "e\u0301", "a", "a"] * 5, ["a", "\u00e9"]),
        (["😀", "😢"] * 10, ["😀", "😢"]),
    ],
)
def test_labels_keep_their_names(labels: Any, names: list[Any]) -> None:
    data = prepared({"x": X, "y": labels})
    assert data.labels() == names
    assert [type(one) for one in data.labels()] == [type(one) for one in names]
    assert labels_of(data, "train") == {0: 8, 1: 8}
    assert labels_of(data, "test") == {0: 2, 1: 2}


def test_a_number_belongs_to_the_name_at_its_place() -> None:
    made = with_classes(pa.table({"y": ["b", "a", "c", "a", "b", "c"]}), "y", name="t.csv")
    numbers, names = numbered(made, "y", name="t.csv")
    assert [names[one] for one in numbers.to_pylist()] == ["b", "a", "c", "a", "b", "c"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_texts_of_each_type_are_strings(kind: pa.DataType) -> None:
    made = pa.table({"t": pa.array(["é😀", "a\nb"], kind)})
    assert with_texts(made, "t", name="t.csv")["t"] == pa.chunked_array([["é😀", "a\nb"]])


def test_texts_may_be_categories() -> None:
    made = pa.table({"t": pa.array(["a", "b", "a"]).dictionary_encode()})
    assert with_texts(made, "t", name="t.csv")["t"].to_pylist() == ["a", "b", "a"]


@pytest.mark.parametrize("values", [[1, 2], [b"a", b"b"], [["a"], ["b"]], [None, None]])
def test_a_column_without_text_is_refused(values: list[Any]) -> None:
    with pytest.raises(UsageError, match=r"t\.csv: the column 't' holds .*, not text"):
        with_texts(pa.table({"t": values}), "t", name="t.csv")


@pytest.mark.parametrize("text", ["", " \n", None])
def test_a_blank_text_is_refused_with_its_row(text: str | None) -> None:
    made = pa.table({"t": ["a", "b", text, "c"]})
    with pytest.raises(UsageError, match=r"t\.csv: the column 't' holds nothing in row 3 \(1 of 4"):
        complete(made, ["t"], name="t.csv", drop=False)
    assert complete(made, ["t"], name="t.csv", drop=True)["t"].to_pylist() == ["a", "b", "c"]


def test_rare_classes_are_trained_and_held_out() -> None:
    rows = [0] * 990 + [1] * 8 + [2] * 2
    data = prepared({"x": [float(at) for at in range(1000)], "y": rows}, 100)
    assert labels_of(data, "test") == {0: 98, 1: 1, 2: 1}
    assert labels_of(data, "train") == {0: 892, 1: 7, 2: 1}


def test_the_hold_out_is_deterministic_and_keeps_each_row() -> None:
    made = pa.table({"label": [at % 3 for at in range(50)], "at": range(50)})
    first, second = (stratified(made, 10, name="t.csv") for _ in range(2))
    assert first == second
    assert sorted(at for split in first.values() for at in split["at"].to_pylist()) == [*range(50)]
    assert first["test"]["at"].to_pylist() != list(range(10))


def test_rows_are_dropped_on_request() -> None:
    columns = {"x": [None, float("inf"), *X[2:]], "y": [*Y[:19], None]}
    data = prepared(columns, drop_missing=True)
    assert len(data["train"]) + len(data["test"]) == 17


def test_a_table_with_no_complete_row_is_refused() -> None:
    with pytest.raises(UsageError, match="each row lacks a value"):
        prepared({"x": [1.0, None], "y": [None, 1]}, drop_missing=True)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "t.csv cannot be read as a table: Empty CSV file"),
        (b"x,y\n", "t.csv has no rows"),
        (b"x,x,y\n1,2,3\n", "t.csv has 2 columns named 'x': rename them"),
        ("\u00e9,e\u0301,y\n1,2,3\n".encode(), "t.csv has 2 columns named 'é'"),
        (b"x;y\n1;2\n", "t.csv is separated by ';': write it with commas"),
        (b"x,y\n1,2\n3\n", "Expected 2 columns, got 1"),
        (b"x,y\n1,\xe9\n", "is not utf-8: byte 0xe9 in line 2: store it as UTF-8"),
        ("x,y\n1,2\n".encode("utf-16"), "name its encoding, for example --encoding utf-16"),
        (b"x,y\n1,\0\n", "t.csv has zero bytes: it is no text"),
    ],
)
def test_a_csv_that_cannot_be_read_is_named(tmp_path: Path, data: bytes, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_table(csv(tmp_path, data))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("data", "encoding", "column"),
    [
        ("\ufeffx,y\r\n1,a\r\n".encode(), "utf-8", ["a"]),
        (b'x,y\n1,"a\nb"\n2,c\n', "utf-8", ["a\nb", "c"]),
        ("x,y\n1,“é”\n".encode("cp1252"), "cp1252", ["“é”"]),
        ("x,y\n1,é😀\n".encode("utf-16"), "utf-16", ["é😀"]),
    ],
)
def test_a_csv_is_read_as_written(
    tmp_path: Path, data: bytes, encoding: str, column: list[str]
) -> None:
    table = read_table(csv(tmp_path, data), encoding)
    assert table.column_names == ["x", "y"]
    assert table["y"].to_pylist() == column


def test_a_type_follows_from_all_rows(tmp_path: Path) -> None:
    """Arrow reads the file in blocks of a megabyte; the fraction is in the second one."""
    table = read_table(csv(tmp_path, b"x,y\n" + b"1,2\n" * 300_000 + b"0.5,2\n"))
    assert table["x"][-1].as_py() == 0.5


def test_line_feeds_in_quotes_may_lie_between_blocks(tmp_path: Path) -> None:
    table = read_table(csv(tmp_path, b"x,y\n" + b'1,"a\n2,b\n"\n' * 200_000))
    assert len(table) == 200_000
    assert set(table["y"].to_pylist()) == {"a\n2,b\n"}


def test_a_file_of_another_kind_is_refused_with_the_kinds(tmp_path: Path) -> None:
    path = tmp_path / "t.xlsx"
    path.write_bytes(b"PK\3\4" * 9)
    with pytest.raises(UsageError, match=r"t\.xlsx cannot be .*: give \.parquet, \.csv, \.arrow"):
        read_table(path)


def test_an_unknown_encoding_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'klingon' is no encoding"):
        read_table(csv(tmp_path, b"x\n1\n"), "klingon")


def test_the_index_of_pandas_is_no_feature(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": X, "y": Y}, index=range(100, 300, 10)).query("x != 3")
    frame.to_parquet(tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert "__index_level_0__" in table.column_names
    data = opened(recipes.tabular(table, "y", 4))
    assert tensor(next(data["test"].batches(9)), "features").shape == (4, 1)


def test_row_numbers_of_pandas_in_a_csv_are_refused(tmp_path: Path) -> None:
    pd.DataFrame({"x": X, "y": Y}).to_csv(tmp_path / "t.csv")
    with pytest.raises(UsageError, match=r"the column '' holds row numbers.*index=False"):
        recipes.tabular(read_table(tmp_path / "t.csv"), "y", 4)


def test_files_of_a_folder_have_the_same_columns(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"x": [1], "y": [2]}), tmp_path / "1.parquet")
    parquet.write_table(pa.table({"x": [1], "z": [2]}), tmp_path / "2.parquet")
    with pytest.raises(UsageError, match=r"2\.parquet has the columns x, z, but 1\.parquet has x"):
        read_table(tmp_path)


def test_a_folder_without_parquet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no \.parquet file"):
        read_table(tmp_path)
