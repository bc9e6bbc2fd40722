"""A kit: an authority in memory with a submitter, operators, verifiers and a clock."""

import hashlib
from collections.abc import Mapping
from typing import Any

from gensyn_ray.domain import signing
from gensyn_ray.domain.clock import ManualClock
from gensyn_ray.domain.evidence import Evidence, Reveal, Verdict
from gensyn_ray.domain.ids import Slot
from gensyn_ray.domain.leaf import result_digest
from gensyn_ray.services.authority import Authority
from gensyn_ray.services.home import Config, Secrets
from ledger.client import check_receipt
from ledger.core import orders
from ledger.core.checkpoint import Checkpoint
from ledger.core.commands import (
    Approve,
    Bond,
    Command,
    Commit,
    Deposit,
    Join,
    Record,
)
from ledger.core.parameters import Parameters
from ledger.storage.journal import JournalStore, MemoryJournal
from tests.kits import ledger_kit
from tests.kits.ledger_kit import key_of, party_of
from verifier_actors.core import beacon

LINKS = 64
SECRET = hashlib.sha256(b"submitter's chain").digest()


class AuthorityKit:
    """Two of three treasury keys; operators `op-a`, `op-b`; verifiers `v-1`, `v-2` of `class-a`."""

    def __init__(
        self, store: JournalStore | None = None, *, parameters: Parameters | None = None
    ) -> None:
        self.clock = ManualClock(now_ms=1_000_000)
        self.store = store or MemoryJournal()
        self.parameters = parameters or ledger_kit.parameters()
        self.heads: list[str] = []
        self.sent = 0
        self.authority = self.boot()

    def boot(self, *, remembered: Checkpoint | None = None) -> Authority:
        """Start an authority on the store's content."""
        return Authority(
            config=Config(
                network="testnet",
                treasury_keys=[key_of(f"treasury-{n}").public.hex() for n in range(3)],
                treasury_threshold=2,
                vetted=["bundle"],
                parameters=self.parameters,
            ),
            secrets=Secrets(network_seed="aa" * 32, beacon_seed="bb" * 32),
            store=self.store,
            clock=self.clock,
            remembered=remembered,
            remember=self.heads.append,
        )

    def send(self, name: str, role: str, command: Command, *, head: str = "") -> dict[str, Any]:
        """Sign and send a command; returns the answer."""
        self.sent += 1
        envelope = orders.write(
            key_of(name),
            command,
            network="testnet",
            genesis=self.authority.genesis,
            role=role,
            nonce=f"nonce-{self.sent}",
            expiry_ms=self.clock() + 60_000,
            head=head,
        )
        return self.authority.submit([envelope])[0]

    def accept(self, name: str, role: str, command: Command) -> dict[str, Any]:
        """Send a command that must be accepted; returns the body of its receipt."""
        answer = self.send(name, role, command)
        assert "receipt" in answer, f"{command} -> {answer}"
        return check_receipt(answer["receipt"], self.authority.public_key)

    def treasury(self, command: Command) -> None:
        """Propose with one treasury key and approve with another."""
        proposal = self.accept("treasury-0", "treasury", command)["command"]
        self.accept("treasury-1", "treasury", Approve(proposal=proposal))

    def begin(self, *, joined: Mapping[str, str] | None = None, **job: Any) -> "AuthorityKit":
        """Join all parties and open `job-1`.

        `joined`: name -> numerics class; the default is `class-a`. `job`: fields of the job; by
        default all segments are drawn."""
        joined = joined or {}
        for name, role in (("submitter", "submitter"), ("op-a", "operator"), ("op-b", "operator")):
            numerics = "class-a" if role == "operator" else ""
            self.accept(name, role, Join(name=name, numerics=joined.get(name, numerics)))
            self.treasury(Deposit(party=party_of(name), amount_micro=10_000))
        for name in ("op-a", "op-b"):
            self.accept(name, "operator", Bond(amount_micro=1_000))
        for name in ("v-1", "v-2"):
            numerics = joined.get(name, "class-a")
            self.accept(name, "verifier", Join(name=name, numerics=numerics))
        defaults: dict[str, Any] = {"audit_ppm": 1_000_000, "draw_batch": 1}
        anchor = beacon.anchor_of(SECRET, LINKS).hex()
        command = ledger_kit.open_job("job-1", secret_anchor=anchor, **{**defaults, **job})
        self.accept("submitter", "submitter", command)
        for task in ("task-0", "task-1"):
            self.accept("driver", "driver", ledger_kit.start_task("job-1", task))
        return self

    def work(self, name: str, task: str, segment: int, attempt: int = 0) -> str:
        """Request and answer a slot as the task's next segment; returns the slot."""
        slot = str(Slot(job="job-1", task=task, segment=segment, attempt=attempt))
        self.accept(name, "operator", ledger_kit.request_slot(slot))
        self.accept(name, "operator", self.answer(name, slot))
        return slot

    def record(self, evidence: Evidence) -> Command:
        """The command that records evidence."""
        return Record(evidence=evidence)

    def request(self, slot: str) -> Command:
        """The command that requests a slot."""
        return ledger_kit.request_slot(slot)

    def answer(self, name: str, slot: str, **changes: Any) -> Commit:
        """The commitment of an honest operator."""
        at = Slot.parse(slot)
        before = f"state {at.task} {at.segment - 1}" if at.segment else ""
        after = f"state {at.task} {at.segment}"
        leaf = ledger_kit.leaf_of(
            slot, name, **{"state_before": before, "state_after": after, **changes}
        )
        return ledger_kit.commit(leaf)

    def reveal(self) -> None:
        """Show the submitter's link for each waiting batch, as its driver does."""
        for batch in self.authority.read("unrevealed", {"job": "job-1"}):
            audits = self.authority.settlement.jobs["job-1"].audits
            link = beacon.link_of(SECRET, LINKS, audits.revealed + 1)
            reveal = Reveal(job="job-1", batch=batch, link=link.hex())
            self.accept("driver", "driver", Record(evidence=reveal))

    def replay(self, *, honest: bool = True) -> None:
        """Answer all open replays with the honest result, or with a wrong one."""
        names = {party_of(name): name for name in ("v-1", "v-2")}
        while waiting := self.authority.read("audits", {}):
            for one in waiting:
                at = Slot.parse(one["slot"])
                state = f"state {at.task} {at.segment}" if honest else "another state"
                result = result_digest(state, {"loss": 0.5})
                verdict = Verdict(job=at.job, slot=one["slot"], result=result)
                self.accept(names[one["party"]], "verifier", Record(evidence=verdict))

    def pass_time(self, by_ms: int) -> None:
        """Advance the clock and call the authority's tick."""
        self.clock.advance(by_ms)
        self.authority.tick()

    def balance(self, account: str) -> int:
        return self.authority.journal.book.balances[account]


def sign_for(kit: AuthorityKit, name: str, command: Commit) -> dict[str, str]:
    """A signed commitment that is not sent."""
    body = {
        "network": "testnet",
        "genesis": kit.authority.genesis,
        "role": "operator",
        "operation": type(command).__name__,
        "arguments": {"root": command.root, "leaves": [one.to_json() for one in command.leaves]},
        "nonce": f"other-{command.root}",
        "expiry_ms": 10**12,
        "head": "",
    }
    return signing.seal(key_of(name), signing.COMMAND, body).to_json()
