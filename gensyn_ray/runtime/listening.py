"""Binds the address of a service. One live service per address.

A socket file gets mode 0660: its owner and its group can connect, other users cannot. To give
access to another user, put both users into a group and name the group in `SocketFile.group`. The
service's user must be a member of that group or root.

Not defended here: a user that can write to the socket's folder can replace the socket file. Put the
socket into a folder that its owner alone can write to and that the group can search (mode 0750).
"""

import fcntl
import grp
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from gensyn_ray.domain.errors import UsageError
from gensyn_ray.runtime.address import ListenAddress, SocketFile, TcpPort

SOCKET_MODE = 0o660
BACKLOG = 256
PROBE_S = 1.0
FOLDER_LOCK_S = 5.0
"""How long a start waits for other starts in the same folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A socket that listens on `address`. A context manager that closes it.

    `file_id`: device and inode of the socket file; None for a TCP port.
    """

    address: ListenAddress
    socket: socket.socket
    file_id: tuple[int, int] | None = None

    def close(self) -> None:
        """Remove the socket file and close the socket. A file that replaced it is left alone."""
        if isinstance(self.address, SocketFile) and _file_id(self.address.path) == self.file_id:
            self.address.path.unlink(missing_ok=True)
        self.socket.close()

    def __enter__(self) -> "Listener":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def listen(address: ListenAddress) -> Listener:
    """Bind an address and listen on it.

    Raises `UsageError` if a service listens there already, or if the address cannot be bound.
    """
    try:
        if isinstance(address, SocketFile):
            return _listen_on_file(address)
        return Listener(address=address, socket=_listen_on_port(address))
    except OSError as error:
        raise UsageError(f"cannot listen on {address}: {error.strerror or error}") from None


def _listen_on_file(address: SocketFile) -> Listener:
    path = address.path
    group = _group_number(address.group)
    listener = socket.socket(socket.AF_UNIX)
    try:
        # Between `bind` and `listen` a socket file looks stale: one start at a time looks.
        with _folder_lock(path.parent):
            _remove_stale(path)
            listener.bind(str(path))
            # Connections are refused before `listen`: the file is never open to other users.
            path.chmod(SOCKET_MODE)
            if group is not None:
                os.chown(path, -1, group)
            listener.listen(BACKLOG)
            return Listener(address=address, socket=listener, file_id=_file_id(path))
    except BaseException:
        listener.close()
        raise


def _group_number(group: str) -> int | None:
    if not group:
        return None
    if group.isdecimal():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise UsageError(f"there is no group {group!r}: create it, or name another") from None


@contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    """The folder's advisory lock. Every user that can read the folder can hold it, so that the wait
    is bounded. Raises `UsageError`."""
    descriptor = os.open(folder, os.O_RDONLY)
    deadline_s = time.monotonic() + FOLDER_LOCK_S
    try:
        while not _try_lock(descriptor):
            if time.monotonic() > deadline_s:
                raise UsageError(
                    f"another process locks {folder}: end it, or choose a folder of your own"
                )
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_stale(path: Path) -> None:
    """Remove a socket file without a listener. Raises `UsageError` if the path is taken."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UsageError(f"{path} exists and is no socket: choose another path")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PROBE_S)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except (BlockingIOError, TimeoutError):
            pass  # its backlog is full: it lives
    raise UsageError(f"a service already listens on {path}")


def _file_id(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _listen_on_port(address: TcpPort) -> socket.socket:
    family, _, _, _, where = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family)
    try:
        # Takes a port whose connections are closed and still in TIME_WAIT; not a live one.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
