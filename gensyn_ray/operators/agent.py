"""What an operator's or verifier's key signs. `agent_daemon` runs it as a process.

The agent signs a commitment only for a slot that was issued to it, once, and takes work only from
bundles that its operator allows. It has no request that spends, bonds or withdraws.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gensyn_ray.domain import merkle, records
from gensyn_ray.domain.clock import Clock
from gensyn_ray.domain.errors import OperationError, Refused, Unreachable
from gensyn_ray.domain.evidence import Verdict
from gensyn_ray.domain.ids import Slot
from gensyn_ray.domain.leaf import Leaf
from gensyn_ray.domain.money import format_credits
from gensyn_ray.object_store import grants
from gensyn_ray.object_store.grants import REQUEST_LIFE_MS, Grant, GrantClient, ObjectRequest
from gensyn_ray.operators.agent_requests import (
    Identity,
    LinkRequest,
    TaskRequest,
    VerdictRequest,
)
from gensyn_ray.runtime.wall_clock import now_ms
from ledger.client import LedgerClient, Signer, check_receipt
from ledger.core.commands import Bond, Commit, Join, Record, RequestSlot
from ledger.core.refusals import Reason

ANY_PROGRAM = "any"
"""In `AgentConfig.allow`: take every program. For a network whose submitters are trusted: programs
run without a sandbox."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """`socket`: path of the socket file. `socket_group`: name or number of the group that may
    connect to it; empty keeps the group that the system gives to new files. `key_seed`: hex.
    `ledger`: the authority's address. `allow`: digests of bundles that are taken besides the vetted
    ones, or `ANY_PROGRAM`. `bond_micro`: stake to bond on joining. `receipts`: file to which every
    receipt is added, one per line; empty keeps none. `store`: the presigner's address, where the
    network's objects are in a bucket."""

    role: str
    name: str
    numerics: str
    key_seed: str
    network: str
    genesis: str
    network_key: str
    ledger: str
    socket: str
    bond_micro: int
    allow: list[str]
    receipts: str = ""
    store: str = ""
    socket_group: str = ""


class Agent:
    """The rules of what may be signed. Takes its ledger, signer and where to keep receipts."""

    def __init__(
        self,
        *,
        config: AgentConfig,
        signer: Signer,
        ledger: LedgerClient,
        keep: Callable[[dict[str, Any]], None] = lambda receipt: None,
        presigner: GrantClient | None = None,
        clock: Clock = now_ms,
    ) -> None:
        self._config = config
        self._keep = keep
        self._signer = signer
        self._ledger = ledger
        self._presigner, self._clock = presigner, clock
        self._network_key = bytes.fromhex(config.network_key)
        self._open: set[str] = set()
        self._lock = threading.Lock()

    def join(self) -> None:
        """Make the key known, once. Raises `Refused` with the network's reason."""
        if not self._ledger.read("balance", party=self._signer.party)["joined"]:
            self._send(Join(name=self._config.name, numerics=self._config.numerics))

    def bond(self) -> None:
        """Bond the configured stake if it is not bonded yet.

        Raises `Refused`, or `OperationError` if what is bonded cannot back a single job.
        """
        balance = self._ledger.read("balance", party=self._signer.party)
        missing = self._config.bond_micro - balance["stake_micro"]
        if missing > 0:
            self._send(Bond(amount_micro=missing))
        bonded, needed = (
            max(self._config.bond_micro, balance["stake_micro"]),
            balance["reserve_micro"],
        )
        if bonded < needed:
            raise OperationError(
                f"{self._config.name} has {format_credits(bonded)} credits of stake and a job "
                f"reserves {format_credits(needed)}: deposit credits and bond them first"
            )

    def identity(self) -> Identity:
        config = self._config
        return Identity(party=self._signer.party, role=config.role, numerics=config.numerics)

    def task(self, request: TaskRequest) -> dict[str, Any]:
        """A trial's current task. Raises `Refused` for a program that is not allowed here."""
        task = self._ledger.read("task", job=request.job, trial=request.trial)
        allowed = {ANY_PROGRAM, task["bundle"]} & set(self._config.allow)
        if not task["vetted"] and not allowed:
            raise Refused("program not allowed", f"bundle {task['bundle'][:16]} is not vetted here")
        return task

    def slot(self, slot: Slot) -> None:
        """Request a slot and remember that it may be answered. Raises `Refused`."""
        self._send(RequestSlot.of(slot))
        with self._lock:
            self._open.add(str(slot))

    def commit(self, leaf: Mapping[str, Any]) -> dict[str, Any]:
        """Sign for a slot that is open here, once; returns the network's receipt. Raises
        `Refused`."""
        try:
            signed = Leaf.parse(dict(leaf))
        except records.BadRecord as error:
            raise Refused(Reason.WRONG_LEAF, str(error)) from None
        slot = str(signed.slot)
        if signed.operator != self._signer.party:
            raise Refused(Reason.NOT_YOUR_SLOT, "the leaf names another operator")
        with self._lock:
            if slot not in self._open:
                raise Refused(Reason.NOT_YOUR_SLOT, f"{slot} is not open at this agent")
            self._open.discard(slot)
        root = merkle.root_of([signed.encode()]).hex()
        return self._send(Commit(root=root, leaves=[signed]))

    def verdict(self, request: VerdictRequest) -> None:
        """Sign and send the result of a replay. Raises `Refused`."""
        verdict = Verdict(job=request.job, slot=request.slot, result=request.result)
        self._send(Record(evidence=verdict))

    def link(self, request: LinkRequest) -> Grant:
        """A presigned link to one object of a trial's task. Raises `Refused`."""
        if self._presigner is None:
            raise OperationError(
                "the network's objects are in a bucket and this agent knows no presigner: set "
                "`store` in its configuration to the presigner's address"
            )
        signed = ObjectRequest(
            genesis=self._config.genesis,
            job=request.job,
            trial=request.trial,
            method=request.method,
            kind=request.kind,
            digest=request.digest,
            expires_ms=self._clock() + REQUEST_LIFE_MS,
        )
        answer = self._presigner.ask(grants.sign(self._signer.key, signed))
        return records.from_json(Grant, answer)

    def _send(self, command: Any) -> dict[str, Any]:
        envelope = self._signer.sign(command)
        try:
            answer = self._ledger.submit(envelope)
        except Unreachable:
            # The same signed bytes are safe to send again: a second acceptance is the first's.
            answer = self._ledger.submit(envelope)
        receipt = answer["receipt"]
        try:
            body = check_receipt(receipt, self._network_key)
        except ValueError as error:
            raise OperationError(f"not the network's receipt: {error}") from None
        if body["command"] != envelope.body_hash:
            raise OperationError("the network's receipt is for another command")
        self._signer.saw(body["head"])
        self._keep(receipt)
        return receipt
