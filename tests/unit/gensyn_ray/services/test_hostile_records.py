"""Signed commands with hostile contents get an answer; none of them ends the authority."""

from typing import Any

import pytest

from gensyn_ray.domain.clock import ManualClock
from gensyn_ray.domain.signing import SigningKey
from gensyn_ray.services.authority import Authority
from gensyn_ray.services.home import Config, Secrets, default_parameters
from ledger.client import Signer
from ledger.core.commands import Command, Deposit, Join, OpenJob, Record
from ledger.storage.journal import MemoryJournal

KEYS = {name: SigningKey(bytes([number]) * 32) for number, name in enumerate("dst", start=1)}
ROLES = {"d": "driver", "s": "submitter", "t": "treasury"}


class Network:
    """An authority with one funded submitter and one open job, called 5."""

    def __init__(self) -> None:
        self.clock = ManualClock(now_ms=1_000)
        self.authority = Authority(
            config=Config(
                network="n",
                treasury_keys=[KEYS["t"].public.hex()],
                treasury_threshold=1,
                vetted=[],
                parameters=default_parameters(1),
            ),
            secrets=Secrets(network_seed="aa" * 32, beacon_seed="bb" * 32),
            store=MemoryJournal(),
            clock=self.clock,
        )
        self.send("s", Join(name="s"))
        self.send("t", Deposit(party=KEYS["s"].party, amount_micro=1_000))

    def send(self, who: str, command: Command) -> dict[str, Any]:
        signer = Signer(
            KEYS[who],
            role=ROLES[who],
            network="n",
            genesis=self.authority.genesis,
            clock=self.clock,
        )
        return self.authority.submit([signer.sign(command)])[0]

    def open_job(self, **changes: Any) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "job": "5",
            "kind": "sweep",
            "bundle": "b",
            "data_digest": "d",
            "budget_micro": 100,
            "price_micro": 1,
            "audit_ppm": 0,
            "draw_batch": 1,
            "secret_anchor": "cc" * 32,
            "driver_key": KEYS["d"].public.hex(),
        }
        return self.send("s", OpenJob(**{**fields, **changes}))


@pytest.mark.parametrize("name", ["secret_anchor", "driver_key"])
@pytest.mark.parametrize("text", ["", "zz" * 32, "CC" * 32, "cc" * 31])
def test_a_job_with_a_key_or_anchor_that_is_none_is_malformed(name: str, text: str) -> None:
    assert Network().open_job(**{name: text})["refused"] == "malformed"


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("harden", {"job": "5"}),
        ("harden", {"job": "5", "tasks": "t"}),
        ("harden", {"job": "5", "tasks": [["t"]]}),
        ("harden", {"job": 5, "tasks": []}),
        ("harden", {"job": ["5"], "tasks": []}),
        ("reveal", {"job": "5"}),
        ("reveal", {"job": "5", "round": {}, "link": "00"}),
        ("reveal", {"job": "5", "round": "5/round-0", "link": "zz"}),
        ("draw", {"job": "5"}),
        ("ruling", {}),
        ("nonsense", {}),
    ],
)
def test_a_drivers_malformed_record_is_refused(kind: str, content: dict[str, Any]) -> None:
    network = Network()
    assert "receipt" in network.open_job()
    assert "refused" in network.send("d", Record(kind=kind, content=content))
    assert "receipt" in network.send("d", Record(kind="harden", content={"job": "5", "tasks": []}))


@pytest.mark.parametrize("odd", [[{"a": [1]}], {"a": [1]}, [[[]]], [{"b": {}}], 5, [None], "x"])
@pytest.mark.parametrize("name", ["slots", "drawn", "spoilt", "slot", "operator", "tasks"])
def test_odd_names_in_evidence_do_not_end_the_authority(name: str, odd: Any) -> None:
    network = Network()
    network.open_job()
    content = {"job": "5", "tasks": [], name: odd}
    network.send("d", Record(kind="harden", content=content))
    assert network.authority.read("health", {})["entries"] >= 4
