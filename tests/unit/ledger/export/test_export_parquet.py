"""The Parquet files: their rows equal the book and are strictly typed."""

import tracemalloc
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ledger.core import accounts
from ledger.core.events import Moved, SlotCommitted, SlotSettled
from ledger.core.journal import Entry
from ledger.export.parquet import POSTINGS, RECEIPTS, write_parquet
from ledger.export.postings import postings, receipts, receipts_of
from tests.kits.ledger_kit import party_of, slot_of
from tests.kits.long_history import kit

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a journal with several jobs."""
    path = tmp_path_factory.mktemp("books") / "new" / "folder"
    write_parquet(iter(kit().entries), path)
    return path


def read(folder: Path, name: str) -> Any:
    return pq.read_table(folder / f"{name}.parquet")


def sums_micro(table: Any, column: str) -> dict[str, int]:
    """Value of a column -> exact sum of the amounts."""
    exact = pc.cast(table["amount_micro"], pa.decimal128(38))
    by_value = table.set_column(table.schema.get_field_index("amount_micro"), "micro", exact)
    rows = by_value.group_by(column).aggregate([("micro", "sum")]).to_pylist()
    return {row[column]: int(row["micro_sum"]) for row in rows}


def with_moments(record: Any) -> dict[str, Any]:
    """A record as a row of a Parquet file."""
    return {
        name: EPOCH + timedelta(milliseconds=value) if name in ("time_ms", "settled_ms") else value
        for name, value in asdict(record).items()
    }


# -- receipts, before any file -----------------------------------------------------------------


def test_each_settled_segment_has_one_receipt() -> None:
    settled = {
        event.slot: (entry, event)
        for entry in kit().entries
        for event in entry.events
        if isinstance(event, SlotSettled)
    }
    found = list(receipts(kit().entries))
    assert [one.slot for one in found] == list(settled)
    assert sum(not one.paid for one in found) == 2
    for one in found:
        entry, event = settled[one.slot]
        assert (one.paid, one.reason) == (event.paid, event.reason)
        assert (one.settled_entry, one.settled_ms) == (entry.index, entry.time_ms)
        assert one.command == entry.envelope.body_hash
        assert one.slot == slot_of(one.job, one.task, one.segment, one.attempt)


def test_a_receipt_names_who_earned_what() -> None:
    by_slot = {one.slot: one for one in receipts(kit().entries)}
    told = {slot: (one.operator, one.paid, one.amount_micro) for slot, one in by_slot.items()}
    assert told[slot_of("job-1", "task-0", 4)] == (party_of("op-a"), True, 10)
    assert told[slot_of("job-1", "task-1", 0)] == (party_of("op-b"), False, 0)
    assert told[slot_of("job-1", "task-2", 0)] == (party_of("op-cheat"), True, 10)
    assert told[slot_of("Job_2.Z", "z_0", 1)] == (party_of("op-b"), True, 10**17 + 1)


def test_receipts_add_up_to_what_went_into_holdback() -> None:
    earned: Counter[str] = Counter()
    for one in receipts(kit().entries):
        if one.paid:
            earned[accounts.holdback(one.job, one.operator)] += one.amount_micro
    held: Counter[str] = Counter()
    for posting in postings(kit().entries):
        if posting.credit.startswith("holdback/"):
            held[posting.credit] += posting.amount_micro
    assert earned == held


def test_a_refused_segment_earned_nothing_whatever_else_moved() -> None:
    settling = next(
        entry
        for entry in kit().entries
        if any(isinstance(event, SlotSettled) and not event.paid for event in entry.events)
    )
    slot = slot_of("job-1", "task-1", 0)
    fee = Moved(debit="external", credit="treasury", amount_micro=3, memo="fee", slot=slot)
    found = receipts_of(
        replace(settling, events=[*settling.events, fee]),
        {slot: "op", slot_of("job-1", "task-1", 1): "op"},
    )
    assert [(one.slot, one.amount_micro) for one in found if not one.paid] == [(slot, 0)]


def test_receipts_need_the_whole_journal() -> None:
    at = next(
        entry.index
        for entry in kit().entries
        if any(isinstance(event, SlotCommitted) for event in entry.events)
    )
    with pytest.raises(KeyError):
        list(receipts(kit().entries[at + 1 :]))


# -- the files ---------------------------------------------------------------------------------


def test_rows_are_the_records(folder: Path) -> None:
    assert read(folder, "postings").to_pylist() == [
        with_moments(one) for one in postings(kit().entries)
    ]
    assert read(folder, "receipts").to_pylist() == [
        with_moments(one) for one in receipts(kit().entries)
    ]


def test_sums_are_the_books_balances(folder: Path) -> None:
    table = read(folder, "postings")
    balances = Counter(sums_micro(table, "credit"))
    balances.subtract(sums_micro(table, "debit"))
    assert dict(balances) == kit().balances()
    assert sum(balances.values()) == 0


def test_operators_earnings_are_one_group_by(folder: Path) -> None:
    """The example in the module's docstring."""
    table = read(folder, "receipts")
    earned = table.group_by("operator").aggregate([("amount_micro", "sum")])
    assert dict(zip(*(column.to_pylist() for column in earned.columns), strict=True)) == {
        party_of("op-a"): 6 * 10,
        party_of("op-b"): 10 + 2 * (10**17 + 1),
        party_of("op-cheat"): 10,
    }


