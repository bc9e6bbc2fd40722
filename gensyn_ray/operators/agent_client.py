"""How a Ray worker talks to the agent on its own host: HTTP over a Unix socket.

The worker holds no key. The agent's own rules decide what it may ask for.
"""

import os
import time
from collections.abc import Callable
from typing import Any

import httpx

from gensyn_ray.domain import records
from gensyn_ray.domain.errors import OperationError, Refused, Unreachable
from gensyn_ray.domain.ids import Slot
from gensyn_ray.domain.leaf import Leaf
from gensyn_ray.object_store.grants import Grant, Method
from gensyn_ray.operators.agent_requests import (
    CommitRequest,
    Identity,
    IdentityRequest,
    LinkRequest,
    TaskRequest,
    VerdictRequest,
)
from gensyn_ray.queries.rows import AssignedTask
from gensyn_ray.runtime.http_client import make_client

SOCKET_VARIABLE = "GENSYN_AGENT_SOCKET"
"""Set in the environment of `ray start`; workers inherit it."""
TIMEOUT_S = 30.0
OVERLOADED_PAUSES_S = (0.2, 0.5, 1.0, 2.0)
"""Pauses before an overloaded agent is asked again. It has not carried out what it refused."""


class AgentClient:
    """A connection to one agent. Safe to use from several threads.

    Every method raises `Refused` with the reason, `Unreachable` if no agent answers or it stays
    overloaded, `OperationError` if the agent cannot reach what it needs.
    """

    def __init__(self, socket: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._socket, self._sleep = socket, sleep
        self._http = make_client(f"unix:{socket}", timeout_s=TIMEOUT_S)

    @classmethod
    def of_this_node(cls) -> "AgentClient":
        """The agent that this node's environment names. Raises `OperationError` if none."""
        socket = os.environ.get(SOCKET_VARIABLE)
        if not socket:
            raise OperationError(
                f"{SOCKET_VARIABLE} is not set on this node: start `gensyn-ray agent`, "
                "then `ray start` with the variable that it prints"
            )
        return cls(socket)

    def identity(self) -> Identity:
        """Whose key the agent holds."""
        return records.from_json(Identity, self._ask("identity", IdentityRequest()))

    def task(self, *, job: str, trial: str) -> AssignedTask:
        """The task that a trial runs now."""
        return records.from_json(AssignedTask, self._ask("task", TaskRequest(job=job, trial=trial)))

    def slot(self, slot: Slot) -> None:
        """Have a slot issued."""
        self._ask("slot", slot)

    def commit(self, leaf: Leaf) -> dict[str, Any]:
        """Sign and send a segment's leaf; returns the network's receipt."""
        return self._ask("commit", CommitRequest(leaf=leaf.to_json()))

    def verdict(self, *, job: str, slot: str, result: str) -> None:
        """Sign and send the result of a replay."""
        self._ask("verdict", VerdictRequest(job=job, slot=slot, result=result))

    def link(self, *, job: str, trial: str, method: Method, kind: str, digest: str) -> Grant:
        """A presigned link to one object of a trial's task."""
        request = LinkRequest(job=job, trial=trial, method=method, kind=kind, digest=digest)
        return records.from_json(Grant, self._ask("link", request))

    def _ask(self, name: str, request: Any) -> dict[str, Any]:
        body = records.to_json(request)
        response = self._post(name, body)
        for pause_s in OVERLOADED_PAUSES_S:
            if not _is_overloaded(response):
                break
            self._sleep(pause_s)
            response = self._post(name, body)
        if _is_overloaded(response):
            raise Unreachable(f"the agent at {self._socket} is overloaded: try again later")
        value = _json_of(response)
        if "refused" in value:
            raise Refused(str(value["refused"]), str(value.get("detail", "")))
        if response.status_code != 200:
            raise OperationError(f"the agent could not answer: {value.get('detail', value)}")
        return value

    def _post(self, name: str, body: dict[str, Any]) -> httpx.Response:
        try:
            return self._http.post(f"/{name}", json=body)
        except httpx.HTTPError as error:
            raise Unreachable(
                f"no agent answers at {self._socket} ({type(error).__name__}): "
                "is `gensyn-ray agent` running on this node, and may this user open its socket?"
            ) from None


def _is_overloaded(response: httpx.Response) -> bool:
    return response.status_code == 503 and "refused" in _json_of(response)


def _json_of(response: httpx.Response) -> dict[str, Any]:
    try:
        value = response.json()
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise OperationError(f"the agent answered {response.status_code} without a JSON object")
    return value  # pyright: ignore[reportUnknownVariableType]
