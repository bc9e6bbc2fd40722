"""Tables that users bring: read, checked cell by cell, and split by class.

Each function works or raises a `UsageError` of one sentence that names the file, the column, the
row and the remedy. Rows count from 1; the header is no row. `name` is the file in these sentences.
"""

# pyarrow makes its functions of columns at run time.
# pyright: reportAttributeAccessIssue=false

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from gensyn_ray.domain.errors import UsageError
from workloads.core.dataset import Label
from workloads.core.rng import Rng
from workloads.programs.texts import check_text, decode

SUFFIXES = (".parquet", ".csv", ".arrow")
EXACT = 2.0**53
"""Below this, each whole number has a float64 of its own."""
INDEX = re.compile(r"__index_level_\d+__")
"""The name of pandas' row numbers in Parquet."""
CSV_INDEX = ("", "Unnamed: 0")
"""The names of pandas' row numbers in CSV: as written, and as read and written again."""


def read_table(source: Path, encoding: str = "utf-8") -> pa.Table:
    """Read a Parquet, Arrow or CSV file, or a folder of Parquet files.

    The names of columns are in Unicode's composed form (NFC). `encoding`: of a CSV file. Raises
    `UsageError` if it cannot be read, has no rows, or two columns have one name."""
    try:
        table = _read(source, encoding)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        kinds = ", ".join(SUFFIXES)
        remedy = "" if source.is_dir() or source.suffix.lower() in SUFFIXES else f": give {kinds}"
        raise UsageError(f"{source} cannot be read as a table: {reason}{remedy}") from None
    table = table.rename_columns([composed(column) for column in table.column_names])
    for column, count in Counter(table.column_names).items():
        if count > 1:
            raise UsageError(f"{source} has {count} columns named {column!r}: rename them")
    if not len(table):
        raise UsageError(f"{source} has no rows: give a file with data below its header")
    return table


def _read(source: Path, encoding: str) -> pa.Table:
    suffix = source.suffix.lower()
    if source.is_dir():
        _check_folder(source)
    if source.is_dir() or suffix == ".parquet":
        return parquet.read_table(source)
    if suffix == ".csv":
        return _read_csv(source, encoding)
    with pa.memory_map(str(source)) as opened:
        return pa.ipc.open_file(opened).read_all()


def _check_folder(folder: Path) -> None:
    """Arrow fills a column that one file lacks with nulls, and leaves out one that others lack."""
    first, *more = sorted(folder.rglob("*.parquet")) or [None]
    if first is None:
        raise UsageError(f"{folder} has no .parquet file: give one, or a .csv file")
    columns = parquet.read_schema(first).names
    for one in more:
        found = parquet.read_schema(one).names
        if set(found) != set(columns):
            raise UsageError(
                f"{one} has the columns {', '.join(found)}, but {first.name} has "
                f"{', '.join(columns)}: write all files with the same columns"
            )


def _read_csv(source: Path, encoding: str) -> pa.Table:
    text = decode(source, source.read_bytes(), encoding)
    check_text(source, text)
    table = arrow_csv.read_csv(
        pa.BufferReader(text.encode()),
        parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
    )
    (first, *more) = table.column_names
    for sign in (";", "\t"):
        if not more and sign in first:
            raise UsageError(f"{source} is separated by {sign!r}: write it with commas")
    return table


def composed(text: str) -> str:
    """A name in Unicode's composed form (NFC), as `read_table` gives the names of columns."""
    return unicodedata.normalize("NFC", text)


def need(table: pa.Table, *columns: str, name: str) -> None:
    """Raises `UsageError` for a column that the table lacks."""
    for column in columns:
        if column not in table.column_names:
            known = ", ".join(table.column_names)
            raise UsageError(f"{name} has no column {column!r}: choose from {known}")


def features(table: pa.Table, label: str, *, name: str) -> list[str]:
    """The columns of numbers besides the label, without the row numbers of pandas in Parquet.

    Raises `UsageError` for a column of another type or without a name, and if none is left."""
    names = [one for one in table.column_names if one != label and not INDEX.fullmatch(one)]
    if not names:
        raise UsageError(f"{name} has no column besides the label {label!r}: add one with numbers")
    for column in names:
        kind = table.schema.field(column).type
        if column in CSV_INDEX:
            raise UsageError(
                f"{name}: the column {column!r} holds row numbers, which teach nothing: "
                "write the file with index=False, or name the column"
            )
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise UsageError(
                f"{name}: the column {column!r} holds {kind}, not numbers: drop it first"
            )
    return names


def with_texts(table: pa.Table, column: str, *, name: str) -> pa.Table:
    """The table with `column` as strings. Raises `UsageError` if it holds no text."""
    values = _plain(table[column])
    if not _is_text(values.type):
        raise UsageError(f"{name}: the column {column!r} holds {values.type}, not text")
    return _replaced(table, column, values.cast(pa.string()))


