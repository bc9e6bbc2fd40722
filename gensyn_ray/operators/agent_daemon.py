"""The agent's process, outside Ray: it holds the key of an operator or verifier.

    python -m gensyn_ray.operators.agent_daemon CONFIG.json      or: gensyn-ray agent CONFIG.json

Ray workers on the same host ask it over a Unix socket to request slots, commit segments and send
verdicts (`agent_requests`). A job that runs on the node can waste the node's time. It cannot spend,
bond, withdraw or answer for a slot that is not open.

The socket has mode 0660. Run the agent under a user of its own, and name the group of the user that
runs `ray start` as `socket_group` in the configuration; the agent's user must be a member of it.
The socket's folder must be one that the agent's user alone can write to and the group can search.

Not defended here: job code that commits a false leaf for a slot that is open; job code that keeps
all connections of the socket busy; job code that reads the key file, if it runs as the agent's
user. Each of these costs this node's operator.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gensyn_ray.domain import canonical, records
from gensyn_ray.domain.errors import GensynError, UsageError
from gensyn_ray.domain.ids import Slot
from gensyn_ray.domain.signing import SigningKey
from gensyn_ray.object_store.grants import GrantClient
from gensyn_ray.operators.agent import Agent, AgentConfig
from gensyn_ray.operators.agent_requests import (
    CommitRequest,
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
from ledger.client import LedgerClient, Signer

T = TypeVar("T")

BODY_LIMIT = 256 * 1024
"""Bytes; the ledger takes no longer command."""


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
