"""Addresses of HTTP services.

unix:PATH                a socket file
http://HOST:PORT
https://HOST:PORT        with a certificate file and its key file
"""

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from gensyn_ray.domain.errors import UsageError

ADDRESSES = "unix:PATH, http://HOST:PORT or https://HOST:PORT"
UNIX = "unix:"


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketFile:
    """A Unix socket. `group`: name or number of the group that may connect beside the owner; empty
    keeps the group that the system gives to new files."""

    path: Path
    group: str = ""

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Paths of PEM files."""

    certificate: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpPort:
    """A TCP port of one host. `tls` is None for plain HTTP."""

    host: str
    port: int
    tls: TlsFiles | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


ListenAddress = SocketFile | TcpPort


def parse_listen_address(
    text: str, *, certificate: str | None = None, key: str | None = None
) -> ListenAddress:
    """The address that `text` spells. `certificate` and `key` are PEM files, for https only.

    Raises `UsageError` if the text is no address or the files are no certificate and key.
    """
    if (certificate or key) and not text.startswith("https:"):
        raise UsageError(f"a certificate and its key go with https, not with {text}")
    if text.startswith(UNIX):
        if not (path := text.removeprefix(UNIX)):
            raise UsageError(f"{text!r} names no socket: give {ADDRESSES}")
        return SocketFile(path=Path(path))
    host, port = _host_and_port(text)
    if not text.startswith("https:"):
        return TcpPort(host=host, port=port)
    if not certificate or not key:
        raise UsageError(f"{text} needs a certificate file and its key file")
    _check_pair(certificate, key)
    return TcpPort(host=host, port=port, tls=TlsFiles(certificate=certificate, key=key))


def _host_and_port(text: str) -> tuple[str, int]:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"{text!r} is no address ({error}): give {ADDRESSES}") from None
    bare = f"{parts.scheme}://{parts.netloc}"
    if parts.scheme not in ("http", "https") or bare != text.rstrip("/") or "@" in text:
        raise UsageError(f"{text!r} is no address to listen on: give {ADDRESSES}")
    if not host or not port:
        raise UsageError(f"{text!r} lacks a host or a port from 1 to 65535")
    return host, port


def _check_pair(certificate: str, key: str) -> None:
    for path in (certificate, key):
        if not os.access(path, os.R_OK):
            raise UsageError(f"cannot read {path}: a PEM file is needed there")
    try:
        # OpenSSL would ask for a passphrase on the terminal, and a service has no terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, lambda: "")
    except (OSError, ValueError) as error:
        raise UsageError(f"{certificate} and {key} are no certificate and key: {error}") from None
