"""The books as two Parquet files for whoever wants to ask them something.

    postings.parquet    one row a movement of credits
    receipts.parquet    one row a settled segment

Amounts are whole micro-credits. The network's name, its genesis hash and the number of journal
entries read stand in each file's metadata (`pq.read_metadata(path).metadata`), and are written
last: a file that lacks them was cut short. What every operator earned:

    table = pq.read_table("receipts.parquet")
    table.group_by("operator").aggregate([("amount_micro", "sum")])

pyarrow adds up in 64 bits and does not say when they are too few: cast an amount to
`pa.decimal128(38)` where sums may pass 2^63, nine million million credits.
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
    """Writes records, a row group at a time."""

    def __init__(self, path: Path, schema: pa.Schema, rows_per_group: int) -> None:
        # A slot's name hardly ever comes twice; all other text does.
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
        """Write what is left, and `about` as the file's metadata."""
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
    """Write a journal, from its first entry on, to two files in `folder`, made if need be.

    Holds one row group of each in memory. Raises `KeyError` if entries are missing.
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
