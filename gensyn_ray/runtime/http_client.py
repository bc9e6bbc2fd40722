"""httpx clients for the addresses that the daemons listen on."""

import ssl

import httpx

from gensyn_ray.domain.errors import UsageError
from gensyn_ray.runtime.address import UNIX


def make_client(address: str, *, timeout_s: float, ca_file: str | None = None) -> httpx.Client:
    """A connection pool for one address: `unix:PATH`, `http://HOST:PORT` or `https://HOST:PORT`.

    `timeout_s`: how long to wait for each part of an answer. `ca_file`: PEM certificates that vouch
    for an https address, instead of the system's. Raises `UsageError` if they cannot be read.
    """
    trust = _trust(address, ca_file)
    if not address.startswith(UNIX):
        return httpx.Client(base_url=address, timeout=timeout_s, verify=trust)
    transport = httpx.HTTPTransport(uds=address.removeprefix(UNIX), retries=1, verify=trust)
    return httpx.Client(base_url="http://localhost", transport=transport, timeout=timeout_s)


def _trust(address: str, ca_file: str | None) -> ssl.SSLContext:
    if address.startswith("https:"):
        try:
            return ssl.create_default_context(cafile=ca_file)
        except (OSError, ValueError) as error:
            raise UsageError(f"{ca_file} holds no CA certificates: {error}") from None
    if ca_file is not None:
        raise UsageError(f"a CA file goes with https, not with {address}")
    # Never used. Loading the system's certificates would take tens of milliseconds.
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
