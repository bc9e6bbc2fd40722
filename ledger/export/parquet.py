"""Export of the books as two Parquet files.

    postings.parquet    one row for each posting
    receipts.parquet    one row for each settled segment

Amounts are whole micro-credits. Each file's metadata (`pq.read_metadata(path).metadata`) has the
network's name, its genesis hash and the number of journal entries. The metadata is written last, so
a file without it is incomplete. Each operator's earnings:

    table = pq.read_table("receipts.parquet")
    table.group_by("operator").aggregate([("amount_micro", "sum")])

pyarrow sums in 64 bits and does not report an overflow. Cast amounts to `pa.decimal128(38)` if a
sum may exceed 2^63 micro-credits, nine million million credits.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ledger.core.journal import Entry
from ledger.export.postings import Posting, Receipt, postings_of, receipts_of

ROWS_PER_GROUP = 65_536

_MOMENT = pa.timestamp("ms", tz="UTC")


def _schema(**kinds: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in kinds.items()])


POSTINGS = _schema(
    entry=pa.int64(),
    time_ms=_MOMENT,
    operation=pa.string(),
    signer=pa.string(),
    debit=pa.string(),
    credit=pa.string(),
    amount_micro=pa.int64(),
    memo=pa.string(),
    slot=pa.string(),
)
RECEIPTS = _schema(
    slot=pa.string(),
    operator=pa.string(),
    job=pa.string(),
    task=pa.string(),
    segment=pa.int64(),
    attempt=pa.int64(),
    paid=pa.bool_(),
    amount_micro=pa.int64(),
    reason=pa.string(),
    settled_entry=pa.int64(),
    settled_ms=_MOMENT,
    command=pa.string(),
)


class _Sheet(AbstractContextManager["_Sheet"]):
    """Writes records to one Parquet file, one row group at a time."""

    def __init__(self, path: Path, schema: pa.Schema, rows_per_group: int) -> None:
        # Text repeats in every column but `slot`.
        text = [field.name for field in schema if field.type == pa.string()]
        repeated = [name for name in text if name != "slot"]
        self._writer = pq.ParquetWriter(
            path,
            schema,
            use_dictionary=repeated,  # pyright: ignore[reportArgumentType]
            compression="zstd",
        )
        self._schema = schema
        self._rows_per_group = rows_per_group
        self._rows: list[Posting | Receipt] = []

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def add(self, rows: Iterable[Posting | Receipt]) -> None:
        for row in rows:
            self._rows.append(row)
            if len(self._rows) == self._rows_per_group:
                self._flush()

    def finish(self, about: dict[str, str]) -> None:
        """Write the remaining rows, then `about` as the file's metadata."""
        if self._rows:
            self._flush()
        self._writer.add_key_value_metadata(about)

    def _flush(self) -> None:
        names = self._schema.names
        columns = {name: [getattr(row, name) for row in self._rows] for name in names}
        self._writer.write_batch(pa.RecordBatch.from_pydict(columns, schema=self._schema))
        self._rows.clear()


def write_parquet(
    entries: Iterable[Entry], folder: Path, *, rows_per_group: int = ROWS_PER_GROUP
) -> None:
    """Write a whole journal to two files in `folder`, which is created if it is missing.

    Holds one row group of each file in memory. Raises `KeyError` if entries are missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    committed: dict[str, str] = {}
    count, network, genesis = 0, "", ""
    with (
        _Sheet(folder / "postings.parquet", POSTINGS, rows_per_group) as moved,
        _Sheet(folder / "receipts.parquet", RECEIPTS, rows_per_group) as settled,
    ):
        for entry in entries:
            if entry.index == 0:
                network, genesis = entry.header.network, entry.envelope.body_hash
            moved.add(postings_of(entry))
            settled.add(receipts_of(entry, committed))
            count += 1
        about = {"network": network, "genesis": genesis, "entries": str(count)}
        moved.finish(about)
        settled.finish(about)
