"""The HTTP server on real sockets: limits of a connection, a flood, the end of a service."""

import http.client
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gensyn_ray.domain.errors import Refused, Unreachable
from gensyn_ray.runtime.http_server import Limits
from ledger.client import LedgerClient
from ledger.service import command_queue
from ledger.service.app import BODY_LIMIT
from tests.kits.http_kit import (
    PATIENCE_S,
    connected,
    free_port,
    posted,
    received,
    send_until_cut,
    serving,
    wait_until,
)
from tests.kits.service_kit import ScriptedBackend, envelope


@pytest.fixture
def fake() -> ScriptedBackend:
    return ScriptedBackend()


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"unix:{tmp_path / 's'}"


def ask_health(connection: Any) -> int:
    """The status of a health request on a raw connection."""
    connection.sendall(b"GET /health HTTP/1.1\r\nhost: ledger\r\n\r\n")
    answer = b""
    while not answer.endswith(b"}"):
        answer += connection.recv(65_536)
    return int(answer.split()[1])


def test_an_endless_body_is_cut_off(fake: ScriptedBackend, address: str) -> None:
    head = b"POST /v1/commands HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    part = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with serving(fake.app(), address), connected(address) as connection:
        connection.sendall(head)
        sent = send_until_cut(connection, part, at_most=100 * BODY_LIMIT)
        answer = received(connection)
        assert sent < 8 * BODY_LIMIT
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert LedgerClient(address).submit(envelope())
    assert fake.taken == [envelope()]


def test_a_cut_off_client_does_not_delay_others(fake: ScriptedBackend, address: str) -> None:
    content = json.dumps(envelope(1).to_json()).encode()
    with serving(fake.app(), address):
        for sent in (
            b"POST /v1",
            posted("/v1/commands", content)[:-10],
            posted("/v1/commands", content),
        ):
            with connected(address) as connection:
                connection.sendall(sent)
        with connected(address) as still_open:
            still_open.sendall(posted("/v1/commands", content)[:-10])
            started_s = time.monotonic()
            for number in range(10):
                assert LedgerClient(address).submit(envelope(number))
            assert time.monotonic() - started_s < 5
    assert envelope(9) in fake.taken


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("said", [b"", b"G", b"GET /health HTTP/1.1\r\nhost: x\r\n"])
def test_a_connection_without_a_whole_head_is_closed(
    fake: ScriptedBackend, address: str, before: int, said: bytes
) -> None:
    limits = Limits(head_s=0.2, keep_alive_s=0.2)
    with serving(fake.app(), address, limits=limits), connected(address) as connection:
        for _ in range(before):
            assert ask_health(connection) == 200
        connection.sendall(said)
        started_s = time.monotonic()
        assert received(connection) == b""
        assert time.monotonic() - started_s < 2


def test_a_connection_that_sends_requests_stays_open(fake: ScriptedBackend, address: str) -> None:
    with serving(fake.app(), address, limits=Limits(head_s=0.1)), connected(address) as connection:
        for _ in range(6):
            assert ask_health(connection) == 200
            time.sleep(0.05)


def test_a_head_has_a_limit(fake: ScriptedBackend, address: str) -> None:
    with serving(fake.app(), address), connected(address) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nx: " + b"y" * 100_000)
        assert received(connection).startswith(b"HTTP/1.1 400 ")


def test_a_client_that_stops_reading_its_answer_is_cut_off(
    fake: ScriptedBackend, address: str
) -> None:
    ask = b"GET /v1/read/count?to=1000000 HTTP/1.1\r\nhost: x\r\n\r\n"
    with serving(fake.app(), address, limits=Limits(answer_s=0.2)), connected(address) as stalled:
        stalled.sendall(ask)
        assert stalled.recv(1) == b"H"
        time.sleep(0.6)
        assert len(received(stalled)) < 1_000_000
        assert len(LedgerClient(address).read("count", to=1_000_000)) == 1_000_000


@pytest.mark.parametrize("path", ["/nothing", "/v1/read/echo"])
def test_a_body_that_goes_on_after_the_answer_is_cut_off(
    fake: ScriptedBackend, address: str, path: str
) -> None:
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    with serving(fake.app(), address), connected(address) as connection:
        connection.sendall(head.encode())
        part = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        assert send_until_cut(connection, part, at_most=64 << 20) < 8 << 20


def test_bytes_that_are_no_http_are_refused_in_the_kits_shape(
    fake: ScriptedBackend, address: str
) -> None:
    with serving(fake.app(), address), connected(address) as connection:
        connection.sendall(b"\x16\x03\x01 no http\r\n\r\n")
        head, _, body = received(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["refused"] == "malformed"


def test_a_connection_beyond_the_limit_is_refused(fake: ScriptedBackend, address: str) -> None:
    client = LedgerClient(address)
    with serving(fake.app(), address, limits=Limits(connections=2)):
        with connected(address) as one, connected(address):
            assert ask_health(one) == 200
            with connected(address) as third:
                answer = received(third)
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


def test_in_a_flood_each_request_gets_one_answer_and_a_refused_one_is_not_applied(
    fake: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_queue, "QUEUE_LIMIT", 8)
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

    with serving(fake.app(), f"http://127.0.0.1:{port}"), ThreadPoolExecutor(64) as pool:
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
from gensyn_ray.runtime.address import parse_listen_address
from gensyn_ray.runtime.http_server import serve
from gensyn_ray.runtime.listening import listen
from tests.kits.service_kit import ScriptedBackend

try:
    listener = listen(parse_listen_address(sys.argv[1]))
except GensynError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
fake = ScriptedBackend()
fake.batch_s = 0.2
with listener:
    serve(fake.app(), listener)
print("closed after", len(fake.taken), flush=True)
"""


@contextmanager
def process(address: str) -> Iterator["subprocess.Popen[str]"]:
    """A slow service in its own process. It ends with the test."""
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
