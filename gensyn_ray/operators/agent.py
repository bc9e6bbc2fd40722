"""The operator's (or verifier's) daemon, outside Ray: it holds the key.

    python -m gensyn_ray.operators.agent CONFIG.json

Ray workers on the same host ask it over a Unix socket to request slots, commit segments and send
verdicts (`agent_requests`). It signs a commitment only for a slot that was issued to it, once, and
takes work only from bundles that its operator allows. A job that runs on the node can waste the
node's time. It cannot spend, bond, withdraw or answer for another slot.

The socket has mode 0660. Run the agent under a user of its own, and name the group of the user that
runs `ray start` as `socket_group` in the configuration; the agent's user must be a member of it.
The socket's folder must be one that the agent's user alone can write to and the group can search.

Not defended here: job code that commits a false leaf for a slot that is open; job code that keeps
all connections of the socket busy; job code that reads the key file, if it runs as the agent's
user. Each of these costs this node's operator.
"""

import json
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gensyn_ray.domain import canonical, merkle, records
from gensyn_ray.domain.clock import Clock
from gensyn_ray.domain.errors import GensynError, OperationError, Refused, Unreachable, UsageError
from gensyn_ray.domain.ids import Slot
from gensyn_ray.domain.money import format_credits
from gensyn_ray.domain.signing import SigningKey
from gensyn_ray.object_store import grants
from gensyn_ray.object_store.grants import REQUEST_LIFE_MS, Grant, GrantClient, ObjectRequest
from gensyn_ray.operators.agent_requests import (
    CommitRequest,
    Identity,
    IdentityRequest,
    LinkRequest,
    TaskRequest,
    VerdictRequest,
    parse_request,
)
from gensyn_ray.runtime import http_server
from gensyn_ray.runtime.address import SocketFile
from gensyn_ray.runtime.blocking_calls import CALL_LIMIT, BlockingCalls
from gensyn_ray.runtime.http_answers import (
    HttpRefusal,
    RequestRefused,
    answer_errors,
    answer_json,
)
from gensyn_ray.runtime.http_body import read_json
from gensyn_ray.runtime.listening import listen
from gensyn_ray.runtime.wall_clock import now_ms
from ledger.client import LedgerClient, Signer, check_receipt
from ledger.core.commands import Bond, Commit, Join, Record, RequestSlot
from ledger.core.refusals import Reason

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """`socket`: path of the socket file. `socket_group`: name or number of the group that may
    connect to it; empty keeps the group that the system gives to new files. `key_seed`: hex.
    `ledger`: the authority's address. `allow`: digests of bundles that are taken besides the vetted
    ones. `bond_micro`: stake to bond on joining. `receipts`: file to which every receipt is added,
    one per line; empty keeps none. `store`: the presigner's address, where the network's objects
    are in a bucket."""

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


BODY_LIMIT = 256 * 1024
"""Bytes; the ledger takes no longer command."""


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
        if not task["vetted"] and task["bundle"] not in self._config.allow:
            raise Refused("program not allowed", f"bundle {task['bundle'][:16]} is not vetted here")
        return task

    def slot(self, slot: Slot) -> None:
        """Request a slot and remember that it may be answered. Raises `Refused`."""
        self._send(
            RequestSlot(job=slot.job, task=slot.task, segment=slot.segment, attempt=slot.attempt)
        )
        with self._lock:
            self._open.add(str(slot))

    def commit(self, leaf: Mapping[str, Any]) -> dict[str, Any]:
        """Sign for a slot that is open here, once; returns the network's receipt. Raises
        `Refused`."""
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
        return self._send(Commit(root=root, leaves=[dict(leaf)]))

    def verdict(self, request: VerdictRequest) -> None:
        """Sign and send the result of a replay. Raises `Refused`."""
        content = {"job": request.job, "slot": request.slot, "result": request.result}
        self._send(Record(kind="verdict", content=content))

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


def make_app(agent: Agent, *, call_limit: int = CALL_LIMIT) -> Starlette:
    """The agent's local HTTP interface; see `agent_requests`. `call_limit`: requests at a time."""
    calls = BlockingCalls(call_limit)

    async def answer(request: Request) -> Response:
        name = request.path_params["name"]
        if (action := ACTIONS.get(name)) is None:
            raise RequestRefused(HttpRefusal.UNKNOWN_REQUEST, name)
        value = await read_json(request, limit_bytes=BODY_LIMIT)
        return answer_json(200, await calls.run(action.do, agent, value))

    app = Starlette(routes=[Route("/{name}", answer, methods=["POST"])])
    answer_errors(app)
    return app


@dataclass(frozen=True, slots=True)
class Action(Generic[T]):
    """A kind of request and what the agent does about it."""

    kind: type[T]
    act: Callable[[Agent, T], dict[str, Any]]

    def do(self, agent: Agent, value: Any) -> dict[str, Any]:
        """The answer to a request that `value` spells. Raises `RequestRefused` if it spells none,
        otherwise what the agent raises."""
        try:
            request = parse_request(self.kind, value)
        except ValueError as error:
            raise RequestRefused(HttpRefusal.MALFORMED, str(error)) from None
        return self.act(agent, request)


def _slot(agent: Agent, slot: Slot) -> dict[str, Any]:
    agent.slot(slot)
    return {}


def _verdict(agent: Agent, request: VerdictRequest) -> dict[str, Any]:
    agent.verdict(request)
    return {}


ACTIONS: Mapping[str, Action[Any]] = {
    "identity": Action(IdentityRequest, lambda agent, _: records.to_json(agent.identity())),
    "task": Action(TaskRequest, Agent.task),
    "slot": Action(Slot, _slot),
    "commit": Action(CommitRequest, lambda agent, request: agent.commit(request.leaf)),
    "verdict": Action(VerdictRequest, _verdict),
    "link": Action(LinkRequest, lambda agent, request: records.to_json(agent.link(request))),
}


def serve(config: AgentConfig) -> None:
    """Join, bond, then serve until terminated. Raises `GensynError`."""
    address = SocketFile(path=Path(config.socket), group=config.socket_group)
    # Before anything is signed: a second agent of this socket must not get further.
    with listen(address) as listener:
        agent = make_agent(config)
        agent.join()
        if config.role == "operator":
            agent.bond()
        http_server.serve(make_app(agent), listener)


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
