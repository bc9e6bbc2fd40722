"""Prepared data sets: tables and files under one digest. A node reads them in pieces.

`prepare` shuffles the rows of a table once and cuts it into Parquet shards. The manifest names each
shard and file by the BLAKE3 digest of its bytes. The digest of the manifest names the data set.
The random stream of a step draws its batch from one row group. So (job seed, task, step) determine
the rows, and a node holds only a few row groups of a large data set.

Not defended: a store that withholds a shard. No node can compute a segment without its data.
"""

# pyarrow has no annotations; those of torch leave some functions partly unknown.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownParameterType=false
# pyright: reportMissingTypeStubs=false, reportMissingTypeArgument=false, reportUnknownLambdaType=false

import io
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import blake3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gensyn_ray.domain import canonical
from gensyn_ray.domain.errors import OperationError, UsageError
from gensyn_ray.domain.records import to_json

if TYPE_CHECKING:
    import torch

    from workloads.core.rng import Rng

GROUP_ROWS = 4096
"""Rows of a row group. A batch is drawn from one row group."""
SHARD_GROUPS = 16
"""Row groups of a shard."""
CACHED_GROUPS = 16
"""The most decoded row groups of one split in memory."""

LABELS = "labels/names.json"
"""The file of a data set with the names of its labels: a JSON list, in the order of the numbers."""
Label = str | int | bool
"""A label as its owner wrote it."""

Fetch = Callable[[str], bytes]
"""The bytes stored under a BLAKE3 digest. Raises `OperationError`."""


