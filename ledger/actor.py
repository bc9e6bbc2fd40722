"""The Ray relay: lets clients that reach only Ray reach the authority.

It holds no key. It passes signed envelopes and readings on, and can neither change the first nor
forge the receipts that come back.
"""

from typing import Any

from gensyn_ray.domain.errors import Refused
from gensyn_ray.domain.signing import Envelope
from ledger.client import LedgerClient

RELAY_NAME = "gensyn-ledger"
NAMESPACE = "gensyn"


class LedgerRelay:
    """Named actor on the head. `facts`: what a client needs to know of the network."""

    def __init__(self, ledger_address: str, facts: dict[str, str]) -> None:
        self._ledger = LedgerClient(ledger_address)
        self._facts = facts

    def facts(self) -> dict[str, str]:
        return self._facts

    def submit(self, envelope: dict[str, str]) -> dict[str, Any]:
        """The authority's answer, refusals as values."""
        try:
            return self._ledger.submit(Envelope.from_json(envelope))
        except Refused as error:
            return {"refused": error.reason, "detail": error.detail}

    def read(self, view: str, parameters: dict[str, str]) -> Any:
        """A reading, refusals as values."""
        try:
            return self._ledger.read(view, **parameters)
        except Refused as error:
            return {"refused": error.reason, "detail": error.detail}
