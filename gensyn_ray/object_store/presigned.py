"""Objects of one task through presigned links, for volunteers without credentials.

Each attempt asks for a new link, so an expired link is never used again.

Not covered: objects above 5 GiB, the limit of a bucket for one request. Not defended: a store or
presigner that sends other bytes; `Blobs` checks digests.
"""

from collections.abc import Callable

import httpx

from gensyn_ray.domain.errors import OperationError
from gensyn_ray.object_store.grants import Grant, Method
from gensyn_ray.object_store.objects import Missing
from gensyn_ray.object_store.retry import RetryPolicy, Transient

Ask = Callable[[Method, str, str], Grant]
"""`ask(method, kind, digest)` returns a grant. Raises `Refused` and `Unreachable`."""
EXISTS = 412
TRANSIENT = (408, 409, 429)
"""Statuses to retry, as 5xx: timeout, two conditional puts at once, too many requests."""


class Presigned:
    """Implements `Objects`. `where`: the store's address without options, for messages."""

    def __init__(self, ask: Ask, *, where: str, retry: RetryPolicy | None = None) -> None:
        self._ask = ask
        self._where = where
        self._retry = retry or RetryPolicy()
        self._http = httpx.Client(timeout=self._retry.timeout_s)

    def get(self, key: str) -> bytes:
        what = f"reading {self._where}/{key}"
        return self._retry.run(lambda: self._get(key, what), what=what)

    def put(self, key: str, data: bytes) -> None:
        what = f"storing {self._where}/{key}"
        self._retry.run(lambda: self._put(key, data, what), what=what)

    def _get(self, key: str, what: str) -> bytes:
        response = self._send("get", key, None, what)
        if response.status_code == 404:
            raise Missing(f"the object store has no {self._where}/{key}")
        return response.content

    def _put(self, key: str, data: bytes, what: str) -> None:
        response = self._send("put", key, data, what)
        if response.status_code == EXISTS:
            # An earlier attempt or another writer stored it. The presigner checks the object before
            # it gives the next link.
            raise Transient("an object is there already")
        if response.status_code == 404:
            raise OperationError(f"{what} failed: there is no such bucket")

    def _send(self, method: Method, key: str, data: bytes | None, what: str) -> httpx.Response:
        kind, _, digest = key.partition("/")
        grant = self._ask(method, kind, digest)
        if not grant.url:
            return httpx.Response(200)
        try:
            response = self._http.request(
                method.upper(), grant.url, headers=grant.headers, content=data
            )
        except httpx.TransportError as error:
            # The error's text may hold the link with its signature.
            raise Transient(type(error).__name__) from None
        status = response.status_code
        is_stalled = status == 400 and b"<Code>RequestTimeout</Code>" in response.content
        if status >= 500 or status in TRANSIENT or is_stalled:
            raise Transient(f"status {status}")
        if response.is_success or status in (404, EXISTS):
            return response
        why = "the store forbids it" if status == 403 else f"the store answered {status}"
        raise OperationError(
            f"{what} failed: {why}; the network's runner should look at the presigner's "
            "credentials and clock"
        )
