"""The job driver: runs a job's kind on the head, reveals the submitter's links, closes the job.

    python -m gensyn_ray.jobs.driver JOB_ID BLOBS_URI

It holds the job's own key, which can start and finish tasks and close the job, and the submitter's
hash chain. It cannot move credits. All its state is with the authority or in Ray's files. If it
dies, alone or with its head, the gateway starts it again. A search then continues; a training by
several volunteers at once ends, paid for what is committed.

Not defended: the request, with both secrets, is in the object store, where members of the Ray
cluster can read it. A reader of the request can reveal links early or close the job, and cannot
take money.
"""

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cloudpickle
import msgspec
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR

from gensyn_ray.cluster import connection, placement
from gensyn_ray.domain import canonical
from gensyn_ray.domain.errors import GensynError, Refused
from gensyn_ray.domain.evidence import Flush, FullAudit, Reveal
from gensyn_ray.domain.signing import SigningKey
from gensyn_ray.jobs.names import request_name, result_name, runs_of
from gensyn_ray.jobs.request import JobRequest
from gensyn_ray.object_store.blobs import Blobs
from gensyn_ray.queries.rows import JobStatus, TaskRow
from gensyn_ray.runtime.wall_clock import now_ms
from ledger.client import LedgerClient, Signer
from ledger.core.commands import CloseJob, Command, FinishTask, Record, StartTask
from ledger.core.refusals import Reason
from verifier_actors.core import beacon
from workloads.core.task_spec import TaskSpec
from workloads.ray_jobs.kind.context import JobContext, JobFacts
from workloads.ray_jobs.kind.job_end import JobEnd
from workloads.ray_jobs.kind.summary import JobSummary
from workloads.ray_jobs.registry import summary_to_json

SECRET_LINKS = 4096
"""Links of the submitter's hash chain: the most batches that a job can have."""
POLL_S = 0.1
TRACE_FRAMES = 12


class JobDriver:
    """Signs and sends the job's commands. Implements `workloads.ray_jobs.kind.context.Driver`."""

    def __init__(
        self, request: JobRequest, ledger: LedgerClient, blobs: Blobs, signer: Signer
    ) -> None:
        self._request, self._ledger, self._blobs, self._signer = request, ledger, blobs, signer

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        # Tune pickles its hooks, which refer to this. Keys and connections stay in this process.
        return (type(None), ())

    def start_task(self, spec: TaskSpec, *, trial: str, attempt: int) -> None:
        if attempt == 0:
            self._blobs.put_spec(spec)
        self._send(
            StartTask(
                job=self._request.job,
                task=spec.task,
                trial=trial,
                spec=spec.digest,
                attempt=attempt,
                inputs=list(spec.inputs.values()),
            )
        )

    def finish_task(self, task: str) -> None:
        self._send(FinishTask(job=self._request.job, task=task))

    def full_audit(self, tasks: list[str]) -> None:
        self._send(Record(evidence=FullAudit(job=self._request.job, tasks=tasks)))

    def flush(self) -> None:
        self._send(Record(evidence=Flush(job=self._request.job)))

    def tasks(self) -> dict[str, TaskRow]:
        answer = self._ledger.read("tasks", job=self._request.job)
        return msgspec.convert(answer, dict[str, TaskRow])

    def config_of(self, spec: str) -> dict[str, Any]:
        return self._blobs.get_spec(spec).config

    def job(self) -> JobStatus:
        """The job's counts, rulings and amounts now."""
        return msgspec.convert(self._ledger.read("job", job=self._request.job), JobStatus)

    def reveal_due(self) -> None:
        """Reveal one link of the submitter's chain for each batch that waits for one."""
        batches = self._ledger.read("unrevealed", job=self._request.job)
        if not batches:
            return
        for index, batch in enumerate(batches, self.job().revealed + 1):
            link = beacon.link_of(self._request.secret_seed, SECRET_LINKS, index)
            reveal = Reveal(job=self._request.job, batch=batch, link=link.hex())
            self._send(Record(evidence=reveal))

    def close_when_judged(self, sleep: Callable[[float], None]) -> None:
        """Flush open batches, wait until every segment is settled, close the job."""
        self.flush()
        while True:
            try:
                self._send(CloseJob(job=self._request.job))
            except Refused as refusal:
                if refusal.reason == Reason.JOB_CLOSED:  # by its submitter
                    return
                if refusal.reason not in (Reason.SEGMENTS_UNSETTLED, Reason.SLOT_CHALLENGED):
                    raise
                sleep(POLL_S)
            else:
                return

    def _send(self, command: Command) -> None:
        self._ledger.submit(self._signer.sign(command))


