"""The job gateway: the head's side of a client that reaches only Ray.

It opens jobs and starts their drivers, and starts them again if they or the head die. It stops the
driver of a job for a key that the authority accepts. It passes objects between clients and the
network's object store, so a laptop needs no access to the store. Objects that clients put are named
by their digest, which is checked. A job's request is taken once, together with the signed command
that opens the job, and is never shown.

`JobGateway` is a plain class; `GatewayActor` is the Ray actor. It holds no key: clients check what
they read from it.

Not defended: Ray cannot stop a member of the cluster from calling another actor under this name, or
from reading an object store in a shared folder. Any member may read states and results, and fill
the store: each object has a limit, all of them together have none.
"""

import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from shlex import quote
from typing import Any, Protocol

import psutil
from pyarrow import fs
from ray.job_submission import JobSubmissionClient
from ray.util.state import list_nodes

from gensyn_ray.domain import canonical
from gensyn_ray.domain.errors import GensynError, Refused
from gensyn_ray.domain.ids import is_safe_id
from gensyn_ray.domain.signing import Envelope
from gensyn_ray.jobs.driver_queue import QUEUED, STARTS, OpenJobDriver, drivers_that_fit, waiting
from gensyn_ray.jobs.names import request_name, result_name, runs_of
from gensyn_ray.jobs.nodes import VolunteerNode, volunteer_nodes
from gensyn_ray.object_store.objects import Missing, Objects
from gensyn_ray.object_store.opening import open_objects
from ledger.client import LedgerClient
from ledger.core import orders
from ledger.core.commands import CloseJob, OpenJob
from ledger.core.decision import is_digest
from ledger.core.refusals import Reason, Rejected
from workloads.core.dataset import digest_of
from workloads.ray_jobs import registry
from workloads.ray_jobs.kind.job_end import JobEnd

GATEWAY_NAME = "gensyn-jobs"
REQUEST_BYTES = 8 << 20
"""The largest pickled job request."""
OBJECT_BYTES = 256 << 20
"""The largest object of a client: a bundle, a manifest, a shard of data."""
STOP_WAIT_S = 3600
"""How long Ray lets a stopped driver wait for the last rulings."""
LOG_CHARACTERS = 2000
TEND_S = 5.0
QUEUE_TEND_S = 1.0
"""Seconds between two looks at the drivers, and while jobs wait for one."""
MOST_NODES = 10_000
STOPPABLE = (Reason.SEGMENTS_UNSETTLED, Reason.SLOT_CHALLENGED)
"""Refusals of a `CloseJob` whose signer may close the job, but not yet."""

Answer = dict[str, Any]


class Ledger(Protocol):
    """The authority: commands and queries. Both raise `Refused` and `Unreachable`."""

    def submit(self, envelope: Envelope) -> dict[str, Any]: ...
    def read(self, view: str, **parameters: str) -> Any: ...


class Jobs(Protocol):
    """Ray's own list of jobs. Each call raises `RuntimeError` for an unknown job."""

    def submit_job(
        self,
        *,
        entrypoint: str,
        submission_id: str,
        runtime_env: dict[str, Any],
        metadata: dict[str, str],
    ) -> str: ...
    def get_job_status(self, job_id: str) -> Any: ...
    def get_job_logs(self, job_id: str) -> str: ...
    def stop_job(self, job_id: str) -> bool: ...


