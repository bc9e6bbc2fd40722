"""Real servers in threads, and raw connections to their sockets."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from starlette.types import ASGIApp

from gensyn_ray.runtime.address import parse_listen_address
from gensyn_ray.runtime.http_server import LIMITS, Limits, make_server
from gensyn_ray.runtime.listening import listen

PATIENCE_S = 20.0


@contextmanager
def serving(app: ASGIApp, address: str, *, limits: Limits = LIMITS, **tls: str) -> Iterator[None]:
    """Run the application behind a real server in a thread. Stops it in order at the exit."""
    where = parse_listen_address(address, **tls)
    with listen(where) as listener:
        server = make_server(app, where, limits=limits)
        thread = threading.Thread(target=server.run, args=([listener.socket],))
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield
        finally:
            server.should_exit = True
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


def wait_until(true: Callable[[], bool]) -> None:
    """Wait until `true()` holds. Fails after `PATIENCE_S`."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.005)


def free_port() -> int:
    """A free TCP port of 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@contextmanager
def connected(address: str) -> Iterator[socket.socket]:
    """A raw connection to a Unix socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE_S)
        connection.connect(address.removeprefix("unix:"))
        yield connection


def received(connection: socket.socket) -> bytes:
    """All bytes until the other side closes or resets the connection."""
    answer = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            answer += part
    return answer


def send_until_cut(connection: socket.socket, part: bytes, *, at_most: int) -> int:
    """The number of bytes that the other side accepted before it cut the connection."""
    sent = 0
    with suppress(ConnectionError):
        while sent < at_most:
            connection.sendall(part)
            sent += len(part)
    return sent


def posted(path: str, content: bytes) -> bytes:
    """The bytes of a POST request."""
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(content)}\r\n\r\n"
    return head.encode() + content
