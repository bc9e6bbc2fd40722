"""Real sockets: who may connect, who is turned away, what a flood gets, how a service ends."""

import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import gensyn_ray.runtime.listening
import ledger.service
from gensyn_ray.domain.errors import Refused, Unreachable, UsageError
from gensyn_ray.runtime.listening import bind, listening_on, make_server
from ledger.client import LedgerClient
from ledger.service import BODY_LIMIT
from tests.unit.ledger.test_service import FakeLedger, envelope

PATIENCE_S = 20.0


@pytest.fixture
def fake() -> FakeLedger:
    return FakeLedger()


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"unix:{tmp_path / 's'}"


@contextmanager
def serving(fake: FakeLedger, address: str, **tls: str) -> Iterator[None]:
    """The fake behind a real server on a thread; on leaving it is stopped in order."""
    place = listening_on(address, **tls)
    listener = bind(place)
    server = make_server(fake.app(), place)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def wait_until(true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.005)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@contextmanager
def connected(address: str) -> Iterator[socket.socket]:
    """A bare connection to a Unix socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE_S)
        connection.connect(address.removeprefix("unix:"))
        yield connection


def everything(connection: socket.socket) -> bytes:
    """What comes until the other side closes."""
    received = b""
    while part := connection.recv(65_536):
        received += part
    return received


def ask_health(connection: socket.socket) -> int:
    """The status that a bare connection gets for one reading of health."""
    connection.sendall(b"GET /health HTTP/1.1\r\nhost: ledger\r\n\r\n")
    answer = b""
    while not answer.endswith(b"}"):
        answer += connection.recv(65_536)
    return int(answer.split()[1])


def posted(content: bytes) -> bytes:
    head = f"POST /v1/commands HTTP/1.1\r\nhost: ledger\r\ncontent-length: {len(content)}\r\n\r\n"
    return head.encode() + content


# -- addresses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "arguments"),
    [
        ("unix:/run/ledger.sock", {"uds": "/run/ledger.sock"}),
        ("unix:relative", {"uds": "relative"}),
        ("http://127.0.0.1:8000", {"host": "127.0.0.1", "port": 8000}),
        ("http://ledger.example:65535/", {"host": "ledger.example", "port": 65535}),
        ("http://[::1]:80", {"host": "::1", "port": 80}),
    ],
)
def test_an_address_says_where_to_listen(address: str, arguments: dict[str, Any]) -> None:
    assert listening_on(address) == arguments


@pytest.mark.parametrize(
    "address",
    [
        "",
        "unix:",
        "ledger.sock",
        "127.0.0.1:8000",
        "ftp://127.0.0.1:8000",
        "http://127.0.0.1",
        "http://127.0.0.1:",
        "http://127.0.0.1:0",
        "http://127.0.0.1:65536",
        "http://127.0.0.1:-1",
        "http://127.0.0.1:http",
        "http://127.0.0.1:8000/v1",
        "http://127.0.0.1:8000?x",
        "http://me@127.0.0.1:8000",
        "http://:8000",
        "http://[::1:8000",
        "http://127.0.0.1\n:8000",
        "https://127.0.0.1:8000",
    ],
)
def test_nonsense_is_a_usage_error_of_one_line(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        listening_on(address)
    assert "\n" not in str(caught.value)


def test_a_certificate_goes_with_https_alone() -> None:
    for address in ("unix:/run/s", "http://127.0.0.1:8000"):
        with pytest.raises(UsageError, match="go with https"):
            listening_on(address, certificate="c.pem", key="k.pem")


# -- having the place --------------------------------------------------------------------------


def test_owner_and_group_alone_may_connect(fake: FakeLedger, address: str) -> None:
    with serving(fake, address):
        mode = os.stat(address.removeprefix("unix:")).st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o660
        assert LedgerClient(address).submit(envelope()) == {"receipt": envelope().body_hash}


def test_a_socket_file_that_nobody_listens_on_is_replaced(fake: FakeLedger, address: str) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(address.removeprefix("unix:"))
        killed.listen()
    with pytest.raises(Unreachable):
        LedgerClient(address).read("echo")
    with serving(fake, address):
        assert LedgerClient(address).read("echo", a=1) == {"a": "1"}


def test_a_live_services_socket_is_left_alone(fake: FakeLedger, address: str) -> None:
    with serving(fake, address):
        with pytest.raises(UsageError, match="a service already listens on"):
            bind(listening_on(address))
        assert LedgerClient(address).read("echo") == {}


def test_a_live_services_port_is_left_alone(fake: FakeLedger) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    with serving(fake, address):
        with pytest.raises(UsageError, match="Address already in use"):
            bind(listening_on(address))
        assert LedgerClient(address).read("echo") == {}


def test_of_many_that_start_at_once_one_listens(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_mode = Path.chmod

    def change_mode_slowly(path: Path, mode: int) -> None:
        time.sleep(0.02)  # bound, and not listening yet: this is when it looks stale
        change_mode(path, mode)

    monkeypatch.setattr(Path, "chmod", change_mode_slowly)
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(address.removeprefix("unix:"))
    barrier = threading.Barrier(8)

    def start(_: int) -> socket.socket | None:
        barrier.wait()
        try:
            return bind(listening_on(address))
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
        bind(listening_on(f"unix:{path}"))
    assert path.read_text() == "mine"


@pytest.mark.parametrize("path", ["missing/s", "x" * 120])
def test_a_place_that_cannot_be_had_is_a_usage_error(tmp_path: Path, path: str) -> None:
    with pytest.raises(UsageError, match="cannot listen on"):
        bind(listening_on(f"unix:{tmp_path / path}"))


def test_a_host_that_is_not_here_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="cannot listen on"):
        bind(listening_on("http://192.0.2.1:8000"))


# -- bad company -------------------------------------------------------------------------------


def test_an_endless_body_is_cut_off(fake: FakeLedger, address: str) -> None:
    head = b"POST /v1/commands HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    part = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with serving(fake, address), connected(address) as connection:
        connection.sendall(head)
        sent = send_until_cut(connection, part, at_most=100 * BODY_LIMIT)
        answer = everything_or_reset(connection)
        assert sent < 8 * BODY_LIMIT
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert LedgerClient(address).submit(envelope())
    assert fake.taken == [envelope()]


def send_until_cut(connection: socket.socket, part: bytes, *, at_most: int) -> int:
    """Bytes that the other side let in."""
    sent = 0
    with suppress(ConnectionError):
        while sent < at_most:
            connection.sendall(part)
            sent += len(part)
    return sent


def everything_or_reset(connection: socket.socket) -> bytes:
    received = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            received += part
    return received


def test_a_client_cut_off_in_the_middle_stalls_nobody(fake: FakeLedger, address: str) -> None:
    content = json.dumps(envelope(1).to_json()).encode()
    with serving(fake, address):
        for sent in (b"POST /v1", posted(content)[:-10], posted(content)):
            with connected(address) as connection:
                connection.sendall(sent)
        with connected(address) as still_open:
            still_open.sendall(posted(content)[:-10])
            started_s = time.monotonic()
            for number in range(10):
                assert LedgerClient(address).submit(envelope(number))
            assert time.monotonic() - started_s < 5
    assert envelope(9) in fake.taken


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("said", [b"", b"G", b"GET /health HTTP/1.1\r\nhost: x\r\n"])
def test_who_does_not_say_what_they_want_is_shown_out(
    fake: FakeLedger, address: str, monkeypatch: pytest.MonkeyPatch, before: int, said: bytes
) -> None:
    monkeypatch.setattr(gensyn_ray.runtime.listening, "HEAD_S", 0.2)
    monkeypatch.setitem(gensyn_ray.runtime.listening.LIMITS, "timeout_keep_alive", 0.2)
    with serving(fake, address), connected(address) as connection:
        for _ in range(before):
            assert ask_health(connection) == 200
        connection.sendall(said)
        started_s = time.monotonic()
        assert everything(connection) == b""
        assert time.monotonic() - started_s < 2


def test_who_says_what_they_want_may_stay(
    fake: FakeLedger, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gensyn_ray.runtime.listening, "HEAD_S", 0.1)
    with serving(fake, address), connected(address) as connection:
        for _ in range(6):
            assert ask_health(connection) == 200
            time.sleep(0.05)


def test_a_head_has_a_limit(fake: FakeLedger, address: str) -> None:
    with serving(fake, address), connected(address) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nx: " + b"y" * 100_000)
        assert everything_or_reset(connection).startswith(b"HTTP/1.1 400 ")


def test_one_connection_too_many_is_told_so(
    fake: FakeLedger, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gensyn_ray.runtime.listening, "CONNECTION_LIMIT", 2)
    client = LedgerClient(address)
    with serving(fake, address):
        with connected(address) as one, connected(address):
            assert ask_health(one) == 200
            with connected(address) as third:
                answer = everything(third)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 1\r\n" in answer
            with pytest.raises(Refused) as caught:
                client.submit(envelope())
            assert caught.value.reason == "overloaded"
        wait_until(lambda: answers(client))
    assert fake.taken == []


def answers(client: LedgerClient) -> bool:
    try:
        client.read("echo")
    except Refused:
        return False
    return True


# -- a flood -----------------------------------------------------------------------------------


def test_in_a_flood_everybody_gets_one_answer_and_the_turned_away_are_not_applied(
    fake: FakeLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger.service, "QUEUE_LIMIT", 8)
    fake.batch_s = 0.005
    port = free_port()
    numbers = iter(range(2_000))
    lock = threading.Lock()
    statuses: dict[int, list[int]] = {number: [] for number in range(2_000)}

    def send_many() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            content = json.dumps(envelope(number).to_json())
            connection.request("POST", "/v1/commands", content)
            response = connection.getresponse()
            answer = json.loads(response.read())
            statuses[number].append(response.status)
            assert ("receipt" in answer) == (response.status == 200)
            assert response.status == 200 or response.headers["retry-after"] == "1"

    with serving(fake, f"http://127.0.0.1:{port}"), ThreadPoolExecutor(64) as pool:
        for sender in [pool.submit(send_many) for _ in range(64)]:
            sender.result()
    assert all(len(got) == 1 for got in statuses.values())
    assert set(Counter(got[0] for got in statuses.values())) == {200, 503}
    accepted = {envelope(number) for number, got in statuses.items() if got == [200]}
    assert len(fake.taken) == len(accepted)
    assert set(fake.taken) == accepted


# -- the end -----------------------------------------------------------------------------------

PROCESS = """
import sys
from gensyn_ray.domain.errors import GensynError
from gensyn_ray.runtime.listening import bind, listening_on, serve
from tests.unit.ledger.test_service import FakeLedger

