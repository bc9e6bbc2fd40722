"""Prepared data: tables and files under one digest, read piece by piece on the node.

`prepare` shuffles a table's rows once and cuts it into Parquet shards; the manifest names each
shard and file by the BLAKE3 digest of its bytes, and the manifest's own digest names the data set.
A batch is drawn from one row group by the step's own stream of randomness, so which rows a step
sees follows from (job seed, task, step), and a node holds a few row groups at a time, however
large the data set is.

Not defended: a store that withholds a shard; then the segment cannot be run, by anyone.
"""

# pyarrow has no annotations, torch's leave some functions partly unknown.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownParameterType=false
# pyright: reportMissingTypeStubs=false, reportMissingTypeArgument=false, reportUnknownLambdaType=false

import io
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
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
"""Rows of a row group: what one batch is drawn from."""
SHARD_GROUPS = 16
CACHED_GROUPS = 16
"""Row groups of one split that a node keeps decoded."""

Fetch = Callable[[str], bytes]
"""The bytes stored under a BLAKE3 digest. Raises `OperationError`."""


class BadData(OperationError):
    """A data set cannot be used as asked; the message names the file, column or split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One Parquet file by the digest of its bytes; `groups`: rows of each row group."""

    digest: str
    groups: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """`splits`: name -> shards. `columns`: name -> Arrow type, of every split. `files`: path ->
    digest of bytes, a model's folder for one."""

    splits: dict[str, list[Shard]]
    columns: dict[str, str]
    files: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def digest(self) -> str:
        return canonical.digest(to_json(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A manifest and the bytes of everything that it names, by digest."""

    manifest: Manifest
    blobs: Mapping[str, bytes]


def digest_of(data: bytes) -> str:
    return blake3.blake3(data).hexdigest()


def prepare(
    splits: Mapping[str, pa.Table], files: Mapping[str, bytes] | None = None, *, seed: int = 0
) -> Prepared:
    """Shuffle, cut and digest. All splits have the same columns, none of them a null.

    Raises `UsageError` that names the split or column at fault.
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
    """One table of a data set."""

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
        """`count` rows of one row group, with replacement. Large groups are drawn more often.

        Raises `BadData` if the split is empty or a shard is damaged."""
        if not len(self):
            raise BadData(f"the split {self._name!r} has no rows to draw from")
        place = int(rng.integers((1,), len(self)))
        table = self._table(int(np.searchsorted(self._ends, place, side="right")))
        return table.take(pa.array(rng.integers((count,), len(table)).numpy()))

    def batches(self, count: int) -> Iterator[pa.Table]:
        """All rows in stored order, `count` at a time; groups end batches early.

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
    """A prepared data set: split name -> `Split`. Bytes are fetched when they are first needed."""

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

    def files(self, folder: str) -> dict[str, bytes]:
        """Everything below a folder, by its path in it. Raises `BadData` if there is nothing."""
        start = f"{folder}/"
        found = {
            path.removeprefix(start): self._fetch(digest)
            for path, digest in self.manifest.files.items()
            if path.startswith(start)
        }
        if not found:
            raise BadData(f"the data set has no files below {folder!r}")
        return found


def _checked(fetch: Fetch) -> Fetch:
    def fetch_and_check(digest: str) -> bytes:
        data = fetch(digest)
        if digest_of(data) != digest:
            raise BadData(f"what is stored as {digest[:16]} is something else: it was damaged")
        return data

    return fetch_and_check


def tensor(table: pa.Table, column: str) -> "torch.Tensor":
    """A numeric column as (rows,), one of fixed-size lists as (rows, length). Raises `BadData`."""
    import torch  # manifests are read by processes that do without it

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
