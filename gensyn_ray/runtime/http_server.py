"""The server of every daemon: limits of a connection, and an end in order.

A connection has seconds to send a request's head, and the head has a size limit. A client that
stops reading its answer is cut off. Connections beyond the limit are answered with 503. On SIGTERM
or SIGINT the server accepts no more connections, answers the requests that it has, and `serve`
returns.

Not defended here: a client that keeps `Limits.connections` connections busy shuts others out.
Limits per client belong to a proxy in front.
"""

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from gensyn_ray.runtime.address import ListenAddress, TcpPort
from gensyn_ray.runtime.http_answers import CLOSE, HttpRefusal, RequestRefused
from gensyn_ray.runtime.listening import BACKLOG, Listener

ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a server. Times are in seconds.

    `connections`: below the 1,024 open files that a process usually has, because a service needs
    files of its own. `head_s`: how long a request's head may take. `answer_s`: how long a client
    may take to read an answer. `keep_alive_s`: how long a connection may idle; longer than clients
    keep one, so that no connection is closed under a new request. `stop_s`: how long requests may
    take after a signal.
    """

    connections: int = 900
    head_bytes: int = 16 * 1024
    head_s: float = 10.0
    answer_s: float = 120.0
    keep_alive_s: float = 15.0
    stop_s: float = 30.0


LIMITS = Limits()


def make_server(app: ASGIApp, address: ListenAddress, *, limits: Limits = LIMITS) -> uvicorn.Server:
    """A server for one application; `run([socket])` returns once it has ended in order."""
    tls = address.tls if isinstance(address, TcpPort) else None
    config = uvicorn.Config(
        app,
        http=partial(Connection, limits=limits),  # pyright: ignore[reportArgumentType]
        ws="none",
        lifespan="on",
        backlog=BACKLOG,
        h11_max_incomplete_event_size=limits.head_bytes,
        timeout_keep_alive=limits.keep_alive_s,  # pyright: ignore[reportArgumentType]
        timeout_graceful_shutdown=limits.stop_s,  # pyright: ignore[reportArgumentType]
        ssl_certfile=tls.certificate if tls else None,
        ssl_keyfile=tls.key if tls else None,
        # A warning for each malformed request would let any client fill the disk with log lines.
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    return Server(config)


def serve(app: ASGIApp, listener: Listener) -> None:
    """Run until terminated. Requests that the server has by then are answered. The caller closes
    the listener."""
    make_server(app, listener.address).run([listener.socket])


class Server(uvicorn.Server):
    """Returns after a signal instead of dying of it: its caller has files to close."""

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
    """One connection within `limits`.

    uvicorn's own connection limit answers in plain text and does not close silent connections.
    """

    _deadline: asyncio.TimerHandle | None = None
    _answer_deadline: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, limits: Limits, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            detail = "too many connections; send the same request again later"
            self._answer_and_close(RequestRefused(HttpRefusal.OVERLOADED, detail))
        else:
            self._deadline = self.loop.call_later(self._limits.head_s, transport.close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        begun = self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
        if not begun:
            self._forget_deadline()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self._limits.head_s, self.transport.close)

    def pause_writing(self) -> None:
        """Called when the client does not take the answer as fast as it is written."""
        super().pause_writing()
        self._answer_deadline = self.loop.call_later(self._limits.answer_s, self.transport.abort)

    def resume_writing(self) -> None:
        self._forget_answer_deadline()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        self._answer_and_close(RequestRefused(HttpRefusal.MALFORMED, msg))

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            # The answer came before the body's end: the rest of the body has no limit.
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        self._forget_answer_deadline()
        super().connection_lost(exc)

    def _answer_and_close(self, refused: RequestRefused) -> None:
        response = refused.answer()
        for name, value in CLOSE.items():
            response.headers[name] = value
        head = h11.Response(status_code=response.status_code, headers=response.raw_headers)
        parts = [head, h11.Data(data=bytes(response.body)), h11.EndOfMessage()]
        self.transport.write(b"".join(self.conn.send(part) or b"" for part in parts))
        self.transport.close()

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _forget_answer_deadline(self) -> None:
        if self._answer_deadline is not None:
            self._answer_deadline.cancel()
            self._answer_deadline = None
