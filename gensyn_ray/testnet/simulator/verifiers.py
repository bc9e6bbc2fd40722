"""Verifiers of the simulation. An adversary overrides `result`."""

from typing import Any

from gensyn_ray.domain.evidence import Verdict
from gensyn_ray.domain.ids import Slot
from gensyn_ray.domain.leaf import result_digest
from gensyn_ray.domain.signing import Envelope, SigningKey
from gensyn_ray.testnet.simulator.drivers import spec_of
from gensyn_ray.testnet.simulator.network import Network
from gensyn_ray.testnet.simulator.training import train
from ledger.core.commands import Record

SHOWN = {"job", "slot", "party", "numerics", "spec", "state_before", "urgent"}
"""Fields that the authority shows of an audit. None of them is the claim."""


class Verifier:
    """An honest verifier: it signs the digest of its replay."""

    def __init__(self, network: Network, *, key: SigningKey, name: str, numerics: str) -> None:
        self.key = key
        self.name = name
        self.numerics = numerics
        self._network = network

    def answer(self, audit: dict[str, Any]) -> Envelope:
        """The signed verdict on an audit that is assigned to this verifier."""
        assert set(audit) == SHOWN
        slot = Slot.parse(audit["slot"])
        assert audit["spec"] == spec_of(slot.task)
        result = self.result(slot, audit["state_before"])
        verdict = Verdict(job=audit["job"], slot=audit["slot"], result=result)
        return self._network.sign(self.key, "verifier", Record(evidence=verdict))

    def result(self, slot: Slot, state_before: str) -> str:
        """The digest of a replay of the segment."""
        replayed = train(state_before, slot.task, slot.segment)
        return result_digest(replayed.state_after, replayed.metrics)
