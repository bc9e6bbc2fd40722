"""The ledger relay: a Ray actor through which clients reach the authority.

The relay passes on signed envelopes and readings. It holds no key, so it cannot change a command or
forge a receipt.
"""

from typing import Any

from gensyn_ray.domain.errors import Refused
from gensyn_ray.domain.signing import Envelope
from ledger.client import LedgerClient

RELAY_NAME = "gensyn-ledger"
NAMESPACE = "gensyn"


class LedgerRelay:
    """Named actor on the head. `facts`: the network's name, genesis, key and addresses."""

    def __init__(self, ledger_address: str, facts: dict[str, str]) -> None:
        self._ledger = LedgerClient(ledger_address)
        self._facts = facts

    def facts(self) -> dict[str, str]:
        return self._facts

    def submit(self, envelope: dict[str, str]) -> dict[str, Any]:
        """The authority's answer: a receipt, or `{"refused": reason, "detail": text}`."""
        try:
            return self._ledger.submit(Envelope.from_json(envelope))
        except Refused as error:
            return {"refused": error.reason, "detail": error.detail}

    def read(self, view: str, parameters: dict[str, str]) -> Any:
        """A reading, or `{"refused": reason, "detail": text}`."""
        try:
            return self._ledger.read(view, **parameters)
        except Refused as error:
            return {"refused": error.reason, "detail": error.detail}
