"""An agent with a hand-written ledger behind it."""

from typing import Any

from gensyn_ray.domain import signing
from gensyn_ray.domain.ids import Slot
from gensyn_ray.domain.signing import Envelope, SigningKey
from gensyn_ray.operators.agent import Agent, AgentConfig
from ledger.client import Signer
from ledger.core import orders
from ledger.core.commands import Command
from ledger.core.orders import Order

NETWORK_KEY, OTHER_KEY = SigningKey(b"n" * 32), SigningKey(b"x" * 32)
OPERATOR = SigningKey(b"o" * 32)
GENESIS = "9e" * 32
BUNDLE = "bb" * 32
HEAD = f"2:{'cc' * 32}"


class FakeLedger:
    """Accepts every command that is signed, with a receipt; `script` says what to do instead."""

    def __init__(self) -> None:
        self.seen: list[Envelope] = []
        self.script: list[Exception | dict[str, Any]] = []
        self.views: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.kept: list[dict[str, Any]] = []

    def submit(self, envelope: Envelope) -> dict[str, Any]:
        self.seen.append(envelope)
        step = self.script.pop(0) if self.script else {"receipt": receipt_for(envelope)}
        if isinstance(step, Exception):
            raise step
        return step

    def read(self, view: str, **parameters: str | int) -> Any:
        self.asked.append((view, parameters))
        return self.views[view]

    def orders(self) -> list[Order]:
        read = [orders.read(envelope) for envelope in self.seen]
        assert all(isinstance(order, Order) for order in read)
        return [order for order in read if isinstance(order, Order)]

    def commands(self) -> list[Command]:
        return [order.command for order in self.orders()]


def receipt_for(
    envelope: Envelope, *, key: SigningKey = NETWORK_KEY, tag: bytes = signing.RECEIPT
) -> dict[str, str]:
    body = {
        "network": GENESIS,
        "index": 1,
        "time_ms": 1_000,
        "command": envelope.body_hash,
        "events": [],
        "head": HEAD,
    }
    return signing.seal(key, tag, body).to_json()


def make_config(role: str = "operator", allow: list[str] | None = None) -> AgentConfig:
    return AgentConfig(
        role=role,
        name="node-1",
        numerics="c0ffee",
        key_seed="",
        network="testnet",
        genesis=GENESIS,
        network_key=NETWORK_KEY.public.hex(),
        ledger="unix:nowhere",
        socket="nowhere",
        bond_micro=1_000,
        allow=allow or [],
    )


def make_agent(
    ledger: FakeLedger, *, allow: list[str] | None = None, role: str = "operator", **other: Any
) -> Agent:
    config = make_config(role, allow)
    signer = Signer(OPERATOR, role=role, network="testnet", genesis=GENESIS, clock=lambda: 1_000)
    return Agent(
        config=config,
        signer=signer,
        ledger=ledger,  # pyright: ignore[reportArgumentType]
        keep=ledger.kept.append,
        **other,
    )


def make_leaf(segment: int = 0, **other: Any) -> dict[str, Any]:
    return {
        "job": "job",
        "task": "t000",
        "segment": segment,
        "attempt": 0,
        "state_before": "",
        "state_after": "5a" * 32,
        "metrics": {"accuracy": 0.5},
        "data_digest": "d0" * 32,
        "numerics": "c0ffee",
        "operator": OPERATOR.party,
        **other,
    }


def open_slot(agent: Agent, segment: int = 0) -> None:
    agent.slot(Slot(job="job", task="t000", segment=segment, attempt=0))
