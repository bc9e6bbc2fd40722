"""The job desk: what a client that reaches only Ray needs of the head.

It opens jobs and starts their drivers, again if they die or their head did, stops them for whoever
the authority says may close them, and passes objects between clients and the network's store, so
that a laptop needs neither the store nor its credentials. Objects that clients put are named by
what they hold, and checked; a job's request is taken together with the signed order that opens the
job, once, and never shown.

Plain: `GatewayActor` is this as a Ray actor. It holds no key: what a client reads is checked there.

Not defended: Ray keeps no member from calling another actor in its place, or from reading a store
in a shared folder. Any member may read states and results, and fill the store with objects of its
own: there is a limit to each, and none to all of them.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from shlex import quote
from typing import Any, Protocol

from pyarrow import fs
from ray.job_submission import JobSubmissionClient
from ray.util.state import list_nodes

from gensyn_ray.domain import canonical
from gensyn_ray.domain.errors import GensynError, Refused
from gensyn_ray.domain.ids import is_safe_id
from gensyn_ray.domain.signing import Envelope
from gensyn_ray.jobs.names import FAILED, request_name, result_name, runs_of
from gensyn_ray.jobs.quoting import nodes_of
from gensyn_ray.object_store.objects import Missing, Objects
from gensyn_ray.object_store.opening import open_objects
from ledger.client import LedgerClient
from ledger.core import orders
from ledger.core.commands import CloseJob, OpenJob
from ledger.core.decision import is_digest
from ledger.core.refusals import Reason, Rejected
from workloads.core.dataset import digest_of

GATEWAY_NAME = "gensyn-jobs"
REQUEST_BYTES = 8 << 20
"""The most that a job's request may be: search space and `TuneConfig`, pickled."""
OBJECT_BYTES = 256 << 20
"""The most that one object of a client's may be: a bundle, a manifest, a shard of data."""
STOP_WAIT_S = 3600
"""How long Ray lets a driver that was told to stop wait for its last judgements."""
GROUP_WAIT_S = 10
"""How long Train waits to place a group that was begun anew. It counts nodes from a list that is up
to 20 s old: after a loss it asks for one too many, and would wait a minute for it each time."""
LOG_CHARACTERS = 2000
TEND_S = 5.0
MOST_NODES = 10_000
STARTS = 3
"""How often a driver that dies is started under one head."""
STOPPABLE = (Reason.SEGMENTS_UNSETTLED, Reason.SLOT_CHALLENGED)
"""Why a job cannot be closed yet, by somebody who may close it."""

RUN_FILES = ("experiment_state-", "result.json", "params.json", "error.txt")
"""How the names of Tune's files begin that a `ResultGrid` is made from. Its `error.pkl` stays: it
would bring an object that a volunteer made into the client's process."""

Answer = dict[str, Any]


class Ledger(Protocol):
    """The authority: a signed command's receipt, and readings. Both raise `Refused`."""

    def submit(self, envelope: Envelope) -> dict[str, Any]: ...
    def read(self, view: str, **parameters: str) -> Any: ...