try:
    place = listening_on(sys.argv[1])
    listener = bind(place)
except GensynError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
fake = FakeLedger()
fake.batch_s = 0.2
serve(fake.app(), place, listener)
print("closed after", len(fake.taken), flush=True)
"""


@contextmanager
def process(address: str) -> Iterator["subprocess.Popen[str]"]:
    """A slow service in a process of its own, which does not outlive the test."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PROCESS, address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def health_of(client: LedgerClient) -> Any:
    try:
        return client.read("health")
    except Unreachable:
        return None


def test_a_terminated_service_answers_what_it_took_and_ends_well(address: str) -> None:
    client = LedgerClient(address)

    def submit(number: int) -> bool:
        try:
            return client.submit(envelope(number)) == {"receipt": envelope(number).body_hash}
        except Unreachable:
            return False

    with process(address) as service:
        wait_until(lambda: bool(health_of(client)))
        with ThreadPoolExecutor(30) as pool:
            sent = [pool.submit(submit, number) for number in range(30)]
            wait_until(lambda: health_of(client)["entries"] > 0)
            service.send_signal(signal.SIGTERM)
            answered = sum(one.result() for one in sent)
        output, errors = service.communicate(timeout=PATIENCE_S)
    assert (output, errors) == (f"closed after {answered}\n", "")
    assert answered > 1
    assert service.returncode == 0
    assert not Path(address.removeprefix("unix:")).exists()


def test_a_slow_client_does_not_hold_up_the_end(address: str) -> None:
    with process(address) as service:
        wait_until(lambda: bool(health_of(LedgerClient(address))))
        with connected(address) as silent, connected(address) as idle:
            silent.sendall(b"GET /hea")
            assert ask_health(idle) == 200
            started_s = time.monotonic()
            service.send_signal(signal.SIGTERM)
            service.communicate(timeout=PATIENCE_S)
        assert time.monotonic() - started_s < 3
    assert service.returncode == 0


def test_a_killed_services_place_is_free_and_a_live_ones_is_not(address: str) -> None:
    with process(address) as first:
        wait_until(lambda: bool(health_of(LedgerClient(address))))
        with process(address) as second:
            _, errors = second.communicate(timeout=PATIENCE_S)
        assert second.returncode == 2
        assert errors.count("\n") == 1
        assert "a service already listens on" in errors
    assert first.returncode == -signal.SIGKILL
    with process(address) as third:
        wait_until(lambda: bool(health_of(LedgerClient(address))))
        third.send_signal(signal.SIGINT)
        third.communicate(timeout=PATIENCE_S)
    assert third.returncode == 0
