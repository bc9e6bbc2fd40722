"""Power cuts: SQLite's journal keeps all acknowledged lines.

Each seed is one journal. It gets batches, snapshots and reopenings until the power fails in a
random operation of the simulated disk (`power_cut`). Then its content is checked, and the same
repeats on that content. The control runs the same seeds with `synchronous=normal`. It must lose
lines, or else the disk would prove nothing.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Literal

import apsw
import pytest

from gensyn_ray.domain.errors import OperationError
from ledger.storage.sqlite import SqliteJournal
from tests.kits.amounts import soak_or_proof
from tests.kits.power_cut import CutVfs, Disk

# A journal cannot clean up if the power fails while it opens.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

Synchronous = Literal["full", "normal"]
QUICK = range(20)
SEEDS = soak_or_proof(soak=range(1_000, 1_300), proof=range(1_000, 2_500))
CUTS = 2
CUT_WITHIN = (40, 700)
"""Numbers of the disk operation with the power cut: while the journal opens, or later."""
VFS = "power-cut"


@dataclass
class Life:
    """The lines sent to a journal, and the acknowledged part."""

    sent: list[bytes] = field(default_factory=list)
    ends: list[int] = field(default_factory=lambda: [0])
    """The number of lines sent at the end of each batch."""
    snapshots: list[tuple[int, bytes] | None] = field(default_factory=lambda: [None])
    lines_kept: int = 0
    """Number of acknowledged lines."""
    snapshots_kept: int = 1
    lines_lost: int = 0
    snapshots_lost: int = 0

    def recover(self, lines: int, snapshots: int) -> None:
        """Continue from the content of the disk; count the lost lines."""
        self.lines_lost += max(0, self.lines_kept - lines)
        self.snapshots_lost += max(0, self.snapshots_kept - snapshots)
        self.lines_kept, self.snapshots_kept = lines, snapshots
        del self.sent[lines:], self.snapshots[snapshots:]
        self.ends = [end for end in self.ends if end <= lines]


def live(seed: int, folder: Path, synchronous: Synchronous) -> Life:
    """Run one seed; check the journal after each cut."""
    random = Random(seed)
    life = Life()
    images: dict[str, bytes] = {}
    for cut in range(CUTS):
        disk = Disk(random.randrange(1, random.choice(CUT_WITHIN)), images)
        path = laid_out(images, folder / f"{cut}-before")
        vfs = CutVfs(VFS, disk)
        with small_checkpoints(random.choice((1, 4, 16, 64))):
            use_until_cut(life, random, path, disk, synchronous)
        vfs.unregister()
        images = disk.image_after_cut(random)
        check(life, laid_out(images, folder / f"{cut}-after"))
    shutil.rmtree(folder)
    return life


def laid_out(images: Mapping[str, bytes], folder: Path) -> Path:
    """Write files into a new folder; returns the journal's path there."""
    folder.mkdir(parents=True)
    for name, image in images.items():
        (folder / name).write_bytes(image)
    return folder / "journal.sqlite"


@contextmanager
def small_checkpoints(pages: int) -> Iterator[None]:
    """Checkpoint the log every few pages, because a seed writes fewer than SQLite's 1000."""

    def set_pages(connection: apsw.Connection) -> None:
        connection.wal_autocheckpoint(pages)

    apsw.connection_hooks.append(set_pages)
    try:
        yield
    finally:
        apsw.connection_hooks.remove(set_pages)


def use_until_cut(
    life: Life, random: Random, path: Path, disk: Disk, synchronous: Synchronous
) -> None:
    """Use the journal, with some reopenings, until the power fails."""
    store = None
    try:
        while True:
            store = SqliteJournal(path, vfs=VFS, synchronous=synchronous)
            for _ in range(random.randrange(1, 40)):
                use(life, random, store)
            store.close()
    except (apsw.Error, OperationError):
        if not disk.is_off:
            raise
    if store is not None:
        with suppress(apsw.Error):
            store.close()


def use(life: Life, random: Random, store: SqliteJournal) -> None:
    """Append a batch, or sometimes keep a snapshot."""
    if random.random() < 0.1:
        snapshot = random.randbytes(random.choice((10, 3_000, 30_000)))
        life.snapshots.append((life.lines_kept, snapshot))
        store.save_snapshot(life.lines_kept, snapshot)
        life.snapshots_kept = len(life.snapshots)
        return
    sizes = (20, 700, 700, 700, 9_000)
    batch = [random.randbytes(random.choice(sizes)) for _ in range(random.choice((1, 1, 2, 8)))]
    life.sent += batch
    life.ends.append(len(life.sent))
    store.append(life.lines_kept, batch)
    life.lines_kept = len(life.sent)


def check(life: Life, path: Path) -> None:
    """Check that the journal opens, has whole batches from the first on, and takes new lines."""
    store = SqliteJournal(path)
    assert store._db.pragma("integrity_check") == "ok"
    lines = list(store.read())
    assert lines == life.sent[: len(lines)]
    assert len(lines) in life.ends
    snapshot = life.snapshots.index(store.load_snapshot())
    store.append(len(lines), [b"afterwards"])
    assert store.line(len(lines)) == b"afterwards"
    store.close()
    life.recover(len(lines), snapshot + 1)


def losers(seeds: range, folder: Path, synchronous: Synchronous) -> dict[int, Life]:
    """Seed -> what it lost, for seeds that lost acknowledged lines. Prints their number."""
    lives = {seed: live(seed, folder / str(seed), synchronous) for seed in seeds}
    lost = {seed: life for seed, life in lives.items() if life.lines_lost or life.snapshots_lost}
    lines = sum(life.lines_lost for life in lost.values())
    print(
        f"\nsynchronous={synchronous}, seeds {seeds.start} to {seeds.stop - 1}, {CUTS} power cuts "
        f"each: {len(lost)} of {len(seeds)} lost something acknowledged, {lines} lines together"
    )
    return lost


def test_a_few_power_cuts_lose_nothing_acknowledged(tmp_path: Path) -> None:
    assert not losers(QUICK, tmp_path, "full").keys()


def test_a_few_power_cuts_lose_what_was_not_synced(tmp_path: Path) -> None:
    assert losers(QUICK, tmp_path, "normal")


@pytest.mark.parametrize("seeds", SEEDS)
def test_no_power_cut_loses_what_was_acknowledged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seeds: range
) -> None:
    with capsys.disabled():
        assert not losers(seeds, tmp_path, "full").keys()


@pytest.mark.parametrize("seeds", SEEDS)
def test_the_same_power_cuts_lose_what_was_not_synced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seeds: range
) -> None:
    with capsys.disabled():
        lost = losers(seeds, tmp_path, "normal")
    assert sum(life.lines_lost for life in lost.values()) > 0
