"""What a node asks of the presigner, and how: signed by its operator's key, answered with a link.

    POST /v1/objects   {"body", "signature"} -> {"url", "headers"} or {"refused", "detail"}

The body is an `ObjectRequest` and the operator's public key; the signature is under a domain tag of
its own, so that it is worth nothing as a command to the ledger.

Not defended: whoever overhears an answer can use its link until it expires. Off one's own machine
the presigner belongs behind TLS.
"""

from dataclasses import dataclass
from typing import Any, Literal

import httpx

from gensyn_ray.domain import signing
from gensyn_ray.domain.errors import OperationError, Refused
from gensyn_ray.domain.signing import Envelope, SigningKey
from gensyn_ray.object_store.retrying import Patience, Transient
from gensyn_ray.runtime.http_client import make_client

TAG = b"gensyn-ray/object/v1\n"
REQUEST_LIFE_MS = 60_000
KINDS = ("bundles", "manifests", "data", "specs", "states")
Method = Literal["get", "put"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRequest:
    """One object of one trial's task. `kind` is one of `KINDS`, `digest` names the object in it.
    `genesis` is the network's, `expires_ms` the time in Unix milliseconds."""

    genesis: str
    job: str
    trial: str
    method: Method
    kind: str
    digest: str
    expires_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A link and the headers that go with it. `url` is empty where what was to be stored is stored
    already, and was found whole."""

    url: str
    headers: dict[str, str]


def sign(key: SigningKey, request: ObjectRequest) -> Envelope:
    """The request as it travels."""
    return signing.seal(key, TAG, {name: getattr(request, name) for name in request.__slots__})


class GrantClient:
    """Asks the presigner at `unix:PATH`, `http://HOST:PORT` or `https://HOST:PORT`."""

    def __init__(self, address: str, patience: Patience | None = None) -> None:
        self._address = address
        # Shorter than a worker waits for its agent.
        self._patience = patience or Patience(attempts=4, longest_pause_s=2.0, timeout_s=5.0)
        self._http = make_client(address, timeout_s=self._patience.timeout_s)

    def ask(self, envelope: Envelope) -> dict[str, Any]:
        """A grant's fields. Raises `Refused` with the presigner's reason, `Unreachable`."""
        what = f"asking the presigner at {self._address}"
        return self._patience.persist(lambda: self._ask(envelope, what), what=what)

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
