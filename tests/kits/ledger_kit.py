"""A kit: a ledger in memory, keys for all parties, and a manual clock."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gensyn_ray.domain import merkle
from gensyn_ray.domain.clock import ManualClock
from gensyn_ray.domain.ids import Slot
from gensyn_ray.domain.leaf import Leaf
from gensyn_ray.domain.signing import Envelope, SigningKey
from ledger.core import orders
from ledger.core.commands import (
    Bond,
    Command,
    Commit,
    Deposit,
    FinishTask,
    Found,
    Join,
    OpenJob,
    RequestSlot,
    Settle,
    SettleItem,
    Slash,
    StartTask,
)
from ledger.core.journal import Duplicate, Entry, Journal
from ledger.core.parameters import Parameters
from ledger.core.refusals import Rejected

Answer = Entry | Rejected | Duplicate

NETWORK = "testnet"
RESERVE_MICRO = 100
BOND_MICRO = 7
PRICE_MICRO = 10
LIFE_MS = 60_000


def key_of(name: str) -> SigningKey:
    """The signing key of a party, derived from its name."""
    return SigningKey(hashlib.sha256(name.encode()).digest())


def party_of(name: str) -> str:
    return key_of(name).party


def slot_of(job: str, task: str, segment: int, attempt: int = 0) -> str:
    return str(Slot(job=job, task=task, segment=segment, attempt=attempt))


def found(network: str = NETWORK, **changes: Any) -> Found:
    """The command that founds a network."""
    fields: dict[str, Any] = {
        "network": network,
        "network_key": key_of("network").public.hex(),
        "treasury_keys": [key_of("treasury").public.hex()],
        "treasury_threshold": 1,
        "beacon_anchor": "00" * 32,
        "vetted": ["bundle"],
        "parameters": parameters(),
    }
    return Found(**{**fields, **changes})


def parameters(**changes: int) -> Parameters:
    """Parameters with distinct times, so that a mix-up of two fails a test."""
    fields = {
        "reserve_micro": RESERVE_MICRO,
        "challenge_bond_micro": BOND_MICRO,
        "job_ms": 1_000_000,
        "holdback_ms": 10_000,
        "challenge_ms": 20_000,
        "appeal_ms": 30_000,
        "unbonding_ms": 2_000_000,
        "evidence_ms": 3_000_000,
        "proposal_ms": 40_000,
        "reporter_ppm": 100_000,
        "jackpot_ppm": 400_000,
    }
    return Parameters(**{**fields, **changes})


def open_job(job: str, **changes: Any) -> OpenJob:
    """A job of `driver`, with a budget for 100 segments."""
    fields: dict[str, Any] = {
        "job": job,
        "kind": "sweep",
        "bundle": "bundle",
        "data_digest": "data",
        "budget_micro": 100 * PRICE_MICRO,
        "price_micro": PRICE_MICRO,
        "audit_ppm": 400_000,
        "draw_batch": 4,
        "secret_anchor": "11" * 32,
        "driver_key": key_of("driver").public.hex(),
    }
    return OpenJob(**{**fields, **changes})


def start_task(
    job: str, task: str, attempt: int = 0, *, trial: str = "", spec: str = "spec"
) -> StartTask:
    trial = trial or f"trial-{task}"
    return StartTask(job=job, task=task, trial=trial, spec=spec, attempt=attempt)


def request_slot(slot: str) -> RequestSlot:
    at = Slot.parse(slot)
    return RequestSlot(job=at.job, task=at.task, segment=at.segment, attempt=at.attempt)


def leaf_of(slot: str, operator: str, **changes: Any) -> Leaf:
    """The leaf that an honest operator signs for a slot."""
    at = Slot.parse(slot)
    honest = Leaf(
        job=at.job,
        task=at.task,
        segment=at.segment,
        attempt=at.attempt,
        state_before="before",
        state_after="after",
        metrics={"loss": 0.5},
        data_digest="data",
        numerics="class-a",
        operator=party_of(operator),
    )
    return replace(honest, **changes)


def commit(*leaves: Leaf) -> Commit:
    """A commitment of leaves with the correct root."""
    root = merkle.root_of(leaf.encode() for leaf in leaves)
    return Commit(root=root.hex(), leaves=list(leaves))


class Kit:
    """Sends commands to a journal and folds the accepted ones. Each gets a new nonce."""

    def __init__(self, command: Found | None = None) -> None:
        self.journal = Journal()
        self.clock = ManualClock(now_ms=1_700_000_000_000)
        self.entries: list[Entry] = []
        self.envelopes: list[Envelope] = []
        self._sent = 0
        self.network = (command or found()).network
        self.accept("network", "network", command or found())

    def sign(self, name: str, role: str, command: Command, **header: Any) -> Envelope:
        """A signed envelope. `header` overrides network, genesis, nonce or expiry_ms."""
        self._sent += 1
        defaults: dict[str, Any] = {
            "network": self.network,
            "genesis": self.journal.genesis,
            "nonce": f"nonce-{self._sent}",
            "expiry_ms": self.clock() + LIFE_MS,
        }
        return orders.write(key_of(name), command, role=role, **{**defaults, **header})

    def submit(self, envelope: Envelope) -> Answer:
        """Decide an envelope at the present time and fold it if it is accepted."""
        answer = self.journal.propose(envelope, self.clock())
        if isinstance(answer, Entry):
            self.journal.apply(answer)
            self.entries.append(answer)
            self.envelopes.append(envelope)
        return answer

    def send(self, name: str, role: str, command: Command, **header: Any) -> Answer:
        """Sign and submit a command."""
        return self.submit(self.sign(name, role, command, **header))

    def accept(self, name: str, role: str, command: Command) -> Entry:
        """Send a command that must be accepted."""
        answer = self.send(name, role, command)
        assert isinstance(answer, Entry), f"{command} -> {answer}"
        return answer

    def balance(self, account: str) -> int:
        return self.journal.book.balances[account]

    def balances(self) -> dict[str, int]:
        return dict(self.journal.book.balances)

    def join(self, name: str, role: str, *, deposit_micro: int = 0, bond_micro: int = 0) -> None:
        """Join a party and give it credits and stake."""
        numerics = "" if role == "submitter" else "class-a"
        self.accept(name, role, Join(name=name, numerics=numerics))
        if deposit_micro:
            deposit = Deposit(party=party_of(name), amount_micro=deposit_micro)
            self.accept("treasury", "treasury", deposit)
        if bond_micro:
            self.accept(name, "operator", Bond(amount_micro=bond_micro))

    def open_job(self, job: str, *tasks: str, **changes: Any) -> None:
        """Open a job of `submitter` and start its tasks."""
        self.accept("submitter", "submitter", open_job(job, **changes))
        for task in tasks:
            self.accept("driver", "driver", start_task(job, task))

    def finish_task(self, job: str, task: str) -> None:
        self.accept("driver", "driver", FinishTask(job=job, task=task))

    def issue(self, name: str, *slots: str) -> None:
        for slot in slots:
            self.accept(name, "operator", request_slot(slot))

    def commit(self, name: str, *slots: str) -> None:
        """Issue slots and answer them with one commitment."""
        self.issue(name, *slots)
        self.accept(name, "operator", commit(*(leaf_of(slot, name) for slot in slots)))

    def settle(self, job: str, paid: Mapping[str, bool]) -> Entry:
        items = [SettleItem(slot=slot, pay=pay, reason="test") for slot, pay in paid.items()]
        return self.accept("network", "network", Settle(job=job, items=items))

    def earn(self, name: str, *slots: str) -> None:
        """Issue, commit and pay slots of one job."""
        self.commit(name, *slots)
        self.settle(Slot.parse(slots[0]).job, dict.fromkeys(slots, True))

    def slash(self, job: str, name: str, evidence: str, *spoilt: str) -> Entry:
        command = Slash(job=job, operator=party_of(name), evidence=evidence, spoilt=list(spoilt))
        return self.accept("network", "network", command)


def kit_with_parties(command: Found | None = None) -> Kit:
    """A network with a submitter, two operators with stake, and a verifier."""
    kit = Kit(command)
    kit.join("submitter", "submitter", deposit_micro=10_000)
    for name in ("op-a", "op-b"):
        kit.join(name, "operator", deposit_micro=1_000, bond_micro=500)
    kit.join("verifier", "verifier")
    return kit


def kit_with_job() -> Kit:
    """`kit_with_parties` with an open `job-1` and its started tasks `task-0` and `task-1`."""
    kit = kit_with_parties()
    kit.open_job("job-1", "task-0", "task-1")
    return kit
