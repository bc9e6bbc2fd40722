"""Ray actors of verification: verifier actors replay segments, the auditor assigns replays to them.

The auditor runs on the head, reads open audits from the authority and gives each to an actor of the
party that the draw chose, in a profile that computes the segment's numerics class. It holds no key.
Each verifier actor runs on a verifier node, in the environment of one profile, and has its results
signed by that node's agent.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import ray
from ray.exceptions import RayError

from gensyn_ray.domain.errors import GensynError, Refused
from gensyn_ray.operators.agent_client import SOCKET_VARIABLE, AgentClient
from ledger.client import LedgerClient
from verifier_actors.replay.request import ReplayRequest
from workloads.numerics.profiles import PROFILES

POLL_S = 0.1
REPRODUCIBLE_PREFIX = "reproducible/"
IN_FLIGHT = 1
"""Maximum number of running replays for each party, numerics class and urgency. A replay therefore
waits for at most one replay of the other urgency. All other replays stay open at the authority,
which removes those that a ruling makes unnecessary."""


class VerifierActor:
    """Replays in the numerics class of its process.

    Modules that need torch are imported in the methods, not at the top: the auditor imports this
    module to start the actors and runs without torch."""

    def __init__(self, blobs_uri: str) -> None:
        from gensyn_ray.object_store.blobs import Blobs
        from verifier_actors.replay.replay import Verifier
        from workloads.numerics import guard

        guard.check()  # loads the kernels' compiler before the first replay is due
        agent = AgentClient.of_this_node()
        self._verifier = Verifier(
            Blobs(blobs_uri),
            lambda job, slot, result: agent.verdict(job=job, slot=slot, result=result),
        )

    def numerics_class(self) -> str:
        """The class of stock kernels that this process computes."""
        from workloads.numerics.pinned import numerics_class

        return numerics_class()

    def replay(self, request: ReplayRequest) -> str:
        """Replay and send the verdict. Returns an error message; empty if the verdict was sent or
        is no longer needed."""
        try:
            self._verifier.handle(request)
        except Refused:
            return ""  # the audit is judged already
        except GensynError as error:
            return str(error)
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierSeat:
    """A verifying party: its agent's socket on the verifier node, and the profile (the environment)
    in which it replays each numerics class that it serves."""

    party: str
    name: str
    socket: str
    profiles: dict[str, str]


class Pool(Protocol):
    """Starts replays and reports the ended ones."""

    def start(self, party: str, numerics: str, request: ReplayRequest) -> bool: ...
    def ended(self) -> list[tuple[str, str]]: ...


class Auditor:
    """Starts each open replay in the pool until a verdict answers it. Tests pass a fake `pool`."""

    def __init__(self, read_audits: Callable[[], list[dict[str, Any]]], pool: Pool) -> None:
        self._read = read_audits
        self._pool = pool
        self._running: dict[tuple[str, str], tuple[str, bool]] = {}

    def turn(self) -> None:
        """Start the open replays that do not run. A replay that ended without a verdict starts
        again."""
        for key in self._pool.ended():
            self._running.pop(key, None)
        load = Counter((party, *kind) for (party, _), kind in self._running.items())
        for audit in self._read():
            key, kind = (audit["party"], audit["slot"]), (audit["numerics"], audit["urgent"])
            if key in self._running or load[audit["party"], *kind] >= IN_FLIGHT:
                continue
            request = ReplayRequest(
                job=audit["job"],
                slot=audit["slot"],
                spec=audit["spec"],
                state_before=audit["state_before"],
            )
            if self._pool.start(audit["party"], audit["numerics"], request):
                self._running[key] = kind
                load[audit["party"], *kind] += 1


class ActorPool:
    """Verifier actors, one per party and profile, created when first needed."""

    def __init__(self, seats: list[VerifierSeat], blobs: str) -> None:
        self._seats = {seat.party: seat for seat in seats}
        self._blobs = blobs
        self._actors: dict[tuple[str, str], Any] = {}
        self._tasks: dict[ray.ObjectRef[str], tuple[str, str]] = {}

    def start(self, party: str, numerics: str, request: ReplayRequest) -> bool:
        """Start a replay in the party's actor. False if the party does not serve the class."""
        actor = self._actor(party, numerics)
        if actor is None:
            return False
        method = actor.replay.options(name=f"replay {request.slot}")
        self._tasks[method.remote(request)] = (party, request.slot)
        return True

    def ended(self) -> list[tuple[str, str]]:
        """(party, slot) of each replay that has ended, with or without an error."""
        if not self._tasks:
            return []
        done, _ = ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=0)
        ended: list[tuple[str, str]] = []
        for task in done:
            key = self._tasks.pop(task)
            ended.append(key)
            try:
                if problem := ray.get(task):
                    print(f"replay of {key[1]}: {problem}", flush=True)
            except RayError as error:
                print(f"replay of {key[1]} by {key[0]} failed: {error}", flush=True)
                self._forget_dead_actors(key[0])
        return ended

    def wait(self, timeout_s: float) -> None:
        """Wait until a replay ends, or for the timeout."""
        if self._tasks:
            ray.wait(list(self._tasks), num_returns=1, timeout=timeout_s)
        else:
            time.sleep(timeout_s)

    def warm_up(self, party: str) -> None:
        """Start the party's actor for reproducible segments before the first draw. An actor of
        another class starts with its first replay: jobs in pinned numerics are rare, and the start
        of an actor takes seconds of processor time."""
        for numerics in self._seats[party].profiles:
            if numerics.startswith(REPRODUCIBLE_PREFIX):
                self._actor(party, numerics)

    def _actor(self, party: str, numerics: str) -> Any:
        seat = self._seats.get(party)
        if seat is None or (profile := seat.profiles.get(numerics)) is None:
            return None
        if (party, profile) not in self._actors:
            environment = {**PROFILES[profile], SOCKET_VARIABLE: seat.socket}
            self._actors[party, profile] = (
                ray.remote(VerifierActor)
                .options(
                    name=f"{seat.name} {profile}",
                    num_cpus=0,
                    label_selector={"gensyn.role": "verifier"},
                    runtime_env={"env_vars": environment},
                    max_restarts=-1,
                )
                .remote(self._blobs)
            )
        return self._actors[party, profile]

    def _forget_dead_actors(self, party: str) -> None:
        for key in [key for key in self._actors if key[0] == party]:
            del self._actors[key]


class AuditorActor:
    """Polls the authority in one thread. `run` does not return."""

    def __init__(
        self,
        ledger_address: str,
        seats: list[VerifierSeat],
        blobs: str,
    ) -> None:
        ledger = LedgerClient(ledger_address)
        self._pool = ActorPool(seats, blobs)
        self._auditor = Auditor(lambda: ledger.read("audits"), self._pool)
        self._parties = [seat.party for seat in seats]

    def run(self) -> None:
        """Serve until the actor is killed."""
        for party in self._parties:
            self._pool.warm_up(party)
        while True:
            try:
                self._auditor.turn()
            except GensynError as error:
                print(f"auditor: {error}", flush=True)
            self._pool.wait(POLL_S)
