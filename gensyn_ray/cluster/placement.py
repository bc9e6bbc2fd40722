"""Places actors on the head, and drains nodes.

Control actors and job drivers are pinned to the head by its `ray.io/node-id`, which no volunteer
can claim as it can claim a label.
"""

import time
from typing import Any

import ray
from ray.core.generated import autoscaler_pb2

from gensyn_ray.domain.errors import OperationError
from ledger.actor import NAMESPACE

HEAD_RESOURCE = "node:__internal_head__"
DRAIN_SECONDS = 1


def head_node_id() -> str:
    """The Ray node id of the head. Raises `OperationError` if there is none alive."""
    for node in ray.nodes():
        if node["Alive"] and HEAD_RESOURCE in node["Resources"]:
            return node["NodeID"]
    raise OperationError("the cluster has no living head node")


def on_head() -> dict[str, Any]:
    """Options of an actor or task that belongs on the head."""
    return {"num_cpus": 0, "label_selector": {"ray.io/node-id": head_node_id()}}


def detached_on_head() -> dict[str, Any]:
    """Options of a control actor: on the head, detached from the process that starts it."""
    return {**on_head(), "lifetime": "detached", "namespace": NAMESPACE}


def control_actor(name: str) -> Any:
    """A control actor by name. Raises `OperationError` if this cluster runs no network."""
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        raise OperationError(
            "this Ray cluster runs no gensyn_ray network: start one with `gensyn-ray up`"
        ) from None


def drain_operator(operator: str) -> None:
    """Drain every node that is labelled with a tombstoned operator.

    Ray stops placing work there at once, and the node's raylet ends at the deadline, with every
    actor on it; Tune then starts those trials elsewhere.
    """
    client = ray._raylet.GcsClient(address=ray.get_runtime_context().gcs_address)  # pyright: ignore[reportAttributeAccessIssue, reportPrivateUsage, reportUnknownMemberType, reportUnknownVariableType]
    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
    deadline_ms = time.time_ns() // 1_000_000 + DRAIN_SECONDS * 1000
    for node in ray.nodes():
        if node["Alive"] and node["Labels"].get("gensyn.operator") == operator:
            client.drain_node(node["NodeID"], reason, "operator tombstoned", deadline_ms)  # pyright: ignore[reportUnknownMemberType]