def with_classes(table: pa.Table, column: str, *, name: str) -> pa.Table:
    """The table with the labels as integers, bool or composed strings; missing ones are null.

    Raises `UsageError` for another type and for fractions, which name no classes."""
    values = _plain(table[column])
    kind = values.type
    if _is_text(kind):
        values = pc.utf8_normalize(values.cast(pa.string()), form="NFC")
    elif pa.types.is_floating(kind):
        values = _whole(values.cast(pa.float64()), column, name)
    elif not (pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise UsageError(
            f"{name}: the label column {column!r} holds {kind}: "
            "write the labels as text or whole numbers"
        )
    return _replaced(table, column, values)


def _whole(values: pa.ChunkedArray, column: str, name: str) -> pa.ChunkedArray:
    found = values.to_numpy()
    finite = np.isfinite(found)
    odd = finite & ((found != np.floor(found)) | (np.abs(found) >= EXACT))
    if odd.any():
        row = int(odd.argmax())
        raise UsageError(
            f"{name}: the label column {column!r} holds {found[row]} in row {row + 1}, "
            "which names no class: cut such numbers into classes, written as whole numbers or text"
        )
    return pa.chunked_array([pa.array(np.where(finite, found, 0).astype(np.int64), mask=~finite)])


def complete(table: pa.Table, columns: Sequence[str], *, name: str, drop: bool) -> pa.Table:
    """The rows in which no cell of `columns` is null, NaN, infinite or blank.

    Raises `UsageError` that names the first other cell, unless `drop` leaves such rows out; and if
    no row is left."""
    missing = {column: _missing(table[column]) for column in columns}
    for column, cells in missing.items():
        if cells.all() or (cells.any() and not drop):
            row, count = int(cells.argmax()), int(cells.sum())
            value = table[column][row].as_py()
            shown = value if isinstance(value, float) else "nothing"
            remedy = "drop this column" if cells.all() else "fill it or add --drop-missing"
            raise UsageError(
                f"{name}: the column {column!r} holds {shown} in row {row + 1} "
                f"({count:,} of {len(table):,} rows have no value there): {remedy}"
            )
    kept = ~np.any(list(missing.values()), axis=0)
    if not kept.any():
        raise UsageError(f"{name}: each row lacks a value: fill them first")
    return table if kept.all() else table.filter(pa.array(kept))


def _missing(column: pa.ChunkedArray) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    """Whether a cell is null, NaN, infinite or blank, shape (rows,)."""
    if pa.types.is_floating(column.type):
        bad = pc.invert(pc.is_finite(column.cast(pa.float64())))
    elif _is_text(column.type):
        bad = pc.equal(pc.utf8_trim_whitespace(column), "")
    else:
        bad = pc.is_null(column)
    return pc.fill_null(bad, True).to_numpy()


def numbered(table: pa.Table, column: str, *, name: str) -> tuple[pa.Array, list[Label]]:
    """The labels as int64 numbers 0, 1, ..., and the name of each number, sorted.

    Raises `UsageError` for fewer than two classes, and for a class with one row: the training rows
    or the held-out rows would lack it."""
    found: list[Label] = table[column].to_pylist()
    rows = Counter(found)
    names = sorted(rows)
    if len(names) < 2:
        raise UsageError(
            f"{name}: the label column {column!r} holds {names[0]!r} only: two classes are needed"
        )
    for one in names:
        if rows[one] < 2:
            raise UsageError(
                f"{name}: the label {one!r} of the column {column!r} has one row only: "
                "add another, as each class is trained and held out, or leave it out"
            )
    numbers = {one: number for number, one in enumerate(names)}
    return pa.array([numbers[one] for one in found], pa.int64()), names


def stratified(table: pa.Table, rows: int, *, name: str) -> dict[str, pa.Table]:
    """`rows` random rows as `test`, the rest as `train`; each has all classes of `label`.

    The share of a class is the same in both, as far as whole rows allow. Raises `UsageError` if
    `rows` leaves no row of a class for one of them."""
    classes = table["label"].to_numpy()
    kinds = len(np.unique(classes))
    if not kinds <= rows <= len(table) - kinds:
        raise UsageError(
            f"{name}: {rows} of {len(table)} rows cannot be held out: "
            f"give --test-rows from {kinds} to {len(table) - kinds}, as there are {kinds} classes"
        )
    order = Rng("held-out").permutation(len(table)).numpy()
    place = np.empty(len(table))
    for number in range(kinds):
        members = np.flatnonzero(classes[order] == number)
        # The rows of a class lie evenly in (0, 1). Its first is held out, its last is not.
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
        place[members[0]], place[members[-1]] = 0, 1
    chosen = order[np.argsort(place, kind="stable")]
    return {
        "test": table.take(pa.array(chosen[:rows])),
        "train": table.take(pa.array(chosen[rows:])),
    }


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column's values without a dictionary."""
    kind = column.type
    return column.cast(kind.value_type) if pa.types.is_dictionary(kind) else column


def _is_text(kind: pa.DataType) -> bool:
    return (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _replaced(table: pa.Table, column: str, values: pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.column_names.index(column), column, values)
