"""The limits of HTTP daemons: the ledger's service, the presigner and the operator's agent."""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from starlette.types import ASGIApp

import gensyn_ray.operators.agent_daemon
import gensyn_ray.services.presigner
import ledger.service.app
from gensyn_ray.domain.signing import Envelope
from gensyn_ray.object_store.grants import Grant
from gensyn_ray.runtime import http_body
from gensyn_ray.runtime.http_server import Limits
from tests.kits.agent_kit import make_agent
from tests.kits.fake_ledger import FakeLedger
from tests.kits.http_kit import connected, posted, received, send_until_cut, serving
from tests.kits.service_kit import ScriptedBackend

LIMITS = Limits(connections=4, head_s=0.3, keep_alive_s=0.3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """An application. `path` takes bodies of at most `limit_bytes`."""

    app: ASGIApp
    path: str
    limit_bytes: int


def ledger_service() -> Daemon:
    return Daemon(
        app=ScriptedBackend().app(), path="/v1/commands", limit_bytes=ledger.service.app.BODY_LIMIT
    )


def presigner() -> Daemon:
    def grant(envelope: Envelope) -> Grant:
        raise AssertionError("a request without a valid body came through")

    return Daemon(
        app=gensyn_ray.services.presigner.make_app(grant),
        path="/v1/objects",
        limit_bytes=gensyn_ray.services.presigner.BODY_LIMIT,
    )


def agent() -> Daemon:
    return Daemon(
        app=gensyn_ray.operators.agent_daemon.make_app(make_agent(FakeLedger())),
        path="/slot",
        limit_bytes=gensyn_ray.operators.agent_daemon.BODY_LIMIT,
    )


@pytest.fixture(params=[ledger_service, presigner, agent], ids=lambda make: make.__name__)
def daemon(request: pytest.FixtureRequest) -> Daemon:
    return request.param()


@pytest.fixture
def address(tmp_path: Path, daemon: Daemon) -> Iterator[str]:
    """The address of the running daemon, with short limits."""
    address = f"unix:{tmp_path / 's'}"
    with serving(daemon.app, address, limits=LIMITS):
        yield address


def refusal(answer: bytes) -> tuple[int, str]:
    """(status, reason) of an answer in the format of the HTTP kit."""
    head, _, body = answer.partition(b"\r\n\r\n")
    value = json.loads(body)
    assert set(value) == {"refused", "detail"}
    assert b"application/json" in head
    assert len(body) < 1_000
    return int(head.split()[1]), value["refused"]


def ask(address: str, content: bytes) -> tuple[int, str]:
    """The refusal of bytes on a new connection."""
    with connected(address) as connection:
        connection.sendall(content)
        return refusal(one_answer(connection))


def one_answer(connection: socket.socket) -> bytes:
    """The next answer of a connection, which may stay open."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        part = connection.recv(65_536)
        assert part, f"closed after {answer!r}"
        answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65_536)
    return head + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"\xff", b"[" * 4_000, b'{"a":' * 700, b"NaN", b"9" * 4_096],
)
def test_a_body_that_is_no_request_is_malformed(
    daemon: Daemon, address: str, content: bytes
) -> None:
    assert ask(address, posted(daemon.path, content)) == (400, "malformed")


def test_a_body_that_declares_too_much_is_not_read(daemon: Daemon, address: str) -> None:
    with connected(address) as connection:
        head = posted(daemon.path, b"").replace(b": 0\r\n", b": 9999999999\r\n")
        connection.sendall(head)
        assert refusal(received(connection)) == (413, "too large")


def test_a_body_without_an_end_is_cut_off(daemon: Daemon, address: str) -> None:
    head = posted(daemon.path, b"").replace(b"content-length: 0", b"transfer-encoding: chunked")
    with connected(address) as connection:
        connection.sendall(head)
        part = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
        sent = send_until_cut(connection, part, at_most=64 << 20)
        assert sent < daemon.limit_bytes + (4 << 20)
        assert received(connection).startswith((b"HTTP/1.1 413 ", b""))


def test_a_body_that_does_not_arrive_is_given_up(
    daemon: Daemon, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_body, "BODY_S", 0.2)
    with connected(address) as connection:
        connection.sendall(posted(daemon.path, b"x" * 100)[:-1])
        assert refusal(received(connection)) == (408, "too slow")


def test_a_body_in_single_bytes_has_no_more_time(
    daemon: Daemon, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_body, "BODY_S", 0.3)
    started_s = time.monotonic()
    with connected(address) as connection:
        connection.sendall(posted(daemon.path, b"x" * 1_000)[:-1_000])
        while send_until_cut(connection, b"x", at_most=1):
            time.sleep(0.02)
            assert time.monotonic() - started_s < 10


@pytest.mark.parametrize("head", [b"", b"P", b"POST / HTTP/1.1\r\nhost: x\r\n"])
def test_a_head_that_does_not_end_closes_the_connection(address: str, head: bytes) -> None:
    with connected(address) as connection:
        connection.sendall(head)
        assert received(connection) == b""


def test_a_head_that_is_too_large_is_malformed(address: str) -> None:
    with connected(address) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nx: " + b"y" * 100_000)
        assert received(connection).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "content", [b"\x16\x03\x01\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/1.1\r\n\0\r\n\r\n"]
)
def test_bytes_that_are_no_http_are_malformed(address: str, content: bytes) -> None:
    assert ask(address, content) == (400, "malformed")


def test_an_unknown_path_and_another_method_are_refused(daemon: Daemon, address: str) -> None:
    assert ask(address, posted("/no/thing", b"{}")) == (404, "unknown request")
    wrong = b"DELETE" + posted(daemon.path, b"").removeprefix(b"POST")
    assert ask(address, wrong) == (405, "wrong method")


def test_a_connection_beyond_the_limit_is_refused(daemon: Daemon, address: str) -> None:
    idle = [socket.socket(socket.AF_UNIX) for _ in range(LIMITS.connections)]
    for one in idle:
        one.connect(address.removeprefix("unix:"))
    with connected(address) as connection:
        assert refusal(received(connection)) == (503, "overloaded")
    for one in idle:
        one.close()


def test_many_connections_at_once_are_each_answered_or_cut_off(
    daemon: Daemon, address: str
) -> None:
    def one(_: int) -> tuple[int, str]:
        try:
            return ask(address, posted(daemon.path, b"{"))
        except ConnectionError:  # the refusal of a connection can arrive before its request is sent
            return 503, "overloaded"

    with ThreadPoolExecutor(32) as pool:
        answers = set(pool.map(one, range(200)))
    assert answers <= {(400, "malformed"), (503, "overloaded")}
    assert (400, "malformed") in answers
