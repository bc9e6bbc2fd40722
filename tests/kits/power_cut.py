"""A simulated disk that loses power: a VFS for SQLite that records syncs.

Each write goes to the real file, so SQLite reads its own writes. No real sync happens. The disk
records the content of each file at its last sync and the later operations. After the cut all
operations fail. `image_after_cut` gives a possible content of the disk after the restart: each
unsynced write is whole, lost, or torn at a sector boundary.

A write does not damage the bytes around it: SQLite assumes this of all disks (POWERSAFE_OVERWRITE).
The first sync of a newly opened log or rollback journal syncs the folder, as in SQLite's own VFS.
Later creations and deletions of files may be lost, each independently. The log's index in shared
memory (`-shm`) is not a file of the VFS. It is lost, and SQLite builds it again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random

import apsw

SECTOR = 512
TORN = 0.3
"""The share of lost writes that leave some of their sectors."""
JOURNALS = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL


class PowerCut(apsw.IOError):
    """The disk has lost its power."""


@dataclass(frozen=True, slots=True)
class Write:
    offset: int
    data: bytes

    def carry_out(self, image: bytearray) -> None:
        image.extend(bytes(max(0, self.offset - len(image))))
        image[self.offset : self.offset + len(self.data)] = self.data

    def sectors(self) -> "list[Write]":
        """The same write, cut at the ends of sectors."""
        end = self.offset + len(self.data)
        first = self.offset - self.offset % SECTOR
        bounds = [self.offset, *range(first + SECTOR, end, SECTOR), end]
        return [
            Write(low, self.data[low - self.offset : high - self.offset])
            for low, high in pairwise(bounds)
        ]


@dataclass(frozen=True, slots=True)
class Truncate:
    size: int

    def carry_out(self, image: bytearray) -> None:
        del image[self.size :]


@dataclass(eq=False, slots=True)
class Content:
    """The synced content of a file, and the operations since its last sync."""

    synced: bytearray = field(default_factory=bytearray)
    since: list[Write | Truncate] = field(default_factory=list)

    def sync(self) -> None:
        for change in self.since:
            change.carry_out(self.synced)
        self.since.clear()

    def image_after_cut(self, random: Random, through: float) -> bytes:
        image = bytearray(self.synced)
        for change in self.since:
            if random.random() < through:
                change.carry_out(image)
            elif isinstance(change, Write) and random.random() < TORN:
                for piece in change.sectors():
                    if random.random() < 0.5:
                        piece.carry_out(image)
        return bytes(image)


class Disk:
    """The files of one folder. The power fails in operation number `cut_at`.

    `images`: file name -> content at the start; the folder must have the same files.
    """

    def __init__(self, cut_at: int, images: Mapping[str, bytes]) -> None:
        self.operations = 0
        self._cut_at = cut_at
        self._now = {name: Content(bytearray(image)) for name, image in images.items()}
        self._synced = dict(self._now)
        """The folder at its last sync."""

    @property
    def is_off(self) -> bool:
        return self.operations >= self._cut_at

    def check_power(self) -> None:
        """Raise `PowerCut` after the cut."""
        if self.is_off:
            raise PowerCut("the power is gone")

    def open(self, name: str) -> Content:
        return self._now.setdefault(name, Content())

    def change(self, content: Content, change: Write | Truncate) -> None:
        """Count one operation. If the power fails in it, it may still take effect."""
        self.check_power()
        content.since.append(change)
        self._operate()

    def sync(self, content: Content, *, folder_too: bool) -> None:
        """Count one operation. If the power fails in it, nothing was synced."""
        self._operate()
        content.sync()
        if folder_too:
            self._synced = dict(self._now)

    def delete(self, name: str, is_synced: bool) -> None:
        """Count one operation."""
        self._operate()
        del self._now[name]
        if is_synced:
            self._synced = dict(self._now)

    def image_after_cut(self, random: Random) -> dict[str, bytes]:
        """A possible content of the folder after the cut: file name -> bytes."""
        # The share of surviving writes differs between cuts, so that "nearly all" and
        # "nearly none" occur as often as the middle.
        through = random.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        images: dict[str, bytes] = {}
        for name in sorted(self._now.keys() | self._synced.keys()):
            folder = self._now if random.random() < through else self._synced
            if name in folder:
                images[name] = folder[name].image_after_cut(random, through)
        return images

    def _operate(self) -> None:
        self.check_power()
        self.operations += 1
        self.check_power()


class CutVfs(apsw.VFS):
    """SQLite's default VFS on a disk that may lose its power."""

    def __init__(self, name: str, disk: Disk) -> None:
        self._disk = disk
        super().__init__(name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        self._disk.check_power()
        return CutFile(self._disk, name, flags)

    def xAccess(self, pathname: str, flags: int) -> bool:
        self._disk.check_power()
        return super().xAccess(pathname, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self._disk.delete(Path(filename).name, syncdir)
        super().xDelete(filename, False)


class CutFile(apsw.VFSFile):
    """A file of the default VFS. Syncs reach only the simulated disk."""

    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._disk = disk
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        # SQLite's temporary files have no name, and no start reads them after a cut.
        self._content = disk.open(Path(path).name) if path else Content()
        made = flags[0] & apsw.SQLITE_OPEN_CREATE and flags[0] & JOURNALS
        self._folder_is_due = bool(made)
        super().__init__("", name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:
        self._disk.check_power()
        return super().xRead(amount, offset)

    def xFileSize(self) -> int:
        self._disk.check_power()
        return super().xFileSize()

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.change(self._content, Write(offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:
        self._disk.change(self._content, Truncate(newsize))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:
        self._disk.sync(self._content, folder_too=self._folder_is_due)
        self._folder_is_due = False
