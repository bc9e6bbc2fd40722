"""An HTTP proxy between a client and a real server, with planned faults.

    with FaultyProxy(server_port) as proxy:
        proxy.plan("GET", Fault.SLOW_DOWN, Fault.RESET)   # the next two GETs; then all is well

The faults are those of networks and busy stores. Requests travel unchanged, headers included, so
signatures that cover the host stay valid.
"""

import http.client
import socket
import struct
import threading
from collections.abc import Mapping
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


class Fault(Enum):
    """`LOST_ANSWER`: the server applies the request; the connection breaks before its answer."""

    SLOW_DOWN = auto()
    SERVER_ERROR = auto()
    FORBIDDEN = auto()
    RESET = auto()
    SILENCE = auto()
    TRUNCATED = auto()
    OTHER_BYTES = auto()
    LOST_ANSWER = auto()


ANSWERS = {
    Fault.SLOW_DOWN: (503, "SlowDown"),
    Fault.SERVER_ERROR: (500, "InternalError"),
    Fault.FORBIDDEN: (403, "AccessDenied"),
}
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding"}
NO_LINGER = struct.pack("ii", 1, 0)


class FaultyProxy:
    """A context manager that listens on `port`. `seen`: the methods of all requests."""

    def __init__(self, backend: int) -> None:
        self._backend = backend
        self._plans: list[tuple[str, Fault]] = []
        self._always: dict[str, tuple[str, Fault]] = {}
        self._lock = threading.Lock()
        self.released = threading.Event()
        self.seen: list[str] = []
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> "FaultyProxy":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def plan(self, method: str, *faults: Fault) -> None:
        """Plan the faults of the next requests of a method, one for each request."""
        self._plans += [(method, fault) for fault in faults]

    def always(self, method: str, fault: Fault, where: str = "") -> None:
        """Plan a fault for every request of a method whose path contains `where`."""
        self._always[method] = (where, fault)

    def left(self) -> int:
        """The planned faults that have not happened."""
        return len(self._plans)

    def fault_of(self, method: str, path: str) -> Fault | None:
        """The fault of an arriving request."""
        with self._lock:
            self.seen.append(method)
            for index, (planned, fault) in enumerate(self._plans):
                if planned == method:
                    del self._plans[index]
                    return fault
            where, fault = self._always.get(method, ("", None))
            return fault if where in path else None

    def forward(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """The real server's answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._backend, timeout=60)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            if name.lower() not in HOP_BY_HOP | {"expect"}:
                connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, answer.getheaders(), content


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: FaultyProxy

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        fault = self.owner.fault_of(self.command, self.path)
        if fault is Fault.RESET:
            return self._reset()
        if fault is Fault.SILENCE:
            self.owner.released.wait(60)
            return self._reset()
        if fault in ANSWERS:
            status, code = ANSWERS[fault]
            text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>"
            return self._answer(status, [("content-type", "application/xml")], text.encode())
        status, headers, content = self.owner.forward(
            self.command, self.path, dict(self.headers.items()), body
        )
        if fault is Fault.LOST_ANSWER:
            return self._reset()
        if fault is Fault.OTHER_BYTES:
            content = bytes(byte ^ 1 for byte in content)
        return self._answer(status, headers, content, cut=fault is Fault.TRUNCATED)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _serve

    def _answer(
        self, status: int, headers: list[tuple[str, str]], content: bytes, *, cut: bool = False
    ) -> None:
        self.send_response_only(status)
        is_head = self.command == "HEAD"
        for name, value in headers:
            if name.lower() not in HOP_BY_HOP and (is_head or name.lower() != "content-length"):
                self.send_header(name, value)
        if not is_head:
            self.send_header("content-length", str(len(content)))
        self.end_headers()
        if not is_head:
            self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.wfile.flush()
            self._reset(gently=True)

    def _reset(self, *, gently: bool = False) -> None:
        """Close the connection, with an RST unless `gently`."""
        if not gently:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            self.connection.close()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """No log: tests check results."""