def test_rows_can_be_chosen_by_time_and_job(folder: Path) -> None:
    late = pc.field("settled_ms") > datetime(2025, 1, 1, tzinfo=UTC)
    table = pq.read_table(folder / "receipts.parquet", filters=late)
    assert table["job"].unique().to_pylist() == ["Job_2.Z", "job_2.z"]


@pytest.mark.parametrize(("name", "schema"), [("postings", POSTINGS), ("receipts", RECEIPTS)])
def test_columns_are_strictly_typed(folder: Path, name: str, schema: Any) -> None:
    found = read(folder, name).schema
    assert found.equals(schema)
    assert not any(field.nullable for field in found)
    assert {str(field.type) for field in found if field.name.endswith("_micro")} == {"int64"}
    moments = {str(field.type) for field in found if field.name.endswith("_ms")}
    assert moments == {"timestamp[ms, tz=UTC]"}


@pytest.mark.parametrize("name", ["postings", "receipts"])
def test_repeated_text_is_stored_once(folder: Path, name: str) -> None:
    group = pq.read_metadata(folder / f"{name}.parquet").row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    coded = {one.path_in_schema for one in columns if "RLE_DICTIONARY" in one.encodings}
    schema = POSTINGS if name == "postings" else RECEIPTS
    text = {field.name for field in schema if field.type == pa.string()}
    assert coded == text - {"slot"}


@pytest.mark.parametrize("name", ["postings", "receipts"])
def test_a_file_says_which_network_it_is_of(folder: Path, name: str) -> None:
    about = pq.read_metadata(folder / f"{name}.parquet").metadata
    assert about[b"network"] == b"testnet"
    assert about[b"genesis"] == kit().journal.genesis.encode()
    assert about[b"entries"] == str(len(kit().entries)).encode()


# -- row groups --------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 7, 1_000])
def test_the_size_of_row_groups_changes_nothing_else(
    folder: Path, tmp_path: Path, rows: int
) -> None:
    write_parquet(kit().entries, tmp_path, rows_per_group=rows)
    for name in ("postings", "receipts"):
        about = pq.read_metadata(tmp_path / f"{name}.parquet")
        assert about.num_row_groups == -(-about.num_rows // rows)
        assert read(tmp_path, name).equals(read(folder, name))


def many(count: int) -> Iterator[Entry]:
    """The first posting of the journal, repeated."""
    entry = next(entry for entry in kit().entries if list(postings([entry])))
    return (replace(entry, index=index) for index in range(count))


def test_memory_does_not_grow_with_the_journal(tmp_path: Path) -> None:
    peaks: list[int] = []
    for count in (500, 2_000, 8_000):
        tracemalloc.start()
        write_parquet(many(count), tmp_path, rows_per_group=250)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert pq.read_metadata(tmp_path / "postings.parquet").num_rows == count
    assert peaks[2] < 1.5 * peaks[1]


def test_a_journal_of_nothing_gives_empty_tables(tmp_path: Path) -> None:
    write_parquet([], tmp_path)
    assert read(tmp_path, "postings").equals(POSTINGS.empty_table())
    assert read(tmp_path, "receipts").equals(RECEIPTS.empty_table())


def test_a_file_that_was_cut_short_does_not_say_what_it_is(tmp_path: Path) -> None:
    def torn() -> Iterator[Entry]:
        yield from kit().entries[:30]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        write_parquet(torn(), tmp_path, rows_per_group=4)
    for name in ("postings", "receipts"):
        about = pq.read_metadata(tmp_path / f"{name}.parquet").metadata
        assert b"entries" not in about
