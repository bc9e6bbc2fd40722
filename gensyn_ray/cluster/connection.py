"""Connects to a Ray cluster, by address and token. Errors name the cause and a remedy."""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import ray
from ray import _raylet
from ray._private.grpc_utils import init_grpc_channel
from ray.core.generated import ray_client_pb2, ray_client_pb2_grpc
from ray.exceptions import AuthenticationError, RayError

from gensyn_ray.domain.errors import Unreachable
from ledger.actor import NAMESPACE

CLIENT_SCHEME = "ray://"
CLIENT_ATTEMPTS = 3
PING_S = 10.0


def attach(address: str) -> None:
    """`ray.init` against a running cluster. Raises `Unreachable` with a remedy."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if ray.is_initialized():
        return
    if ":" in address and not _is_listening(address):
        # Ray itself retries for minutes.
        raise Unreachable(
            f"nothing answers at {address}: check the address and that the Ray head runs"
        )
    try:
        if address.startswith(CLIENT_SCHEME):
            _show_token(address)
        with _quiet_stderr(), _own_sigterm():
            _init(address)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, RayError) as error:
        raise Unreachable(_why(address, error)) from None


def _init(address: str) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    for attempts_left in reversed(range(CLIENT_ATTEMPTS)):
        try:
            ray.init(address=address, namespace=NAMESPACE, **quiet)
        except ConnectionAbortedError:
            # The head starts a process for each client. Sometimes that process dies at its start.
            if not attempts_left:
                raise
        else:
            return


def _show_token(address: str) -> None:
    """Ping a Ray Client server. Raises `RayError` if the server refuses the token. Ray's own client
    retries a refused token for half a minute."""
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

    Ray reads its authentication mode when it is imported. This function makes Ray read it again.
    """
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token)
    _raylet.Config.initialize("")  # pyright: ignore[reportAttributeAccessIssue]
    _raylet.AuthenticationTokenLoader.instance().reset_cache()  # pyright: ignore[reportAttributeAccessIssue]


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep the process's own handler of SIGTERM. Ray's handler ends the process before its context
    managers stop their child processes."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if callable(before) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hide the log lines that Ray's C++ code writes to stderr while it retries."""
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
        # Ray reports a refused token as a missing answer. The test above found a server.
        return (
            f"the cluster at {address} does not take this token: set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN to the token of that cluster's head"
        )
    return (
        f"no Ray cluster found ({address}): give the head's address, HOST:PORT or ray://HOST:PORT, "
        "or start a local network with `gensyn-ray up`"
    )


def _is_listening(address: str) -> bool:
    """Whether a server accepts connections at this address."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2):
            return True
    except (OSError, ValueError):
        return False
