"""Requests to the presigner: signed by an operator's key, answered with a presigned link.

    POST /v1/objects   {"body", "signature"} -> {"url", "headers"} or {"refused", "detail"}

The body is an `ObjectRequest` and the operator's public key. The signature has its own domain tag,
so that it is invalid as a ledger command.

Not defended: an eavesdropper can use a link until it expires. Use TLS between machines.
"""

from dataclasses import dataclass
from typing import Any, Literal

import httpx

from gensyn_ray.domain import signing
from gensyn_ray.domain.errors import OperationError, Refused
from gensyn_ray.domain.signing import Envelope, SigningKey
from gensyn_ray.object_store.retry import RetryPolicy, Transient
from gensyn_ray.runtime.http_client import make_client

TAG = b"gensyn-ray/object/v1\n"
REQUEST_LIFE_MS = 60_000
KINDS = ("bundles", "manifests", "data", "specs", "states")
Method = Literal["get", "put"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRequest:
    """One object of one trial's task.

    `genesis`: the network's. `kind`: one of `KINDS`. `digest`: of the object. `expires_ms`: Unix
    milliseconds after which the request is invalid.
    """

    genesis: str
    job: str
    trial: str
    method: Method
    kind: str
    digest: str
    expires_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A presigned link and its headers. `url` is empty if the object to store exists already and is
    whole."""

    url: str
    headers: dict[str, str]


def sign(key: SigningKey, request: ObjectRequest) -> Envelope:
    """Sign a request."""
    return signing.seal(key, TAG, {name: getattr(request, name) for name in request.__slots__})


class GrantClient:
    """Client of the presigner at `unix:PATH`, `http://HOST:PORT` or `https://HOST:PORT`."""

    def __init__(self, address: str, retry: RetryPolicy | None = None) -> None:
        self._address = address
        # Ends before a worker's request to its agent times out.
        self._retry = retry or RetryPolicy(attempts=4, longest_pause_s=2.0, timeout_s=5.0)
        self._http = make_client(address, timeout_s=self._retry.timeout_s)

    def ask(self, envelope: Envelope) -> dict[str, Any]:
        """The fields of a grant. Raises `Refused` (by the presigner) and `Unreachable`."""
        what = f"asking the presigner at {self._address}"
        return self._retry.run(lambda: self._ask(envelope, what), what=what)

    def _ask(self, envelope: Envelope, what: str) -> dict[str, Any]:
        try:
            response = self._http.post("/v1/objects", json=envelope.to_json())
            value: dict[str, Any] = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Transient(type(error).__name__) from None
        if response.status_code >= 500:
            raise Transient(str(value.get("detail", response.status_code)))
        if "refused" in value:
            raise Refused(str(value["refused"]), str(value.get("detail", "")))
        if response.status_code != 200:
            raise OperationError(f"{what} failed: it answered {response.status_code}")
        return value
