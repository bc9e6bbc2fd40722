"""Talks to a ledger service over a Unix socket (`unix:PATH`) or TCP (`http://HOST:PORT`).

Holds no key. A caller signs with `Signer`, which needs one.
"""

import secrets
from typing import Any

import httpx

from gensyn_ray.domain import signing
from gensyn_ray.domain.clock import Clock
from gensyn_ray.domain.errors import OperationError, Refused, Unreachable
from gensyn_ray.domain.signing import Envelope, SigningKey
from ledger.core import orders
from ledger.core.commands import Command

COMMAND_LIFE_MS = 60_000


class LedgerClient:
    """One connection pool to one address. Safe to use from several threads."""

    def __init__(self, address: str, *, timeout_s: float = 10.0) -> None:
        self.address = address
        path = address.removeprefix("unix:")
        transport = httpx.HTTPTransport(uds=path, retries=1) if path != address else None
        base = "http://ledger" if transport else address
        self._http = httpx.Client(base_url=base, transport=transport, timeout=timeout_s)

    def submit(self, envelope: Envelope) -> dict[str, Any]:
        """The service's answer: its receipt, or `Refused`."""
        return self._answer("POST", "/v1/commands", json=envelope.to_json())

    def read(self, view: str, **parameters: str | int) -> Any:
        """A reading. Raises `Refused` if there is no such view."""
        return self._answer("GET", f"/v1/read/{view}", params=parameters)

    def close(self) -> None:
        self._http.close()

    def _answer(self, method: str, path: str, **request: Any) -> Any:
        try:
            response = self._http.request(method, path, **request)
        except httpx.HTTPError as error:
            raise Unreachable(
                f"no ledger answers at {self.address} ({type(error).__name__}): "
                "check that the authority runs and the address is right"
            ) from None
        try:
            value = response.json()
        except ValueError:
            raise OperationError(
                f"the ledger at {self.address} answered {response.status_code} without JSON"
            ) from None
        if isinstance(value, dict) and "refused" in value:
            raise Refused(str(value["refused"]), str(value.get("detail", "")))  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
        response.raise_for_status()
        return value


class Signer:
    """Signs commands in one role for one network."""

    def __init__(
        self, key: SigningKey, *, role: str, network: str, genesis: str, clock: Clock
    ) -> None:
        self.key = key
        self._role = role
        self._network = network
        self._genesis = genesis
        self._clock = clock

    @property
    def party(self) -> str:
        return self.key.party

    def sign(self, command: Command) -> Envelope:
        """An envelope that is good for one minute."""
        return orders.write(
            self.key,
            command,
            network=self._network,
            genesis=self._genesis,
            role=self._role,
            nonce=secrets.token_hex(8),
            expiry_ms=self._clock() + COMMAND_LIFE_MS,
        )


def check_receipt(receipt: Any, network_key: bytes) -> dict[str, Any]:
    """The body of a receipt that the network signed. Raises `ValueError`."""
    return signing.unseal(Envelope.from_json(receipt), signing.RECEIPT, expected_key=network_key)
