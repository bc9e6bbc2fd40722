"""An agent with an operator's key in front of the fake ledger."""

from typing import Any

from gensyn_ray.domain.ids import Slot
from gensyn_ray.domain.signing import SigningKey
from gensyn_ray.operators.agent import Agent, AgentConfig
from ledger.client import Signer
from tests.kits.fake_ledger import GENESIS, NETWORK_KEY, FakeLedger

OTHER_KEY = SigningKey(b"x" * 32)
OPERATOR = SigningKey(b"o" * 32)
BUNDLE = "bb" * 32


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