class JobGateway:
    """Answers clients. An expected refusal is the value `{"refused": reason, "detail": text}`.

    `facts`: the network's addresses and keys. `runs`: file system and folder of Ray's own files of
    runs. `nodes`: every node that Ray has known under this head, as Ray's `NodeState`s.
    `most_drivers`: at a time; other jobs wait. `monotonic_s`: a clock in seconds."""

    def __init__(
        self,
        *,
        facts: Mapping[str, str],
        ledger: Ledger,
        jobs: Jobs,
        objects: Objects,
        runs: tuple[fs.FileSystem, str],
        nodes: Callable[[], Sequence[Any]],
        most_drivers: int,
        monotonic_s: Callable[[], float],
    ) -> None:
        self._facts, self._ledger, self._jobs = facts, ledger, jobs
        self._objects, self._runs, self._nodes = objects, runs, nodes
        self._most_drivers = most_drivers
        self._starting, self._clock, self._tended_s = threading.Lock(), monotonic_s, -math.inf
        self._queued: Sequence[str] = ()
        """Jobs that waited for a driver at the last look, in their order. Replaced, not changed."""
        self._requested: set[str] = set()
        """Jobs whose request was seen. A request can be large."""

    # -- jobs ------------------------------------------------------------------------------------

    def open_job(self, envelope: dict[str, str], request: bytes) -> Answer:
        """Submit a signed `OpenJob`, store the request, start the driver. Idempotent.

        The driver is on the Ray dashboard's Jobs page under the job's id."""
        if len(request) > REQUEST_BYTES:
            return _too_large("the job's request", len(request), REQUEST_BYTES)
        sealed = Envelope.from_json(envelope)
        order = orders.read(sealed)
        if isinstance(order, Rejected):
            return _refused(order.reason, order.detail)
        opened = order.command
        if not isinstance(opened, OpenJob):
            return _refused(Reason.UNKNOWN_OPERATION, "this command opens no job")
        answer = self._submit(sealed)
        if "refused" in answer:
            return answer
        key = f"files/{request_name(opened.job)}"
        try:
            if self._objects.get(key) != request:
                return _refused(Reason.JOB_EXISTS, "the job has another request already")
        except Missing:
            self._objects.put(key, request)
        with suppress(GensynError, OSError):  # `tend` runs again soon
            self.tend()
        return answer

    def tend(self) -> None:
        """Start the drivers of open jobs that have a request and no driver, while there is room for
        them. `driver_queue.waiting` has their order.

        This is the case for a new job, and after the head or the driver died. Raises `GensynError`
        if the authority does not answer."""
        with self._starting:
            self._tended_s = self._clock()
            rows = [self._driver_of(one) for one in self._ledger.read("open_jobs")]
            self._requested &= {one.job for one in rows}
            ready = [one for one in rows if not one.is_due or self._has_request(one.job)]
            now, self._queued = waiting(ready, self._most_drivers)
            for one in now:
                try:
                    self._start(_submission(one.job, one.starts), one)
                except RuntimeError as error:  # Ray takes jobs only seconds after its head's start
                    print(f"gateway: {one.job} has no driver yet: {error}", flush=True)

    def _tend_for(self, job: str, *, has_driver: bool) -> None:
        """`tend` for a job without a running driver. Not if it has just run and the job never had a
        driver, or is closed: a client may ask for any id, at any rate."""
        if has_driver and self._closed_status(job):
            return
        if has_driver or self._clock() - self._tended_s >= QUEUE_TEND_S:
            with suppress(GensynError, OSError):
                self.tend()

    def _driver_of(self, row: Mapping[str, str]) -> OpenJobDriver:
        known = self._drivers(row["job"])
        return OpenJobDriver(
            job=row["job"],
            kind=row["kind"],
            submitter=row["submitter"],
            starts=len(known),
            status=known[-1][1] if known else "",
        )

    def _has_request(self, job: str) -> bool:
        """Whether the submitter has sent the job's request."""
        if job not in self._requested:
            try:
                self._objects.get(f"files/{request_name(job)}")
            except Missing:
                return False
            self._requested.add(job)
        return True

    def _drivers(self, job: str) -> list[tuple[str, str]]:
        """(name on Ray's Jobs page, Ray's status) of each driver that a job had under this head."""
        found: list[tuple[str, str]] = []
        for start in range(STARTS):
            name = _submission(job, start)
            try:
                status = self._jobs.get_job_status(name).value
            except RuntimeError:  # Ray raises it for an unknown job
                break
            found.append((name, status))
            if status != "FAILED":  # only a failed driver is started again
                break
        return found

    def _start(self, submission: str, driver: OpenJobDriver) -> None:
        job = driver.job
        command = [self._facts["python"], "-m", "gensyn_ray.jobs.driver", job, self._facts["blobs"]]
        self._jobs.submit_job(
            submission_id=submission,
            entrypoint=" ".join(map(quote, command)),
            metadata={
                "gensyn.job": job,
                "gensyn.kind": driver.kind,
                "gensyn.submitter": driver.submitter,
            },
            runtime_env={
                "env_vars": {
                    "RAY_USAGE_STATS_ENABLED": "0",
                    "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S),
                    **registry.driver_env(),
                }
            },
        )

    def close_job(self, envelope: dict[str, str]) -> Answer:
        """Submit a signed `CloseJob`, and stop the job's driver if the signer may close the job.

        A stopped driver ends its tasks, waits for the rulings and closes the job."""
        sealed = Envelope.from_json(envelope)
        order = orders.read(sealed)
        if isinstance(order, Rejected):
            return _refused(order.reason, order.detail)
        if not isinstance(order.command, CloseJob):
            return _refused(Reason.UNKNOWN_OPERATION, "this command closes no job")
        answer = self._submit(sealed)
        if answer.get("refused") in (None, *STOPPABLE):
            for name, status in self._drivers(order.command.job):
                if status in ("PENDING", "RUNNING"):
                    self._jobs.stop_job(name)
        return answer

    def status(self, job: str) -> tuple[str, str]:
        """(Ray's status of the driver, empty if there is none; the end of its log if it failed). Or
        `QUEUED` and the job's place, if it waits for a driver.

        A job with a summary is over, and its summary gives the status: the driver needs another two
        seconds to exit, and Ray forgets a driver when its head restarts."""
        if not is_safe_id(job):
            return "", ""
        if ended := self._summary_status(job):
            return ended, ""
        known = self._drivers(job)
        if job not in self._queued and (not known or known[-1][1] == "FAILED"):
            self._tend_for(job, has_driver=bool(known))
            known = self._drivers(job)
        queued = self._queued
        if job in queued:
            return QUEUED, f"place {queued.index(job) + 1} in the queue"
        if not known:
            return self._closed_status(job), ""
        name, status = known[-1]
        log = self._jobs.get_job_logs(name)[-LOG_CHARACTERS:] if status == "FAILED" else ""
        return status, log

    def nodes(self) -> list[VolunteerNode]:
        """The volunteers' nodes, present and gone."""
        return volunteer_nodes(self._nodes(), time.time)

    def _summary_status(self, job: str) -> str:
        try:
            summary = canonical.decode(self._objects.get(f"files/{result_name(job)}"))
        except Missing:
            return ""
        return "FAILED" if summary["state"] == JobEnd.FAILED else "SUCCEEDED"

    def _closed_status(self, job: str) -> str:
        """ "STOPPED" for a closed job without driver and summary, else empty."""
        with suppress(GensynError):
            return "STOPPED" if self._ledger.read("job", job=job)["closed"] else ""
        return ""

    def _submit(self, sealed: Envelope) -> Answer:
        try:
            return self._ledger.submit(sealed)
        except Refused as refusal:
            return _refused(refusal.reason, refusal.detail)
        except GensynError as error:
            return _refused("unreachable", str(error))

    # -- objects ---------------------------------------------------------------------------------

    def put(self, key: str, data: bytes) -> Answer:
        """Store a client's object. `key`: "KIND/DIGEST"; the digest must be the object's."""
        if len(data) > OBJECT_BYTES:
            return _too_large(key, len(data), OBJECT_BYTES)
        kind, _, name = key.partition("/")
        if kind not in DIGESTS:
            return _refused("not allowed", f"clients store {', '.join(DIGESTS)}, not {kind}")
        try:
            found = DIGESTS[kind](data)
        except canonical.NotCanonical as error:
            return _refused(Reason.MALFORMED, str(error))
        if found != name:
            return _refused(Reason.MALFORMED, f"{key} has another digest")
        self._objects.put(key, data)
        return {}

    def get(self, key: str) -> bytes | None:
        """An object that clients may read: a state, a spec, a summary, or a client's object. Else
        None."""
        kind, _, name = key.partition("/")
        is_result = kind == "files" and is_safe_id(name) and name == result_name(name[:-7])
        if not is_result and not (kind in ("states", "specs", *DIGESTS) and is_digest(name)):
            return None
        try:
            return self._objects.get(key)
        except Missing:
            return None

    def run_files(self, job: str) -> dict[str, bytes]:
        """Ray's files of a job that clients may fetch: path below the runs' folder -> content."""
        filesystem, root = self._runs
        if not is_safe_id(job):
            return {}
        listed = filesystem.get_file_info(
            fs.FileSelector(f"{root}/{job}", recursive=True, allow_not_found=True)
        )
        found: dict[str, bytes] = {}
        prefixes = registry.result_files()
        for info in listed:
            if info.is_file and info.base_name.startswith(prefixes):
                with filesystem.open_input_stream(info.path) as opened:
                    found[info.path.removeprefix(f"{root}/")] = opened.readall()
        return found