class Jobs(Protocol):
    """Ray's own list of jobs; each raises `RuntimeError` for a job that it does not know."""

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
    """Expected refusals are values, `{"refused": reason, "detail": text}`. `facts`: what a client
    is told of the network. `runs`: file system and folder of Tune's own files. `nodes`: every node
    that Ray has known under this head, as its `NodeState`s."""

    def __init__(
        self,
        *,
        facts: Mapping[str, str],
        ledger: Ledger,
        jobs: Jobs,
        objects: Objects,
        runs: tuple[fs.FileSystem, str],
        nodes: Callable[[], Sequence[Any]],
    ) -> None:
        self._facts, self._ledger, self._jobs = facts, ledger, jobs
        self._objects, self._runs, self._nodes = objects, runs, nodes
        self._starting = threading.Lock()

    # -- jobs ------------------------------------------------------------------------------------

    def open_job(self, envelope: dict[str, str], request: bytes) -> Answer:
        """Have a signed `OpenJob` accepted, keep the request, start the driver.

        It stands on the dashboard's Jobs page under the job's id. Asking twice does it once.
        """
        if len(request) > REQUEST_BYTES:
            return _too_large("the job's request", len(request), REQUEST_BYTES)
        sealed = Envelope.from_json(envelope)
        order = orders.read(sealed)
        if isinstance(order, Rejected):
            return _refused(order.reason, order.detail)
        opened = order.command
        if not isinstance(opened, OpenJob):
            return _refused(Reason.UNKNOWN_OPERATION, "this opens no job")
        answer = self._submit(sealed)
        if "refused" in answer:
            return answer
        key = f"files/{request_name(opened.job)}"
        try:
            if self._objects.get(key) != request:
                return _refused(Reason.JOB_EXISTS, "the job has another request already")
        except Missing:
            self._objects.put(key, request)
        with suppress(GensynError):  # then it is started a little later
            self.tend()
        return answer

    def tend(self) -> None:
        """Start the driver of every open job that has a request and no driver: the head was started
        again, or the driver was killed. What it began, it goes on with.

        Raises `GensynError` if the authority does not answer."""
        for one in self._ledger.read("open_jobs"):
            self._tend(one["job"], one["kind"], one["submitter"])

    def _tend(self, job: str, kind: str, submitter: str) -> None:
        with self._starting:
            known = self._drivers(job)
            if len(known) == STARTS or (known and known[-1][1] != "FAILED"):
                return
            try:
                self._objects.get(f"files/{request_name(job)}")
                self._start(_submission(job, len(known)), job, kind, submitter)
            except Missing:
                pass  # its submitter has not brought it
            except RuntimeError as error:  # Ray takes jobs only some seconds after its head's start
                print(f"desk: {job} has no driver yet: {error}", flush=True)

    def _drivers(self, job: str) -> list[tuple[str, str]]:
        """(name on Ray's Jobs page, Ray's status) of each driver that a job had under this head."""
        found: list[tuple[str, str]] = []
        for start in range(STARTS):
            name = _submission(job, start)
            try:
                found.append((name, self._jobs.get_job_status(name).value))
            except RuntimeError:  # what Ray says of a job that it has never seen
                break
        return found

    def _start(self, submission: str, job: str, kind: str, submitter: str) -> None:
        command = [self._facts["python"], "-m", "gensyn_ray.jobs.driver", job, self._facts["blobs"]]
        self._jobs.submit_job(
            submission_id=submission,
            entrypoint=" ".join(map(quote, command)),
            metadata={
                "gensyn.job": job,
                "gensyn.kind": kind,
                "gensyn.submitter": submitter,
            },
            runtime_env={
                "env_vars": {
                    "RAY_USAGE_STATS_ENABLED": "0",
                    "RAY_TRAIN_V2_ENABLED": "1",
                    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(GROUP_WAIT_S),
                    "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S),
                }
            },
        )

    def close_job(self, envelope: dict[str, str]) -> Answer:
        """Pass a signed `CloseJob` to the authority, and stop the driver of a job that its signer
        may close: it ends what runs, waits for the judgements and closes the job itself."""
        sealed = Envelope.from_json(envelope)
        order = orders.read(sealed)
        if isinstance(order, Rejected):
            return _refused(order.reason, order.detail)
        if not isinstance(order.command, CloseJob):
            return _refused(Reason.UNKNOWN_OPERATION, "this closes no job")
        answer = self._submit(sealed)
        if answer.get("refused") in (None, *STOPPABLE):
            for name, status in self._drivers(order.command.job):
                if status in ("PENDING", "RUNNING"):
                    self._jobs.stop_job(name)
        return answer

    def status(self, job: str) -> tuple[str, str]:
        """(Ray's status of the driver, or nothing; the end of its log if it failed).

        Of drivers that ended before the head was started again, the result tells."""
        known = self._drivers(job)
        if not known or known[-1][1] == "FAILED":
            with suppress(GensynError):
                self.tend()
            known = self._drivers(job)
        if not known:
            return self._end_of(job), ""
        name, status = known[-1]
        log = self._jobs.get_job_logs(name)[-LOG_CHARACTERS:] if status == "FAILED" else ""
        return status, log

    def nodes(self) -> list[dict[str, Any]]:
        """Volunteers' nodes, those that left among them: `speed`, `seconds` there, `gone`."""
        return nodes_of(self._nodes(), time.time)

    def _end_of(self, job: str) -> str:
        if not is_safe_id(job):
            return ""
        try:
            summary = canonical.decode(self._objects.get(f"files/{result_name(job)}"))
            return "FAILED" if summary["state"] == FAILED else "SUCCEEDED"
        except Missing:
            pass
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
        """Store an object of a client's under the digest that it has."""
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
        """An object that clients may read: states, results, and what clients stored."""
        kind, _, name = key.partition("/")
        is_result = kind == "files" and is_safe_id(name) and name == result_name(name[:-7])
        if not is_result and not (kind in ("states", *DIGESTS) and is_digest(name)):
            return None
        try:
            return self._objects.get(key)
        except Missing:
            return None

    def run_files(self, job: str) -> dict[str, bytes]:
        """Path -> content of Tune's files of a job; none where Tune kept none."""
        filesystem, root = self._runs
        if not is_safe_id(job):
            return {}
        listed = filesystem.get_file_info(
            fs.FileSelector(f"{root}/{job}", recursive=True, allow_not_found=True)
        )
        found: dict[str, bytes] = {}
        for info in listed:
            if info.is_file and info.base_name.startswith(RUN_FILES):
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
"""What clients may store, and how its name follows from its content."""


def _submission(job: str, start: int) -> str:
    """The job's id for its first driver. Ray's watch over one that died would take the next one of
    the same name for dead, too."""
    return f"{job}-{start + 1}" if start else job


def _refused(reason: str, detail: str) -> Answer:
    return {"refused": str(reason), "detail": detail}


def _too_large(what: str, size: int, most: int) -> Answer:
    return _refused("too large", f"{what} has {size:,} bytes, the limit is {most:,}")


class GatewayActor(JobGateway):
    """The desk as a named actor on the head, which looks after its drivers."""

    def __init__(self, facts: dict[str, str]) -> None:
        super().__init__(
            facts=facts,
            ledger=LedgerClient(facts["address"]),
            jobs=JobSubmissionClient(facts["dashboard"]),
            objects=open_objects(facts["blobs"]),
            runs=runs_of(facts["blobs"]),
            nodes=lambda: list_nodes(address=facts["dashboard"], limit=MOST_NODES, detail=True),
        )
        threading.Thread(target=self._keep_tending, name="tend", daemon=True).start()

    def _keep_tending(self) -> None:
        while True:
            try:
                self.tend()
            except (GensynError, OSError) as error:  # the second if Ray's dashboard is away
                print(f"desk: {error}", flush=True)
            time.sleep(TEND_S)
