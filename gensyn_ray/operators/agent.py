"""The operator's (or verifier's) daemon, outside Ray: it holds the key.

Ray workers on the same host ask it over a Unix socket to request slots, commit segments and send
verdicts. It signs commitments only for slots that were issued to it, once each, and takes work only
from bundles that its operator allows. A job that runs on the node can waste the node's time; it
cannot spend, bond, withdraw or answer for another slot.

    python -m gensyn_ray.operators.agent CONFIG.json

Not defended here: job code on the host that reads the key file. Run the agent under another user
than `ray start`.
"""

import json
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from gensyn_ray.domain import canonical, merkle, records
from gensyn_ray.domain.clock import Clock
from gensyn_ray.domain.errors import GensynError, OperationError, Refused, Unreachable, UsageError
from gensyn_ray.domain.ids import Slot
from gensyn_ray.domain.money import format_credits
from gensyn_ray.domain.signing import SigningKey
from gensyn_ray.object_store import grants
from gensyn_ray.object_store.grants import REQUEST_LIFE_MS, GrantClient, Method, ObjectRequest
from gensyn_ray.runtime.wall_clock import now_ms
from ledger.client import LedgerClient, Signer, check_receipt
from ledger.core.commands import Bond, Commit, Join, Record, RequestSlot
from ledger.core.refusals import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """`allow`: bundles taken besides the vetted ones. `bond_micro`: stake to bond on joining.
    `receipts`: file to which every receipt is added, one per line; empty keeps none. `store`: the
    presigner's address, where the network's objects are in a bucket."""

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

    def identity(self) -> dict[str, Any]:
        config = self._config
        return {"party": self._signer.party, "role": config.role, "numerics": config.numerics}

    def task(self, *, job: str, trial: str) -> dict[str, Any]:
        """A trial's current task, if its program is one that this operator runs."""
        task = self._ledger.read("task", job=job, trial=trial)
        if not task["vetted"] and task["bundle"] not in self._config.allow:
            raise Refused("program not allowed", f"bundle {task['bundle'][:16]} is not vetted here")
        return task

    def slot(self, *, job: str, task: str, segment: int, attempt: int) -> dict[str, Any]:
        """Request a slot and remember that it may be answered."""
        self._send(RequestSlot(job=job, task=task, segment=segment, attempt=attempt))
        slot = Slot(job=job, task=task, segment=segment, attempt=attempt)
        with self._lock:
            self._open.add(str(slot))
        return {}

    def commit(self, *, leaf: dict[str, Any]) -> dict[str, Any]:
        """Sign for a slot that is open here, once; returns the network's receipt."""
        try:
            slot = str(records.from_json(Slot, {key: leaf.get(key) for key in Slot.__slots__}))
        except records.BadRecord as error:
            raise Refused(Reason.WRONG_LEAF, str(error)) from None
        if leaf.get("operator") != self._signer.party:
            raise Refused(Reason.NOT_YOUR_SLOT, "the leaf names another operator")
        with self._lock:
            if slot not in self._open:
                raise Refused(Reason.NOT_YOUR_SLOT, f"{slot} is not open at this agent")
            self._open.discard(slot)
        root = merkle.root_of([canonical.encode(leaf)]).hex()
        return self._send(Commit(root=root, leaves=[leaf]))

    def verdict(self, *, job: str, slot: str, result: str) -> dict[str, Any]:
        """Sign what a replay gave."""
        self._send(Record(kind="verdict", content={"job": job, "slot": slot, "result": result}))
        return {}

    def link(
        self, *, job: str, trial: str, method: Method, kind: str, digest: str
    ) -> dict[str, Any]:
        """A presigned link to one object of a trial's task. Raises `Refused`."""
        if self._presigner is None:
            raise OperationError(
                "the network's objects are in a bucket and this agent knows no presigner: set "
                "`store` in its configuration to the presigner's address"
            )
        request = ObjectRequest(
            genesis=self._config.genesis,
            job=job,
            trial=trial,
            method=method,
            kind=kind,
            digest=digest,
            expires_ms=self._clock() + REQUEST_LIFE_MS,
        )
        return self._presigner.ask(grants.sign(self._signer.key, request))

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


def make_agent(config: AgentConfig) -> Agent:
    """An agent that talks to the configured ledger."""
    signer = Signer(
        SigningKey(bytes.fromhex(config.key_seed)),
        role=config.role,
        network=config.network,
        genesis=config.genesis,
        clock=now_ms,
    )

    def keep(receipt: dict[str, Any]) -> None:
        if config.receipts:
            with open(config.receipts, "a") as kept:
                kept.write(json.dumps(receipt) + "\n")

    return Agent(
        config=config,
        signer=signer,
        ledger=LedgerClient(config.ledger),
        keep=keep,
        presigner=GrantClient(config.store) if config.store else None,
    )


def make_app(agent: Agent) -> FastAPI:
    """The agent's local HTTP interface: one POST per thing that a worker may ask."""
    app = FastAPI(title="gensyn_ray agent")
    actions = {
        "identity": agent.identity,
        "task": agent.task,
        "slot": agent.slot,
        "commit": agent.commit,
        "verdict": agent.verdict,
        "link": agent.link,
    }

    @app.post("/{what}")
    def act(what: str, body: dict[str, Any]) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        if (action := actions.get(what)) is None:
            return JSONResponse({"refused": "unknown request", "detail": what}, 404)
        try:
            return JSONResponse(action(**body))
        except Refused as error:
            return JSONResponse({"refused": error.reason, "detail": error.detail}, 409)
        except GensynError as error:
            return JSONResponse({"detail": str(error)}, 502)
        except TypeError as error:
            return JSONResponse({"refused": "malformed", "detail": str(error)}, 400)

    return app


def serve(config: AgentConfig) -> None:
    """Join, bond, then serve until terminated."""
    agent = make_agent(config)
    agent.join()
    if config.role == "operator":
        agent.bond()
    Path(config.socket).unlink(missing_ok=True)
    uvicorn.run(make_app(agent), uds=config.socket, log_level="warning", access_log=False)


def main(path: Path) -> None:
    """Serve the agent that a configuration file describes. Raises `GensynError`."""
    try:
        config = records.from_json(AgentConfig, canonical.decode(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not an agent's configuration: {error}") from None
    serve(config)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except GensynError as error:
        print(f"gensyn-ray agent: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
