"""Starts the network's control actors on the head of a Ray cluster: the composition root."""

import sys
import threading
from collections.abc import Mapping
from typing import Any

import ray
from ray.exceptions import RayError

from gensyn_ray.cluster.placement import detached_on_head
from gensyn_ray.jobs.gateway import GATEWAY_NAME, GatewayActor
from ledger.actor import NAMESPACE, RELAY_NAME, LedgerRelay
from verifier_actors.actors.actor import AuditorActor, VerifierSeat

AUDITOR_NAME = "gensyn-auditor"
KEEP_S = 1.0


def start_control(facts: Mapping[str, str], seats: list[VerifierSeat]) -> "RelayKeeper":
    """Start the ledger relay, the job gateway and the auditor as detached named actors.

    The caller runs the returned keeper, because any member of the cluster can kill the relay.
    """
    detached = detached_on_head()
    keeper = RelayKeeper(facts)
    keeper.turn()
    gateway = ray.remote(GatewayActor).options(name=GATEWAY_NAME, max_restarts=-1, **detached)
    gateway.remote(dict(facts))
    auditor = (
        ray.remote(AuditorActor)
        .options(name=AUDITOR_NAME, max_restarts=-1, **detached)
        .remote(facts["address"], seats, facts["blobs"])
    )
    auditor.run.remote()
    return keeper


class RelayKeeper:
    """Keeps the relay's name bound to the relay that was started here.

    Ray lets any member kill the relay and give its name to another actor. Such an actor cannot
    forge receipts, because clients check the network's signature on each one. But clients cannot
    reach the ledger through it. Runs outside Ray's workers, where members cannot kill it.
    """

    def __init__(self, facts: Mapping[str, str]) -> None:
        self._facts = dict(facts)
        self._ours: Any = None

    def turn(self) -> bool:
        """Check once, and start the relay again if it is gone. True if it was started."""
        try:
            found = ray.get_actor(RELAY_NAME, namespace=NAMESPACE)
        except ValueError:
            found = None
        if found is not None:
            if self._ours is None or found._actor_id != self._ours._actor_id:
                ray.kill(found)  # the name is free after some turns
            return False
        self._ours = (
            ray.remote(LedgerRelay)
            .options(name=RELAY_NAME, max_restarts=-1, max_concurrency=16, **detached_on_head())
            .remote(self._facts["address"], self._facts)
        )
        ray.get(self._ours.facts.remote())
        return True

    def keep(self, stopping: threading.Event) -> None:
        """Call `turn` every second until `stopping` is set."""
        while not stopping.wait(KEEP_S):
            try:
                self.turn()
            except (RayError, ValueError) as error:
                # Another actor took the name first, or the relay was killed while it started.
                print(f"relay keeper: {type(error).__name__}", file=sys.stderr, flush=True)
