"""What every journal store promises, tried on each of them; and what SQLite's adds."""

from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from gensyn_ray.domain.errors import OperationError, UsageError
from ledger.core.journal import Entry, Journal, parse_entry
from ledger.storage.journal import JournalStore, MemoryJournal
from ledger.storage.sqlite import SqliteJournal
from tests.unit.ledger_kit import kit_with_job

STORES: dict[str, Callable[[Path], JournalStore]] = {
    "memory": lambda path: MemoryJournal(),
    "sqlite": SqliteJournal,
}
REFUSALS = (ValueError, apsw.Error)
FULL = 2


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, path: Path) -> Iterator[JournalStore]:
    made = STORES[request.param](path)
    yield made
    made.close()


@pytest.fixture
def sqlite(path: Path) -> Iterator[SqliteJournal]:
    made = SqliteJournal(path)
    yield made
    made.close()


def lines(first: int, end: int) -> list[bytes]:
    return [f"line {number}".encode() for number in range(first, end)]


# -- every store -----------------------------------------------------------------------------


def test_a_new_store_is_empty(store: JournalStore) -> None:
    assert list(store.read()) == []


def test_lines_come_back_in_the_order_in_which_they_went_in(store: JournalStore) -> None:
    store.append(0, lines(0, 3))
    store.append(3, lines(3, 4))
    store.append(4, lines(4, 130))
    assert list(store.read()) == lines(0, 130)
    assert list(store.read()) == lines(0, 130)


def test_bytes_come_back_as_they_were(store: JournalStore) -> None:
    odd = [b"", b"\x00", b"\xff\xfe", "\u20ac".encode(), b"x" * 100_000, b"\n", b"'; DROP TABLE"]
    store.append(0, odd)
    assert list(store.read()) == odd


def test_nothing_appended_changes_nothing(store: JournalStore) -> None:
    store.append(0, [])
    store.append(0, lines(0, 2))
    store.append(2, [])
    assert list(store.read()) == lines(0, 2)


@pytest.mark.parametrize("first", [0, 1, 2])
def test_a_line_that_is_there_is_never_written_over(store: JournalStore, first: int) -> None:
    store.append(0, lines(0, 3))
    with pytest.raises(REFUSALS):
        store.append(first, [b"other", b"other"])
    assert list(store.read()) == lines(0, 3)
    store.append(3, lines(3, 5))
    assert list(store.read()) == lines(0, 5)


def test_a_reading_that_began_is_not_disturbed_by_what_follows(store: JournalStore) -> None:
    store.append(0, lines(0, 3))
    reading = store.read()
    assert next(reading) == b"line 0"
    store.append(3, lines(3, 5))
    assert list(reading)[:2] == lines(1, 3)
    assert list(store.read()) == lines(0, 5)


def test_a_journal_can_be_folded_again_from_its_store(store: JournalStore) -> None:
    kit = kit_with_job()
    for entry in kit.entries:
        store.append(entry.index, [entry.line])
    again = Journal()
    for line in store.read():
        entry: Entry = parse_entry(line)
        again.apply(entry)
    assert again.tree.root() == kit.journal.tree.root()
    assert dict(again.book.balances) == kit.balances()


# -- gaps ------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [-1, 4, 100])
def test_a_gap_is_refused_and_does_no_damage(store: JournalStore, first: int) -> None:
    store.append(0, lines(0, 3))
    with pytest.raises(ValueError, match="does not follow 3 lines"):
        store.append(first, [b"other"])
    assert list(store.read()) == lines(0, 3)
    store.append(3, lines(3, 4))
    assert list(store.read()) == lines(0, 4)


# -- SQLite ----------------------------------------------------------------------------------


def test_lines_outlive_the_process_that_wrote_them(path: Path) -> None:
    first = SqliteJournal(path)
    first.append(0, lines(0, 3))
    first.close()
    second = SqliteJournal(path)
    assert list(second.read()) == lines(0, 3)
    second.append(3, lines(3, 4))
    second.close()
    third = SqliteJournal(path, read_only=True)
    assert list(third.read()) == lines(0, 4)
    third.close()


def test_lines_are_there_for_others_as_soon_as_append_returns(
    sqlite: SqliteJournal, path: Path
) -> None:
    reader = SqliteJournal(path, read_only=True)
    for number in range(5):
        sqlite.append(number, lines(number, number + 1))
        assert list(reader.read()) == lines(0, number + 1)
    reader.close()


def test_every_append_is_synced_to_a_write_ahead_log(sqlite: SqliteJournal, path: Path) -> None:
    sqlite.append(0, lines(0, 1))
    assert sqlite._db.pragma("synchronous") == FULL
    other = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    assert other.pragma("journal_mode") == "wal"
    other.close()
    assert path.with_name(path.name + "-wal").stat().st_size > 0


def test_a_batch_that_fails_in_its_middle_leaves_nothing(sqlite: SqliteJournal, path: Path) -> None:
    sqlite.append(0, lines(0, 3))
    other = apsw.Connection(str(path))
    other.execute(
        "CREATE TRIGGER full BEFORE INSERT ON entry WHEN NEW.number = 5 "
        "BEGIN SELECT RAISE(ABORT, 'no space'); END"
    )
    with pytest.raises(apsw.Error, match="no space"):
        sqlite.append(3, lines(3, 8))
    assert list(sqlite.read()) == lines(0, 3)
    other.execute("DROP TRIGGER full")
    other.close()
    sqlite.append(3, lines(3, 8))
    assert list(sqlite.read()) == lines(0, 8)


def test_a_reader_cannot_write(sqlite: SqliteJournal, path: Path) -> None:
    sqlite.append(0, lines(0, 3))
    reader = SqliteJournal(path, read_only=True)
    with pytest.raises(apsw.ReadOnlyError):
        reader.append(3, lines(3, 4))
    assert list(reader.read()) == lines(0, 3)
    reader.close()


def test_a_journal_that_is_not_there_is_said_to_be_missing(path: Path) -> None:
    with pytest.raises(UsageError, match="no journal at"):
        SqliteJournal(path, read_only=True)
    assert not path.exists()


def test_a_file_that_is_no_journal_is_not_touched(path: Path) -> None:
    path.write_bytes(b"something else entirely\n" * 100)
    with pytest.raises(OperationError, match="cannot be opened as a journal"):
        SqliteJournal(path)
    assert path.read_bytes() == b"something else entirely\n" * 100