def _digest_of_json(data: bytes) -> str:
    return canonical.digest(canonical.decode(data))


DIGESTS: Mapping[str, Callable[[bytes], str]] = {
    "bundles": _digest_of_json,
    "manifests": _digest_of_json,
    "data": digest_of,
}
"""Kinds of object that clients may store -> digest of such an object."""


def _submission(job: str, start: int) -> str:
    """Ray's name of a driver: the job's id for the first start, with a number for later ones. Ray
    treats a reused name as the dead driver."""
    return f"{job}-{start + 1}" if start else job


def _refused(reason: str, detail: str) -> Answer:
    return {"refused": str(reason), "detail": detail}


def _too_large(what: str, size: int, most: int) -> Answer:
    return _refused("too large", f"{what} has {size:,} bytes, the limit is {most:,}")


class GatewayActor(JobGateway):
    """The gateway as a named actor on the head. Calls `tend` every few seconds."""

    def __init__(self, facts: dict[str, str]) -> None:
        super().__init__(
            facts=facts,
            ledger=LedgerClient(facts["address"]),
            jobs=JobSubmissionClient(facts["dashboard"]),
            objects=open_objects(facts["blobs"]),
            runs=runs_of(facts["blobs"]),
            nodes=lambda: list_nodes(address=facts["dashboard"], limit=MOST_NODES, detail=True),
            most_drivers=drivers_that_fit(
                psutil.virtual_memory().available, len(os.sched_getaffinity(0))
            ),
            monotonic_s=time.monotonic,
        )
        threading.Thread(target=self._keep_tending, name="tend", daemon=True).start()

    def _keep_tending(self) -> None:
        while True:
            try:
                self.tend()
            except (GensynError, OSError) as error:  # the second if Ray's dashboard is away
                print(f"gateway: {error}", flush=True)
            time.sleep(QUEUE_TEND_S if self._queued else TEND_S)