class StopSignal:
    """Whether this process got the signal to end. A class, not a closure, because Tune pickles
    it."""

    def __init__(self) -> None:
        self._given = False

    def give(self, *_: object) -> None:
        """The signal's handler."""
        self._given = True

    def is_given(self) -> bool:
        """Whether the signal came."""
        return self._given


class JobWatch:
    """Drains tombstoned operators' nodes, and decides when the job must end early.

    Implements `workloads.ray_jobs.kind.context.Watch`. `is_cancelled`: whether the submitter closes
    the job."""

    def __init__(self, driver: JobDriver, is_cancelled: Callable[[], bool]) -> None:
        self._driver, self._is_cancelled = driver, is_cancelled
        self._drained: set[str] = set()
        self._out_of_budget = False

    def __call__(self) -> None:
        seen = self._driver.job()
        for operator in set(seen.tombstoned) - self._drained:
            placement.drain_operator(operator)
            self._drained.add(operator)
        waiting = seen.segments.committed - seen.segments.settled
        self._out_of_budget = seen.free_micro < seen.price_micro and not waiting

    def early_end(self) -> JobEnd | None:
        if self._is_cancelled():
            return JobEnd.CANCELLED
        return JobEnd.OUT_OF_BUDGET if self._out_of_budget else None

    def is_over(self) -> bool:
        return self.early_end() is not None


def run(
    request: JobRequest, blobs: Blobs, is_cancelled: Callable[[], bool] = lambda: False
) -> JobSummary:
    """Run a job to its end and close it, also after an error."""
    facts = request.facts
    signer = Signer(
        SigningKey(request.driver_seed),
        role="driver",
        network=facts["network"],
        genesis=facts["genesis"],
        clock=now_ms,
    )
    driver = JobDriver(request, LedgerClient(facts["address"]), blobs, signer)
    _in_background(driver.reveal_due)
    context = JobContext(
        facts=JobFacts(job=request.job, blobs=facts["blobs"]),
        template=request.template,
        network_key=bytes.fromhex(facts["network_key"]),
        genesis=facts["genesis"],
        storage=runs_of(facts["blobs"]),
        driver=driver,
        watch=JobWatch(driver, is_cancelled),
    )
    started = time.monotonic()
    summary = run_kind(request, context, lambda: is_cancelled() or driver.job().closed)
    driver.close_when_judged(time.sleep)
    return replace(summary, wall_s=round(time.monotonic() - started, 3))


def run_kind(
    request: JobRequest, context: JobContext, is_cancelled: Callable[[], bool]
) -> JobSummary:
    """Run the request's kind. An exception becomes a summary: `FAILED`, or `CANCELLED` if the job
    was cancelled meanwhile, since open tasks of a closed job fail."""
    try:
        return request.unpacked().run(context)
    except Exception as error:
        if is_cancelled():
            return JobSummary(state=JobEnd.CANCELLED)
        return JobSummary(state=JobEnd.FAILED, error=_message_of(error))


def _message_of(error: Exception) -> str:
    """The error for the job's author: a message of this package, or an exception with its
    traceback."""
    if isinstance(error, GensynError):
        return str(error)
    return "".join(traceback.format_exception(error, limit=-TRACE_FRAMES)).rstrip()


def _in_background(action: Callable[[], None]) -> None:
    def repeat() -> None:
        while True:
            try:
                action()
            except GensynError as error:
                print(f"driver: {error}", flush=True)
            time.sleep(POLL_S)

    threading.Thread(target=repeat, name="reveal", daemon=True).start()


def _keep_environment_from_workers() -> None:
    """Keep the variables that the gateway sets for the driver from its workers. A worker with
    variables of its own needs a new process. Without them, Ray takes a process that the node has
    started already."""
    if RAY_JOB_CONFIG_JSON_ENV_VAR in os.environ:
        config = json.loads(os.environ[RAY_JOB_CONFIG_JSON_ENV_VAR])
        os.environ[RAY_JOB_CONFIG_JSON_ENV_VAR] = json.dumps({**config, "runtime_env": {}})


def main(job: str, blobs_uri: str) -> None:
    """Entry point of the Ray job. Ends with code 1 if the job failed."""
    blobs = Blobs(blobs_uri)
    _keep_environment_from_workers()
    connection.attach("auto")
    stop = StopSignal()
    # After Ray's own handler. `ray job stop` and the gateway send this signal, and wait.
    signal.signal(signal.SIGTERM, stop.give)
    request: JobRequest = cloudpickle.loads(blobs.get_file(request_name(job)))
    summary = run(request, blobs, stop.is_given)
    blobs.put_file(result_name(job), canonical.encode(summary_to_json(summary)))
    if summary.state is JobEnd.FAILED:
        sys.exit(f"job {job} failed: {summary.error}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
