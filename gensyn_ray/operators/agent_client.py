"""How a Ray worker talks to the agent on its own host: HTTP over a Unix socket.

The worker holds no key. What it may ask for is what the agent's own rules allow.
"""

import os
from collections.abc import Mapping
from typing import Any

import httpx

from gensyn_ray.domain import records
from gensyn_ray.domain.errors import OperationError, Refused, Unreachable
from gensyn_ray.object_store.grants import Grant, Method

SOCKET_VARIABLE = "GENSYN_AGENT_SOCKET"
"""Set in the environment of `ray start`; workers inherit it."""


class AgentClient:
    """A connection to one agent. Safe to use from several threads."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._http = httpx.Client(
            base_url="http://agent", transport=httpx.HTTPTransport(uds=socket), timeout=30.0
        )

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

    def identity(self) -> dict[str, Any]:
        """{"party", "role", "numerics"} of the agent's key."""
        return self._ask("identity", {})

    def task(self, *, job: str, trial: str) -> dict[str, Any]:
        """The task that a trial runs now; see `readings.task_of_trial`."""
        return self._ask("task", {"job": job, "trial": trial})

    def slot(self, *, job: str, task: str, segment: int, attempt: int) -> None:
        """Have a slot issued. Raises `Refused` with the reason."""
        body = {"job": job, "task": task, "segment": segment, "attempt": attempt}
        self._ask("slot", body)

    def commit(self, leaf: Mapping[str, Any]) -> dict[str, Any]:
        """Sign and send a segment's leaf; returns the network's receipt. Raises `Refused`."""
        return self._ask("commit", {"leaf": dict(leaf)})

    def verdict(self, *, job: str, slot: str, result: str) -> None:
        """Sign and send what a replay gave. Raises `Refused`."""
        self._ask("verdict", {"job": job, "slot": slot, "result": result})

    def link(self, *, job: str, trial: str, method: Method, kind: str, digest: str) -> Grant:
        """A presigned link to one object of a trial's task. Raises `Refused`."""
        body = {"job": job, "trial": trial, "method": method, "kind": kind, "digest": digest}
        return records.from_json(Grant, self._ask("link", body))

    def _ask(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            response = self._http.post(f"/{what}", json=body)
        except httpx.HTTPError as error:
            raise Unreachable(
                f"no agent answers at {self._socket} ({type(error).__name__}): "
                "is `gensyn-ray agent` running on this node?"
            ) from None
        value: dict[str, Any] = response.json()
        if "refused" in value:
            raise Refused(str(value["refused"]), str(value.get("detail", "")))
        if response.status_code != 200:
            raise OperationError(f"the agent could not answer: {value.get('detail', value)}")
        return value
