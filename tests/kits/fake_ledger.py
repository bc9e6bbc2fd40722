"""The fake of `LedgerClient`. It has no rules.

`tests/contract/test_fake_ledger.py` ties it to the real client and authority: same receipts, same
refusals. Readings cannot differ in shape: a test changes values of a real authority's reading.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from gensyn_ray.domain import canonical, signing
from gensyn_ray.domain.errors import Refused
from gensyn_ray.domain.signing import Envelope, SigningKey
from ledger.core import orders
from ledger.core.commands import Command
from ledger.core.orders import Order
from ledger.core.refusals import Rejected
from tests.kits.authority_kit import AuthorityKit
from tests.kits.ledger_kit import party_of

NETWORK_KEY = SigningKey(b"n" * 32)
GENESIS = "9e" * 32
HEAD = f"2:{'cc' * 32}"
PARAMETERS: dict[str, dict[str, str]] = {
    "task": {"trial": "trial-task-0"},
    "object_rights": {"trial": "trial-task-0", "party": party_of("op-a"), "kind": "states"},
    "balance": {"party": party_of("op-a")},
}
"""Parameters of a reading, in addition to the job."""


def receipt_for(
    envelope: Envelope, *, key: SigningKey = NETWORK_KEY, tag: bytes = signing.RECEIPT
) -> dict[str, str]:
    """The receipt of an accepted command, without events."""
    body = {
        "network": GENESIS,
        "index": 1,
        "time_ms": 1_000,
        "command": envelope.body_hash,
        "events": [],
        "head": HEAD,
    }
    return signing.seal(key, tag, body).to_json()


def reading_of(view: str, **changes: Any) -> dict[str, Any]:
    """A real authority's reading with some values changed.

    The first row of a view that is a list. Raises `KeyError` for a field that the view lacks.
    """
    real = canonical.decode(_real_reading(view))
    fields: dict[str, Any] = real[0] if isinstance(real, list) else real
    if unknown := changes.keys() - fields.keys():
        raise KeyError(f"{view} has no {', '.join(sorted(unknown))}")
    return {**fields, **changes}


@cache
def _real_reading(view: str) -> bytes:
    kit = AuthorityKit().begin()
    return canonical.encode(kit.authority.read(view, {"job": "job-1", **PARAMETERS.get(view, {})}))


class FakeLedger:
    """Accepts every well-formed signed command and answers it with a receipt.

    `script`: errors or answers for the next commands, in order, in place of a receipt.
    `refuses`: the refusal of every command. `unreachable`: the error of every reading.
    `views`: readings, or functions of a reading's parameters. `seen`: every envelope that was
    sent; `accepted`: the commands that got a receipt; `asked`: the readings. `kept`: a place for
    receipts.
    """

    def __init__(self) -> None:
        self.script: list[Exception | dict[str, Any]] = []
        self.refuses: Exception | None = None
        self.unreachable: Exception | None = None
        self.views: dict[str, Any] = {}
        self.seen: list[Envelope] = []
        self.accepted: list[Command] = []
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.kept: list[dict[str, Any]] = []

    def submit(self, envelope: Envelope) -> dict[str, Any]:
        """A receipt. Raises `Refused`, or an error of the script."""
        self.seen.append(envelope)
        step = self.script.pop(0) if self.script else self.refuses or self._receipt(envelope)
        if isinstance(step, Exception):
            raise step
        return step

    def _receipt(self, envelope: Envelope) -> dict[str, Any]:
        order = orders.read(envelope)
        if isinstance(order, Rejected):
            raise Refused(order.reason.value, order.detail)
        self.accepted.append(order.command)
        return {"receipt": receipt_for(envelope)}

    def read(self, view: str, **parameters: str | int) -> Any:
        """The reading that the test put into `views`. Raises `Refused` if there is none."""
        self.asked.append((view, parameters))
        if self.unreachable is not None:
            raise self.unreachable
        if view not in self.views:
            raise Refused("unknown view", f"there is no view {view!r}")
        reading = self.views[view]
        return reading(**parameters) if isinstance(reading, Callable) else reading

    def orders(self) -> list[Order]:
        """The commands that were sent, with their headers."""
        read = [orders.read(envelope) for envelope in self.seen]
        assert all(isinstance(order, Order) for order in read)
        return [order for order in read if isinstance(order, Order)]

    def commands(self) -> list[Command]:
        """The commands that were sent."""
        return [order.command for order in self.orders()]
