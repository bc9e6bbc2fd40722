"""Client of a ledger service at `unix:PATH`, `http://HOST:PORT` or `https://HOST:PORT`.

`LedgerClient` holds no key. `Signer` holds one and signs commands.
"""

import secrets
import ssl
from collections.abc import Callable
from typing import Any

import httpx

from gensyn_ray.domain import signing
from gensyn_ray.domain.clock import Clock
from gensyn_ray.domain.errors import OperationError, Refused, Unreachable
from gensyn_ray.domain.signing import Envelope, SigningKey
from gensyn_ray.runtime.http_client import make_client
from ledger.core import orders
from ledger.core.commands import Command

COMMAND_LIFE_MS = 60_000


class LedgerClient:
    """One connection pool to one address. Safe to use from several threads.

    `timeout_s`: limit for each read of an answer. `ca_file`: PEM file of CA certificates for an
    https address, instead of the system's. Raises `UsageError` if it cannot be read.
    """

    def __init__(
        self, address: str, *, timeout_s: float = 10.0, ca_file: str | None = None
    ) -> None:
        self.address = address
        self._http = make_client(address, timeout_s=timeout_s, ca_file=ca_file)

    def submit(self, envelope: Envelope) -> dict[str, Any]:
        """Send a command and return the answer, `{"receipt": ...}`.

        Raises `Refused`, `Unreachable` and `OperationError`.
        """
        return self._answer("POST", "/v1/commands", json=envelope.to_json())

    def read(self, view: str, **parameters: str | int) -> Any:
        """A reading, with the view's parameters. Raises `Refused` if there is no such view."""
        return self._answer("GET", f"/v1/read/{view}", params=parameters)

    def close(self) -> None:
        self._http.close()

    def _answer(self, method: str, path: str, **request: Any) -> Any:
        try:
            response = self._http.request(method, path, **request)
        except httpx.HTTPError as error:
            raise Unreachable(self._why_unreachable(error)) from None
        try:
            value = response.json()
        except ValueError:
            if response.status_code == 503:
                raise Refused("overloaded", "send the same again later") from None
            raise OperationError(
                f"the ledger at {self.address} answered {response.status_code} without JSON"
            ) from None
        if isinstance(value, dict) and "refused" in value:
            raise Refused(str(value["refused"]), str(value.get("detail", "")))  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
        if not response.is_success:
            raise OperationError(f"the ledger at {self.address} answered {response.status_code}")
        return value

    def _why_unreachable(self, error: httpx.HTTPError) -> str:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return (
                    f"the certificate of {self.address} is not trusted "
                    f"({cause.verify_message}): check the address and the CA file"
                )
            cause = cause.__cause__ or cause.__context__
        return (
            f"no ledger answers at {self.address} ({type(error).__name__}): "
            "check that the authority runs and the address is right"
        )


class Signer:
    """Signs commands in one role for one network. `nonce` returns a new text for each call."""

    def __init__(
        self,
        key: SigningKey,
        *,
        role: str,
        network: str,
        genesis: str,
        clock: Clock,
        nonce: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self.key = key
        self._role = role
        self._network = network
        self._genesis = genesis
        self._clock = clock
        self._nonce = nonce
        self._size = 0
        self._head = ""

    @property
    def party(self) -> str:
        return self.key.party

    def sign(self, command: Command) -> Envelope:
        """Sign a command; the envelope expires after one minute."""
        return orders.write(
            self.key,
            command,
            network=self._network,
            genesis=self._genesis,
            role=self._role,
            nonce=self._nonce(),
            expiry_ms=self._clock() + COMMAND_LIFE_MS,
            head=self._head,
        )

    def saw(self, head: str) -> None:
        """Remember the newest log head that a receipt shows.

        Later commands quote it, so a ledger that has lost acknowledged entries refuses them.
        """
        size = int(head.partition(":")[0])
        if size > self._size:
            self._size, self._head = size, head


def check_receipt(receipt: Any, network_key: bytes) -> dict[str, Any]:
    """The body of a receipt. Raises `ValueError` unless the network signed it."""
    return signing.unseal(Envelope.from_json(receipt), signing.RECEIPT, expected_key=network_key)
