"""Listeners: one process per address, and the users that may connect."""

import fcntl
import os
import socket
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from gensyn_ray.domain.errors import Unreachable, UsageError
from gensyn_ray.runtime import listening
from gensyn_ray.runtime.address import SocketFile, parse_listen_address
from gensyn_ray.runtime.listening import Listener, listen
from ledger.client import LedgerClient
from tests.kits.http_kit import free_port, serving
from tests.kits.service_kit import ScriptedBackend, envelope


@pytest.fixture
def fake() -> ScriptedBackend:
    return ScriptedBackend()


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"unix:{tmp_path / 's'}"


def test_owner_and_group_alone_may_connect(fake: ScriptedBackend, address: str) -> None:
    with serving(fake.app(), address):
        mode = os.stat(address.removeprefix("unix:")).st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o660
        assert LedgerClient(address).submit(envelope()) == {"receipt": envelope().body_hash}


def test_a_socket_file_without_a_listener_is_replaced(fake: ScriptedBackend, address: str) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(address.removeprefix("unix:"))
        killed.listen()
    with pytest.raises(Unreachable):
        LedgerClient(address).read("echo")
    with serving(fake.app(), address):
        assert LedgerClient(address).read("echo", a=1) == {"a": "1"}


def test_a_live_services_socket_is_left_alone(fake: ScriptedBackend, address: str) -> None:
    with serving(fake.app(), address):
        with pytest.raises(UsageError, match="a service already listens on"):
            listen(parse_listen_address(address))
        assert LedgerClient(address).read("echo") == {}


def test_a_live_services_port_is_left_alone(fake: ScriptedBackend) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    with serving(fake.app(), address):
        with pytest.raises(UsageError, match="Address already in use"):
            listen(parse_listen_address(address))
        assert LedgerClient(address).read("echo") == {}


def test_one_of_several_concurrent_starts_listens(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_mode = Path.chmod

    def change_mode_slowly(path: Path, mode: int) -> None:
        time.sleep(0.02)  # bound and not listening yet: the file looks stale
        change_mode(path, mode)

    monkeypatch.setattr(Path, "chmod", change_mode_slowly)
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(address.removeprefix("unix:"))
    barrier = threading.Barrier(8)

    def start(_: int) -> Listener | None:
        barrier.wait()
        try:
            return listen(parse_listen_address(address))
        except UsageError:
            return None

    with ThreadPoolExecutor(8) as pool:
        listeners = [one for one in pool.map(start, range(8)) if one is not None]
    assert len(listeners) == 1
    listeners[0].close()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("mine")
    with pytest.raises(UsageError, match="is no socket"):
        listen(parse_listen_address(f"unix:{path}"))
    assert path.read_text() == "mine"


@pytest.mark.parametrize("path", ["missing/s", "x" * 120])
def test_an_unusable_path_is_a_usage_error(tmp_path: Path, path: str) -> None:
    with pytest.raises(UsageError, match="cannot listen on"):
        listen(parse_listen_address(f"unix:{tmp_path / path}"))


def test_an_address_of_another_host_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="cannot listen on"):
        listen(parse_listen_address("http://192.0.2.1:8000"))


def test_a_group_gets_the_socket(tmp_path: Path) -> None:
    own = os.getgroups()[-1] if os.getgroups() else os.getgid()
    with listen(SocketFile(path=tmp_path / "s", group=str(own))):
        found = (tmp_path / "s").stat()
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, own)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")
def test_another_user_connects_by_its_group_and_by_nothing_else() -> None:
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "s"
        with listen(SocketFile(path=path, group="4242")):
            assert [can_connect(path, group) for group in (4242, 4343)] == [True, False]


def can_connect(path: Path, group: int) -> bool:
    """Whether a process of another user in this group can connect."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(group)
            os.setuid(65_000)
            socket.socket(socket.AF_UNIX).connect(str(path))
            os._exit(0)
        except PermissionError:
            os._exit(13)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 13)
    return code == 0


def test_a_group_that_does_not_exist_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no group 'nobodys-group'"):
        listen(SocketFile(path=tmp_path / "s", group="nobodys-group"))
    assert not (tmp_path / "s").exists()


def test_a_link_to_a_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "s").symlink_to(tmp_path / "mine")
    with pytest.raises(UsageError, match="is no socket"):
        listen(SocketFile(path=tmp_path / "s"))
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_process_that_locks_the_folder_delays_a_start_for_a_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "FOLDER_LOCK_S", 0.05)
    hostile = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(hostile, fcntl.LOCK_EX)
    with pytest.raises(UsageError, match="another process locks"):
        listen(SocketFile(path=tmp_path / "s"))
    os.close(hostile)
    listen(SocketFile(path=tmp_path / "s")).close()


def test_a_closed_listener_removes_its_own_socket_file_only(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with listen(SocketFile(path=path)):
        path.unlink()
        second = listen(SocketFile(path=path))
    assert path.exists()
    second.close()
    assert not path.exists()