class BadData(OperationError):
    """The data set lacks something or is damaged. The message names the file, column or split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One Parquet file. `digest`: of its bytes. `groups`: number of rows in each row group."""

    digest: str
    groups: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The contents of a data set, by digest.

    `splits`: name -> shards. `columns`: name -> Arrow type, the same in all splits. `files`:
    path -> digest of the bytes, such as the files of a base model."""

    splits: dict[str, list[Shard]]
    columns: dict[str, str]
    files: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, as hex. It names the data set."""
        return canonical.digest(to_json(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """`blobs`: digest -> bytes, for each shard and file of the manifest."""

    manifest: Manifest
    blobs: Mapping[str, bytes]


def digest_of(data: bytes) -> str:
    """BLAKE3, as hex."""
    return blake3.blake3(data).hexdigest()


def prepare(
    splits: Mapping[str, pa.Table], files: Mapping[str, bytes] | None = None, *, seed: int = 0
) -> Prepared:
    """Shuffle the rows of each split, cut them into shards, and digest shards and files.

    `files`: path -> bytes. All splits need the same columns, without nulls. Raises `UsageError`
    that names the faulty split or column.
    """
    from workloads.core.rng import Rng

    blobs: dict[str, bytes] = {}
    shards: dict[str, list[Shard]] = {}
    columns: dict[str, str] | None = None
    for name, table in splits.items():
        _check(name, table)
        found = {column.name: str(column.type) for column in table.schema}
        if columns is None:
            columns = found
        if found != columns:
            raise UsageError(f"the split {name!r} has the columns {found}, others have {columns}")
        order = Rng(seed, "prepare", name).permutation(len(table)).numpy()
        shards[name] = list(_shards(table.take(pa.array(order)), blobs))
    named: dict[str, str] = {}
    for path, data in sorted((files or {}).items()):
        named[path] = digest_of(data)
        blobs[named[path]] = data
    return Prepared(
        manifest=Manifest(splits=shards, columns=columns or {}, files=named), blobs=blobs
    )


def _check(split: str, table: pa.Table) -> None:
    if not len(table):
        raise UsageError(f"the split {split!r} has no rows")
    for name in table.column_names:
        if table[name].null_count:
            raise UsageError(f"the column {name!r} of the split {split!r} holds nulls: drop them")


def _shards(table: pa.Table, blobs: dict[str, bytes]) -> Iterator[Shard]:
    for first in range(0, len(table), GROUP_ROWS * SHARD_GROUPS):
        part = table.slice(first, GROUP_ROWS * SHARD_GROUPS)
        sink = io.BytesIO()
        pq.write_table(part, sink, row_group_size=GROUP_ROWS, compression="zstd")
        data = sink.getvalue()
        blobs[digest_of(data)] = data
        groups = [min(GROUP_ROWS, len(part) - at) for at in range(0, len(part), GROUP_ROWS)]
        yield Shard(digest=digest_of(data), groups=groups)


class Split:
    """One table of a data set. Fetches and decodes row groups when they are needed."""

    def __init__(self, name: str, shards: list[Shard], fetch: Fetch) -> None:
        self._name, self._fetch = name, fetch
        self._groups = [
            (shard.digest, group) for shard in shards for group in range(len(shard.groups))
        ]
        rows = [count for shard in shards for count in shard.groups]
        self._ends = np.cumsum(rows) if rows else np.zeros(0, dtype=np.int64)
        self._decoded: OrderedDict[tuple[str, int], pa.Table] = OrderedDict()

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def draw(self, rng: "Rng", count: int) -> pa.Table:
        """`count` rows of one row group, with replacement.

        A group's probability is proportional to its rows. Raises `BadData` if the split is empty
        or a shard is damaged."""
        if not len(self):
            raise BadData(f"the split {self._name!r} has no rows to draw from")
        place = int(rng.integers((1,), len(self)))
        table = self._table(int(np.searchsorted(self._ends, place, side="right")))
        return table.take(pa.array(rng.integers((count,), len(table)).numpy()))

    def batches(self, count: int) -> Iterator[pa.Table]:
        """All rows in stored order, `count` at a time. A batch ends at the end of its row group.

        Raises `BadData` if the split is empty or a shard is damaged."""
        if not len(self):
            raise BadData(f"the split {self._name!r} has no rows")
        for index in range(len(self._groups)):
            table = self._table(index)
            for first in range(0, len(table), count):
                yield table.slice(first, count)

    def _table(self, index: int) -> pa.Table:
        key = self._groups[index]
        if key in self._decoded:
            self._decoded.move_to_end(key)
            return self._decoded[key]
        shard, group = key
        try:
            table = pq.ParquetFile(pa.BufferReader(self._fetch(shard))).read_row_group(group)
        except (pa.ArrowException, OSError, IndexError) as error:
            raise BadData(
                f"shard {shard[:16]} of the split {self._name!r} is no Parquet file: {error}"
            ) from None
        self._decoded[key] = table
        while len(self._decoded) > CACHED_GROUPS:
            self._decoded.popitem(last=False)
        return table


class DataSet(Mapping[str, Split]):
    """A prepared data set: split name -> `Split`. Raises `BadData` for an unknown split.

    Fetches bytes when they are first needed, and checks their digest."""

    def __init__(self, manifest: Manifest, fetch: Fetch) -> None:
        self.manifest = manifest
        self._fetch = _checked(fetch)
        self._splits = {
            name: Split(name, shards, self._fetch) for name, shards in manifest.splits.items()
        }

    def __getitem__(self, name: str) -> Split:
        if name not in self._splits:
            raise BadData(f"the data set has no split {name!r}, only {', '.join(self._splits)}")
        return self._splits[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._splits)

    def __len__(self) -> int:
        return len(self._splits)

    def file(self, path: str) -> bytes:
        """The file at a path. Raises `BadData` if there is none."""
        if path not in self.manifest.files:
            raise BadData(f"the data set has no file {path!r}")
        return self._fetch(self.manifest.files[path])

    def files(self, folder: str) -> dict[str, bytes]:
        """The files below a folder: path in it -> bytes. Raises `BadData` if there are none."""
        start = f"{folder}/"
        found = {
            path.removeprefix(start): self._fetch(digest)
            for path, digest in self.manifest.files.items()
            if path.startswith(start)
        }
        if not found:
            raise BadData(f"the data set has no files below {folder!r}")
        return found

    def labels(self) -> list[Label]:
        """The name of each label's number 0, 1, ...; empty if the data set keeps none."""
        digest = self.manifest.files.get(LABELS)
        return json.loads(self._fetch(digest)) if digest else []

    def class_count(self, asked: int | None) -> int:
        """The number of classes: of the labels' names, or `asked` where the data set keeps none.

        Raises `BadData` if they differ or both are missing."""
        found = len(self.labels()) or asked
        if found is None:
            raise BadData(
                "the data set keeps no names of its labels: prepare it again, or set `classes`"
            )
        if asked not in (None, found):
            raise BadData(f"`classes` is {asked}, but the data set has {found}: leave it out")
        return found


def label_file(names: Sequence[Label]) -> dict[str, bytes]:
    """The file that keeps the labels' names: path -> bytes."""
    return {LABELS: json.dumps(list(names), ensure_ascii=False).encode()}


def _checked(fetch: Fetch) -> Fetch:
    def fetch_and_check(digest: str) -> bytes:
        data = fetch(digest)
        if digest_of(data) != digest:
            raise BadData(f"{digest[:16]} is damaged: its bytes do not match its digest")
        return data

    return fetch_and_check


def tensor(table: pa.Table, column: str) -> "torch.Tensor":
    """A column as a tensor with the column's dtype.

    A numeric column gives shape (rows,), a column of fixed-size lists (rows, length). Raises
    `BadData` if the column is missing or not numeric."""
    import torch  # processes that only read manifests need no torch

    if column not in table.column_names:
        raise BadData(f"no column {column!r}, only {', '.join(table.column_names)}")
    values: Any = table[column].combine_chunks()
    shape: tuple[int, ...] = (len(values),)
    if pa.types.is_fixed_size_list(values.type):
        shape = (len(values), values.type.list_size)
        values = values.flatten()
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        raise BadData(f"the column {column!r} holds {values.type}, not numbers")
    return torch.from_numpy(values.to_numpy(zero_copy_only=False).copy()).reshape(shape)
