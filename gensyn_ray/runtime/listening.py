"""Where a service listens, what it grants a connection, how it ends.

    unix:PATH                a socket file for its owner and group alone
    http://HOST:PORT
    https://HOST:PORT        with a certificate file and its key file

A connection has seconds to say what it wants and a bounded head to say it in; beyond
`CONNECTION_LIMIT` of them the answer is 503. On SIGTERM or SIGINT nothing more is accepted, what
was asked is answered, and `serve` returns.

Not defended here: whoever can open `CONNECTION_LIMIT` connections and keep them busy shuts others
out. Limits per client belong to a proxy in front.
"""

import asyncio
import fcntl
import json
import os
import signal
import socket
import ssl
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gensyn_ray.domain.errors import UsageError

ADDRESSES = "unix:PATH, http://HOST:PORT or https://HOST:PORT"
SOCKET_MODE = 0o660
CONNECTION_LIMIT = 900
"""Below the 1,024 open files that a process usually has: the journal needs some itself."""

HEAD_S = 10.0
HEAD_LIMIT = 16 * 1024
BACKLOG = 256
STOP_S = 30
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT)

LIMITS: dict[str, Any] = {
    "backlog": BACKLOG,
    "h11_max_incomplete_event_size": HEAD_LIMIT,
    # Longer than clients keep an idle connection: then it is not closed under a new request.
    "timeout_keep_alive": 15,
    "timeout_graceful_shutdown": STOP_S,
}


def listening_on(
    address: str, *, certificate: str | None = None, key: str | None = None
) -> dict[str, Any]:
    """uvicorn's arguments for an address; `certificate` and `key` are PEM files, for https alone.

    Raises `UsageError`.
    """
    if (certificate or key) and not address.startswith("https:"):
        raise UsageError(f"a certificate and its key go with https, not with {address}")
    if address.startswith("unix:"):
        if not (path := address.removeprefix("unix:")):
            raise UsageError(f"{address!r} names no socket: give {ADDRESSES}")
        return {"uds": path}
    host, port = _host_and_port(address)
    if not address.startswith("https:"):
        return {"host": host, "port": port}
    if not certificate or not key:
        raise UsageError(f"{address} needs a certificate file and its key file")
    _check_pair(certificate, key)
    return {"host": host, "port": port, "ssl_certfile": certificate, "ssl_keyfile": key}


def bind(place: dict[str, Any]) -> socket.socket:
    """A socket that listens on what `listening_on` gave, so that nobody else can.

    Raises `UsageError` if somebody does already, or if the place cannot be had.
    """
    try:
        if "uds" in place:
            return _bind_file(Path(place["uds"]))
        return _bind_port(place["host"], place["port"])
    except OSError as error:
        where = place.get("uds") or f"{place['host']}:{place['port']}"
        raise UsageError(f"cannot listen on {where}: {error.strerror or error}") from None


def make_server(app: Callable[..., Any], place: dict[str, Any]) -> uvicorn.Server:
    """A server for one application; `run([socket])` returns once it has ended in order."""
    config = uvicorn.Config(
        app,
        **place,
        **LIMITS,
        http=Connection,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    return Server(config)


def serve(app: Callable[..., Any], place: dict[str, Any], listener: socket.socket) -> None:
    """Run until terminated. What was asked by then is answered when this returns."""
    try:
        make_server(app, place).run([listener])
    finally:
        if "uds" in place:
            Path(place["uds"]).unlink(missing_ok=True)


class Server(uvicorn.Server):
    """Returns after a signal instead of dying of it: its caller has a store to close."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {one: signal.signal(one, self.handle_exit) for one in ENDING_SIGNALS}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


class Connection(H11Protocol):
    """One connection, which has `HEAD_S` for each request's head, and is turned away if too many.

    uvicorn's own limit answers in plain text, and counts silent connections without closing them.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        if len(self.connections) > CONNECTION_LIMIT:
            transport.write(TURNED_AWAY)
            transport.close()
        else:
            self._deadline = self.loop.call_later(HEAD_S, transport.close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        begun = self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
        if not begun:
            self._forget_deadline()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_S, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        super().connection_lost(exc)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _turned_away() -> bytes:
    detail = "too many connections; send the same command again later"
    body = json.dumps({"refused": "overloaded", "detail": detail}).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nretry-after: 1\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


TURNED_AWAY = _turned_away()


def _host_and_port(address: str) -> tuple[str, int]:
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"{address!r} is no address ({error}): give {ADDRESSES}") from None
    bare = f"{parts.scheme}://{parts.netloc}"
    if parts.scheme not in ("http", "https") or bare != address.rstrip("/") or "@" in address:
        raise UsageError(f"{address!r} is no address to listen on: give {ADDRESSES}")
    if not host or not port:
        raise UsageError(f"{address!r} lacks a host or a port from 1 to 65535")
    return host, port


def _check_pair(certificate: str, key: str) -> None:
    for path in (certificate, key):
        if not os.access(path, os.R_OK):
            raise UsageError(f"cannot read {path}: a PEM file is needed there")
    try:
        # A key with a passphrase would ask for it on the terminal; a service has none.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, lambda: "")
    except (OSError, ValueError) as error:
        raise UsageError(f"{certificate} and {key} are no certificate and key: {error}") from None


def _bind_file(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        # Of two that start at once, the second must see the first one listen.
        fcntl.flock(folder, fcntl.LOCK_EX)
        _clear_stale(path)
        listener.bind(str(path))
        # Nobody can connect before `listen`, so the mode is never wider than this.
        path.chmod(SOCKET_MODE)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(folder)
    return listener


def _clear_stale(path: Path) -> None:
    """Remove a socket file that nobody listens on."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UsageError(f"{path} exists and is no socket: choose another path")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except (BlockingIOError, TimeoutError):
            pass  # so busy that it lets nobody in, but alive
    raise UsageError(f"a service already listens on {path}")


def _bind_port(host: str, port: int) -> socket.socket:
    family, _, _, _, where = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family)
    try:
        # Ports of connections that are over may be taken again at once; live ones may not.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
