"""The contract of journal stores, on each of them, and the additions of SQLite and PostgreSQL.
PostgreSQL is tested if a server is installed."""

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gensyn_ray.domain.errors import OperationError, UsageError
from gensyn_ray.domain.merkle import root_of
from ledger.core.journal import Entry, Journal, parse_entry
from ledger.storage.journal import JournalStore, MemoryJournal
from ledger.storage.opening import open_journal
from ledger.storage.postgres import PAGE_LINES, PostgresJournal
from ledger.storage.sqlite import SqliteJournal
from tests.kits.backends import Backend, Memory, Postgres, Sqlite
from tests.kits.ledger_kit import kit_with_job
from tests.kits.postgres import postgres_binaries

FULL = 2
MEGABYTE = 1_000_000
BROKEN = (apsw.Error, psycopg.Error)
BACKENDS: dict[str, Callable[[pytest.FixtureRequest, Path], Backend]] = {
    "memory": lambda request, folder: Memory(),
    "sqlite": lambda request, folder: Sqlite(folder),
    "postgres": lambda request, folder: Postgres(request.getfixturevalue("server")),
}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    return BACKENDS[request.param](request, tmp_path)


@pytest.fixture(params=["sqlite", "postgres"])
def lasting(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """A backend with persistent lines."""
    return BACKENDS[request.param](request, tmp_path)


@pytest.fixture
def store(backend: Backend) -> Iterator[JournalStore]:
    made = backend.open()
    yield made
    made.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def postgres(server: str) -> Postgres:
    return Postgres(server)


def lines(first: int, end: int) -> list[bytes]:
    return [f"line {number}".encode() for number in range(first, end)]


class TestEveryStore:
    """The contract of `JournalStore`."""

    def test_a_new_store_is_empty(self, store: JournalStore) -> None:
        assert store.count() == 0
        assert list(store.read()) == []
        assert store.load_snapshot() is None

    def test_lines_come_back_in_the_order_in_which_they_went_in(self, store: JournalStore) -> None:
        store.append(0, lines(0, 3))
        store.append(3, lines(3, 4))
        store.append(4, lines(4, 130))
        assert store.count() == 130
        assert list(store.read()) == lines(0, 130)
        assert list(store.read()) == lines(0, 130)

    def test_bytes_come_back_as_they_were(self, store: JournalStore) -> None:
        odd = [b"", b"\x00", b"\xff\xfe", "\u20ac".encode(), b"\n", b"\\x41", b"'; DROP TABLE"]
        odd += [bytes(range(256)), b"\0" * 70_000]
        store.append(0, odd)
        assert list(store.read()) == odd
        assert [store.line(index) for index in range(len(odd))] == odd

    def test_lines_may_be_big(self, store: JournalStore) -> None:
        big = [bytes([number]) * MEGABYTE for number in range(4)]
        store.append(0, big[:1])
        store.append(1, big[1:])
        assert store.line(3) == big[3]
        assert list(store.read()) == big

    def test_full_batches_follow_one_another(self, store: JournalStore) -> None:
        for first in range(0, 640, 64):
            store.append(first, lines(first, first + 64))
            assert store.count() == first + 64
        assert list(store.read()) == lines(0, 640)

    def test_nothing_appended_changes_nothing(self, store: JournalStore) -> None:
        store.append(0, [])
        store.append(0, lines(0, 2))
        store.append(2, [])
        assert store.count() == 2
        assert list(store.read()) == lines(0, 2)

    @pytest.mark.parametrize("first", [-1, 0, 1, 2, 4, 100])
    def test_what_does_not_follow_is_refused_and_does_no_damage(
        self, store: JournalStore, first: int
    ) -> None:
        store.append(0, lines(0, 3))
        for batch in ([b"other"], [b"other", b"other"], []):
            with pytest.raises(ValueError, match="does not follow 3 lines"):
                store.append(first, batch)
        assert store.count() == 3
        assert list(store.read()) == lines(0, 3)
        store.append(3, lines(3, 5))
        assert list(store.read()) == lines(0, 5)

    @pytest.mark.parametrize("index", [-1, 3, 4, 2**40])
    def test_a_line_that_is_not_there_is_an_index_error(
        self, store: JournalStore, index: int
    ) -> None:
        store.append(0, lines(0, 3))
        with pytest.raises(IndexError, match=f"no line {index}"):
            store.line(index)
        assert [store.line(number) for number in range(3)] == lines(0, 3)

    @pytest.mark.parametrize("more", [0, 1, 2, PAGE_LINES])
    def test_reading_begins_anywhere(self, store: JournalStore, more: int) -> None:
        end = PAGE_LINES + more
        store.append(0, lines(0, end))
        for first in (0, 1, end // 2, PAGE_LINES - 1, PAGE_LINES, end - 1, end, end + 1):
            assert list(store.read(first)) == lines(first, end)

    def test_a_reading_that_began_is_not_disturbed_by_what_follows(
        self, store: JournalStore
    ) -> None:
        first, end = 2 * PAGE_LINES, 2 * PAGE_LINES + 3
        store.append(0, lines(0, first))
        reading = store.read()
        assert next(reading) == b"line 0"
        store.append(first, lines(first, end))
        assert list(reading) == lines(1, first)
        assert list(store.read()) == lines(0, end)

    def test_lines_are_appended_while_others_are_read(self, store: JournalStore) -> None:
        store.append(0, lines(0, 600))
        for number, line in enumerate(store.read()):
            assert line == f"line {number}".encode()
            store.append(600 + number, lines(600 + number, 601 + number))
            assert store.line(600 + number) == f"line {600 + number}".encode()
        assert store.count() == 1200
        assert list(store.read(599)) == lines(599, 1200)

    def test_a_reading_may_be_left_unfinished(self, store: JournalStore) -> None:
        store.append(0, lines(0, 600))
        left = [store.read(), store.read(300)]
        assert [next(reading) for reading in left] == [b"line 0", b"line 300"]
        store.append(600, lines(600, 601))
        assert store.count() == 601

    def test_a_snapshot_replaces_the_one_before(self, store: JournalStore) -> None:
        store.append(0, lines(0, 9))
        kept = [(3, b"three"), (9, bytes(range(256)) * 4_000), (9, b"nine"), (0, b"")]
        for size, snapshot in kept:
            store.save_snapshot(size, snapshot)
            assert store.load_snapshot() == (size, snapshot)
        assert list(store.read()) == lines(0, 9)
        store.append(9, lines(9, 10))
        assert store.load_snapshot() == (0, b"")

    def test_a_journal_can_be_folded_again_from_its_store(self, store: JournalStore) -> None:
        kit = kit_with_job()
        for entry in kit.entries:
            store.append(entry.index, [entry.line])
        again = Journal()
        for line in store.read():
            entry: Entry = parse_entry(line)
            again.apply(entry)
        assert again.tree.root() == kit.journal.tree.root()
        assert dict(again.book.balances) == kit.balances()


class TestStoresThatLast:
    """The contract of persistent stores: SQLite and PostgreSQL."""

    def test_lines_outlive_the_store_that_wrote_them(self, lasting: Backend) -> None:
        first = lasting.open()
        first.append(0, lines(0, 3))
        first.save_snapshot(2, b"two")
        first.close()
        second = lasting.open()
        assert second.count() == 3
        assert list(second.read()) == lines(0, 3)
        assert second.load_snapshot() == (2, b"two")
        with pytest.raises(ValueError, match="does not follow"):
            second.append(0, lines(0, 1))
        second.append(3, lines(3, 4))
        second.close()
        third = lasting.open(read_only=True)
        assert third.count() == 4
        assert list(third.read()) == lines(0, 4)
        assert third.line(3) == b"line 3"
        third.close()

    def test_lines_are_there_for_others_as_soon_as_append_returns(self, lasting: Backend) -> None:
        store = lasting.open()
        reader = lasting.open(read_only=True)
        for number in range(5):
            store.append(number, lines(number, number + 1))
            assert reader.count() == number + 1
            assert reader.line(number) == f"line {number}".encode()
            assert list(reader.read()) == lines(0, number + 1)
        assert reader.load_snapshot() is None
        store.save_snapshot(5, b"five")
        assert reader.load_snapshot() == (5, b"five")
        reader.close()
        store.close()

    def test_a_batch_that_fails_in_its_middle_leaves_nothing(self, lasting: Backend) -> None:
        store = lasting.open()
        store.append(0, lines(0, 3))
        lasting.forbid(5)
        with pytest.raises(BROKEN, match=r"no.space"):
            store.append(3, lines(3, 8))
        store.close()
        lasting.allow()
        again = lasting.open()
        assert list(again.read()) == lines(0, 3)
        again.append(3, lines(3, 8))
        assert list(again.read()) == lines(0, 8)
        again.close()

    def test_a_failed_append_ends_the_store(self, lasting: Backend) -> None:
        store = lasting.open()
        store.append(0, lines(0, 3))
        lasting.forbid(3)
        with pytest.raises(BROKEN):
            store.append(3, lines(3, 4))
        lasting.allow()
        for _ in range(2):
            with pytest.raises((OperationError, psycopg.OperationalError), match=r"append|closed"):
                store.append(3, lines(3, 4))
        store.close()
        again = lasting.open()
        assert list(again.read()) == lines(0, 3)
        again.close()

    def test_what_is_not_bytes_is_not_half_written(self, lasting: Backend) -> None:
        store = lasting.open()
        with pytest.raises((TypeError, psycopg.Error)):
            store.append(0, [b"line 0", object()])  # pyright: ignore[reportArgumentType]
        store.close()
        again = lasting.open()
        assert again.count() == 0
        again.close()

    def test_a_reader_cannot_write(self, lasting: Backend) -> None:
        store = lasting.open()
        store.append(0, lines(0, 3))
        reader = lasting.open(read_only=True)
        with pytest.raises(BROKEN, match=r"read.?only"):
            reader.save_snapshot(1, b"one")
        assert list(reader.read()) == lines(0, 3)
        with pytest.raises(BROKEN, match=r"read.?only"):
            reader.append(3, lines(3, 4))
        reader.close()
        assert store.load_snapshot() is None
        assert list(store.read()) == lines(0, 3)
        store.close()

    def test_a_missing_journal_is_reported(self, lasting: Backend) -> None:
        for _ in range(2):
            with pytest.raises(UsageError, match="no journal"):
                lasting.open(read_only=True)

    def test_its_address_opens_it(self, lasting: Backend) -> None:
        store = open_journal(lasting.address)
        store.append(0, lines(0, 2))
        reader = open_journal(lasting.address, read_only=True)
        assert type(reader) is type(store) is type(lasting.open(read_only=True))
        assert list(reader.read()) == lines(0, 2)
        reader.close()
        store.close()


# -- SQLite ----------------------------------------------------------------------------------


def test_every_append_is_synced_to_a_write_ahead_log(path: Path) -> None:
    sqlite = SqliteJournal(path)
    sqlite.append(0, lines(0, 1))
    assert sqlite._db.pragma("synchronous") == FULL
    other = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    assert other.pragma("journal_mode") == "wal"
    other.close()
    assert path.with_name(path.name + "-wal").stat().st_size > 0
    sqlite.close()


@pytest.mark.parametrize("ahead", [1, 5])
def test_a_second_writer_is_caught_by_the_lines_that_it_wrote(path: Path, ahead: int) -> None:
    first = SqliteJournal(path)
    first.append(0, lines(0, 3))
    second = SqliteJournal(path)
    second.append(3, lines(3, 3 + ahead))
    for _ in range(2):
        with pytest.raises((ValueError, OperationError), match=r"another process|has failed"):
            first.append(3, [b"other", b"other"])
    first.close()
    assert list(second.read()) == lines(0, 3 + ahead)
    second.close()


def test_a_journal_from_before_there_were_snapshots_is_read_and_taken_over(path: Path) -> None:
    old = apsw.Connection(str(path))
    old.pragma("journal_mode", "wal")
    old.execute("CREATE TABLE entry (number INTEGER PRIMARY KEY, line BLOB)")
    old.executemany("INSERT INTO entry VALUES (?, ?)", list(enumerate(lines(0, 3))))
    old.close()
    reader = SqliteJournal(path, read_only=True)
    assert list(reader.read()) == lines(0, 3)
    assert reader.load_snapshot() is None
    writer = SqliteJournal(path)
    writer.append(3, lines(3, 4))
    writer.save_snapshot(4, b"four")
    assert reader.load_snapshot() == (4, b"four")
    reader.close()
    writer.close()


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_is_no_journal_is_not_touched(path: Path, read_only: bool) -> None:
    path.write_bytes(b"something else entirely\n" * 100)
    with pytest.raises(OperationError, match="cannot be opened as a journal"):
        SqliteJournal(path, read_only=read_only)
    assert path.read_bytes() == b"something else entirely\n" * 100


# -- PostgreSQL ------------------------------------------------------------------------------


def test_a_second_writer_is_refused_and_let_in_afterwards(postgres: Postgres) -> None:
    first = postgres.open()
    first.append(0, lines(0, 3))
    for _ in range(2):
        with pytest.raises(OperationError, match="another process writes this journal: stop it"):
            postgres.open()
    first.append(3, lines(3, 4))
    first.close()
    second = postgres.open()
    assert second.count() == 4
    second.close()


def test_a_writer_whose_predecessor_is_just_leaving_waits_for_it(postgres: Postgres) -> None:
    """A server ends a session and frees its lock only some time after the client has gone."""
    first = postgres.open()
    leaving = threading.Timer(0.5, first.close)
    leaving.start()
    second = postgres.open()
    leaving.join()
    second.append(0, lines(0, 1))
    second.close()


def test_two_journals_in_one_database_are_separate(server: str) -> None:
    stores = [Postgres(server).open() for _ in range(2)]
    for number, store in enumerate(stores):
        store.append(0, lines(0, number + 1))
    assert [store.count() for store in stores] == [1, 2]
    for store in stores:
        store.close()


def test_a_line_that_came_past_the_lock_is_not_written_over(postgres: Postgres) -> None:
    store = postgres.open()
    store.append(0, lines(0, 3))
    with psycopg.connect(postgres.address) as other:
        other.execute("INSERT INTO journal_entry VALUES (3, 'line 3')")
    with pytest.raises(ValueError, match="another process has written line 3"):
        store.append(3, [b"other", b"other"])
    again = postgres.open()
    assert list(again.read()) == lines(0, 4)
    again.close()


def test_a_writer_waits_for_the_sync_whatever_the_server_s_default(postgres: Postgres) -> None:
    address = postgres.address + "%20-csynchronous_commit%3Doff"
    store = PostgresJournal(address)
    assert store._db.execute("SHOW synchronous_commit").fetchone() == ("on",)
    store.close()


def test_a_lost_connection_is_not_made_again(postgres: Postgres, admin: psycopg.Connection) -> None:
    store = PostgresJournal(postgres.address)
    store.append(0, lines(0, 3))
    admin.execute("SELECT pg_terminate_backend(%s, 5000)", (store._db.info.backend_pid,))
    for _ in range(2):
        with pytest.raises(psycopg.OperationalError):
            store.append(3, lines(3, 4))
    for use in (lambda: list(store.read()), lambda: store.line(0), store.load_snapshot):
        with pytest.raises(psycopg.OperationalError):
            use()
    store.close()
    again = postgres.open()
    assert list(again.read()) == lines(0, 3)
    again.append(3, lines(3, 4))
    again.close()


def test_lines_outlive_a_writer_that_is_killed(postgres: Postgres) -> None:
    program = (
        "import os, signal, sys; from ledger.storage.postgres import PostgresJournal\n"
        "store = PostgresJournal(sys.argv[1])\n"
        "store.append(0, [b'line 0', b'line 1']); store.append(2, [b'line 2'])\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, postgres.address], timeout=60, check=False
    )
    assert done.returncode == -9
    again = eventually(postgres.open)
    assert list(again.read()) == lines(0, 3)
    again.close()


def eventually(make: Callable[[], JournalStore]) -> JournalStore:
    """The result of `make`, once the server has noticed that the writer is gone."""
    for _ in range(100):
        try:
            return make()
        except OperationError:
            time.sleep(0.05)
    return make()


def test_a_database_without_room_for_a_journal_says_why(server: str) -> None:
    with pytest.raises(OperationError, match=r"cannot hold a journal: .*; ask its owner to fix it"):
        PostgresJournal(server + "&options=-csearch_path%3Dnowhere")


NOBODY_LISTENS = "postgresql://me:hush@127.0.0.1:1/books"
SPILT = [
    "postgresql://me:pass@hush@127.0.0.1:1/books",
    "postgresql://me:pass/hush@127.0.0.1:1/books",
    "postgresql://me:/hush@127.0.0.1:1/books",
    "postgresql://me:12/hush@127.0.0.1:1/books",
    "postgresql://me:hush%zz@127.0.0.1:1/books",
    "host=127.0.0.1 port=1 password=so hush",
]


def test_a_server_that_does_not_answer_is_named_in_one_line() -> None:
    with pytest.raises(OperationError, match=r"127\.0\.0\.1.*start the server") as caught:
        PostgresJournal(NOBODY_LISTENS)
    assert "\n" not in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("address", SPILT)
def test_a_password_is_never_shown(address: str) -> None:
    with pytest.raises(UsageError, match="write postgresql://USER@HOST") as caught:
        PostgresJournal(address)
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None


# -- addresses -------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["postgressql://me:hush@h/b", "https://me:hush@h"])
def test_an_address_of_another_kind_is_refused_and_not_shown(address: str) -> None:
    with pytest.raises(UsageError, match="a path or a postgresql:// address") as caught:
        open_journal(address)
    assert "hush" not in str(caught.value)


def test_only_the_postgres_module_imports_psycopg(path: Path) -> None:
    program = (
        "import importlib, pkgutil, sys; from pathlib import Path\n"
        "import ledger.storage as storage; from ledger.storage.opening import open_journal\n"
        "names = {one.name for one in pkgutil.iter_modules(storage.__path__)}\n"
        "for name in names - {'postgres'}:\n"
        "    importlib.import_module(f'ledger.storage.{name}')\n"
        "open_journal(sys.argv[1]).close()\n"
        "assert {'journal', 'opening', 'postgres', 'sqlite'} <= names, names\n"
        "assert 'psycopg' not in sys.modules\n"
        "import ledger.storage.postgres\n"
        "assert 'psycopg' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], timeout=60, check=True)


# -- comparison ------------------------------------------------------------------------------

BATCHES = st.lists(st.lists(st.binary(max_size=200), max_size=64), max_size=12)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches=BATCHES, data=st.data())
def test_the_same_batches_make_the_same_journal(
    server_or_none: str | None, batches: list[list[bytes]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        places: list[Backend] = [Sqlite(Path(folder))]
        places += [Postgres(server_or_none)] if server_or_none else []
        stores: list[JournalStore] = [MemoryJournal(), *(place.open() for place in places)]
        for batch in batches:
            for store in stores:
                store.append(store.count(), batch)
        sent = [line for batch in batches for line in batch]
        first = data.draw(st.integers(0, len(sent)))
        for store in (*stores, *(place.open(read_only=True) for place in places)):
            assert root_of(store.read()) == root_of(sent)
            assert list(store.read(first)) == sent[first:]
            store.close()


@pytest.fixture(scope="session")
def server_or_none(request: pytest.FixtureRequest) -> str | None:
    """The server, or None. The other stores are compared without it, too."""
    return request.getfixturevalue("server") if postgres_binaries() else None
