"""The client's side of the job gateway. Needs Ray, and no access to the head's folders."""

from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError

from gensyn_ray.domain.errors import Refused, Unreachable, UsageError
from gensyn_ray.jobs.gateway import OBJECT_BYTES
from gensyn_ray.object_store.objects import Missing

ANSWER_S = 60.0
TRANSFER_S = 600.0
"""For a whole object, over a slow link."""


def ask(answer: Any, *, timeout_s: float = ANSWER_S) -> Any:
    """The value of a control actor's answer.

    `answer`: the return value of the actor's `remote` call. Raises `Unreachable` if the actor died
    or the connection is lost, and `Refused` if the value is a refusal."""
    try:
        value: Any = ray.get(answer, timeout=timeout_s)
    except (RayActorError, GetTimeoutError, ConnectionError) as error:
        raise Unreachable(
            f"the network's head does not answer ({type(error).__name__}): connect again"
        ) from None
    if isinstance(value, dict) and "refused" in value:
        raise Refused(str(value["refused"]), str(value.get("detail", "")))
    return value


class GatewayObjects:
    """The network's objects, through its gateway. Implements `Objects`.

    `gateway`: handle of the `GatewayActor`."""

    def __init__(self, gateway: Any) -> None:
        self._gateway = gateway

    def put(self, key: str, data: bytes) -> None:
        """Raises `UsageError` for an object above `OBJECT_BYTES`, and `Refused`."""
        if len(data) > OBJECT_BYTES:
            raise UsageError(
                f"{key} has {len(data):,} bytes and clients may store {OBJECT_BYTES:,} at once: "
                "cut it, or store it on the head (`gensyn-ray data prepare --store`)"
            )
        ask(self._gateway.put.remote(key, data), timeout_s=TRANSFER_S)

    def get(self, key: str) -> bytes:
        found = ask(self._gateway.get.remote(key), timeout_s=TRANSFER_S)
        if found is None:
            raise Missing(f"the network's object store has no {key}")
        return found
