"""Composition root: where the pure parts meet Ray.

Control actors and job drivers are pinned to the head by its `ray.io/node-id`, which no volunteer
can claim as it can claim a label.
"""

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc
import ray
from ray import _raylet
from ray._private.grpc_utils import init_grpc_channel
from ray.core.generated import autoscaler_pb2, ray_client_pb2, ray_client_pb2_grpc
from ray.exceptions import AuthenticationError, RayError

from gensyn_ray.domain.errors import OperationError, Unreachable
from gensyn_ray.jobs.desk import DESK_NAME, DeskActor
from ledger.actor import NAMESPACE, RELAY_NAME, LedgerRelay
from verifier_actors.actor import AuditorActor, VerifierSeat

AUDITOR_NAME = "gensyn-auditor"
DRAIN_SECONDS = 1
KEEP_S = 1.0
HEAD_RESOURCE = "node:__internal_head__"
CLIENT_SCHEME = "ray://"
CLIENT_ATTEMPTS = 3
PING_S = 10.0


def attach(address: str) -> None:
    """`ray.init` against a running cluster. Raises `Unreachable` with what to do next."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if ray.is_initialized():
        return
    if ":" in address and not _is_listening(address):
        # Ray itself would go on trying for minutes.
        raise Unreachable(
            f"nothing answers at {address}: check the address and that the Ray head runs"
        )
    try:
        if address.startswith(CLIENT_SCHEME):
            _show_token(address)
        with _quiet_stderr():
            _init(address)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, RayError) as error:
        raise Unreachable(_why(address, error)) from None


def _init(address: str) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    for attempts_left in reversed(range(CLIENT_ATTEMPTS)):
        try:
            ray.init(address=address, namespace=NAMESPACE, **quiet)
        except ConnectionAbortedError:
            # The head starts a process for each client, and now and then that one dies at once.
            if not attempts_left:
                raise
        else:
            return


def _show_token(address: str) -> None:
    """Ask a Ray Client server for a sign of life. Raises `RayError` if it refuses the token, which
    Ray's own client would go on trying for half a minute."""
    channel: Any = init_grpc_channel(address.removeprefix(CLIENT_SCHEME))
    ping = ray_client_pb2.ClusterInfoRequest(type=ray_client_pb2.ClusterInfoType.PING)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
    try:
        ray_client_pb2_grpc.RayletDriverStub(channel).ClusterInfo(ping, timeout=PING_S)
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAUTHENTICATED:  # pyright: ignore[reportAttributeAccessIssue]
            raise AuthenticationError("the token is refused") from None
        raise ConnectionError(str(error)) from None
    finally:
        channel.close()


def use_token(token: str) -> None:
    """Authenticate this process and its children by a token.

    Ray reads its mode when it is imported, so it is made to read again.
    """
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token)
    _raylet.Config.initialize("")  # pyright: ignore[reportAttributeAccessIssue]
    _raylet.AuthenticationTokenLoader.instance().reset_cache()  # pyright: ignore[reportAttributeAccessIssue]


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Keep what Ray's C++ part logs while it retries away from a person's terminal."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


def _why(address: str, error: Exception) -> str:
    if isinstance(error, RayError) or ":" in address:
        # Ray reports a refused token as no answer; that something listens was seen above.
        return (
            f"the cluster at {address} does not take this token: set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN to the token of that cluster's head"
        )
    return f"no Ray cluster found ({address}): give its --address, HOST:PORT or ray://HOST:PORT"


def _is_listening(address: str) -> bool:
    """Whether something takes connections there."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2):
            return True
    except (OSError, ValueError):
        return False


def head_node_id() -> str:
    """The Ray node id of the head. Raises `OperationError` if there is none alive."""
    for node in ray.nodes():
        if node["Alive"] and HEAD_RESOURCE in node["Resources"]:
            return node["NodeID"]
    raise OperationError("the cluster has no living head node")


def on_head() -> dict[str, Any]:
    """Options of an actor or task that belongs on the head."""
    return {"num_cpus": 0, "label_selector": {"ray.io/node-id": head_node_id()}}


def start_control(facts: Mapping[str, str], seats: list[VerifierSeat]) -> "RelayKeeper":
    """Start the ledger relay, the job desk and the auditor as detached named actors.

    The caller keeps the relay with what is returned: any member of the cluster can kill an actor.
    """
    detached = _detached()
    keeper = RelayKeeper(facts)
    keeper.turn()
    desk = ray.remote(DeskActor).options(name=DESK_NAME, max_restarts=-1, **detached)
    desk.remote(dict(facts))
    auditor = (
        ray.remote(AuditorActor)
        .options(name=AUDITOR_NAME, max_restarts=-1, **detached)
        .remote(facts["address"], seats, facts["blobs"])
    )
    auditor.run.remote()
    return keeper


def _detached() -> dict[str, Any]:
    return {**on_head(), "lifetime": "detached", "namespace": NAMESPACE}


class RelayKeeper:
    """Sees to it that the relay's name leads to the relay that was started here.

    Ray lets any member kill the relay and give its name to an actor of their own. That steals
    nothing, because clients check the network's signature on every receipt, but it would leave
    them without a way to the ledger. Runs outside Ray's workers, where members cannot kill it.
    """

    def __init__(self, facts: Mapping[str, str]) -> None:
        self._facts = dict(facts)
        self._ours: Any = None

    def turn(self) -> bool:
        """Look once, and start the relay again if need be. Whether it was."""
        try:
            found = ray.get_actor(RELAY_NAME, namespace=NAMESPACE)
        except ValueError:
            found = None
        if found is not None:
            if self._ours is None or found._actor_id != self._ours._actor_id:
                ray.kill(found)  # the name is free at one of the next turns
            return False
        self._ours = (
            ray.remote(LedgerRelay)
            .options(name=RELAY_NAME, max_restarts=-1, max_concurrency=16, **_detached())
            .remote(self._facts["address"], self._facts)
        )
        ray.get(self._ours.facts.remote())
        return True

    def keep(self, stopping: threading.Event) -> None:
        """Turn every second until told to stop."""
        while not stopping.wait(KEEP_S):
            try:
                self.turn()
            except (RayError, ValueError) as error:
                # A rival took the name in between, or killed the relay while it started.
                print(f"relay keeper: {type(error).__name__}", file=sys.stderr, flush=True)


def control_actor(name: str) -> Any:
    """A control actor by name. Raises `OperationError` if this cluster runs no network."""
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        raise OperationError(
            "this Ray cluster runs no gensyn_ray network: start one with `gensyn-ray up`"
        ) from None


def drain_operator(operator: str) -> None:
    """Send away every node that is labelled with a tombstoned operator.

    Ray stops placing work there at once, and the node's raylet ends at the deadline, with every
    actor on it; Tune then starts those trials elsewhere.
    """
    client = ray._raylet.GcsClient(address=ray.get_runtime_context().gcs_address)  # pyright: ignore[reportAttributeAccessIssue, reportPrivateUsage, reportUnknownMemberType, reportUnknownVariableType]
    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
    deadline_ms = time.time_ns() // 1_000_000 + DRAIN_SECONDS * 1000
    for node in ray.nodes():
        if node["Alive"] and node["Labels"].get("gensyn.operator") == operator:
            client.drain_node(node["NodeID"], reason, "operator tombstoned", deadline_ms)  # pyright: ignore[reportUnknownMemberType]
