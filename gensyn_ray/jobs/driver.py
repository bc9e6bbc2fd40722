"""The job driver: runs Tune or Train on the head, reveals the submitter's links, closes the job.

    python -m gensyn_ray.jobs.driver JOB_ID BLOBS_URI

It holds the job's own key, which can start and finish tasks and close the job, and the submitter's
hash chain. It can move no credit by itself, and remembers nothing that is not with the authority or
among Tune's files: if it dies, with its head or alone, the desk starts it again and it goes on.

Not covered: a training of several volunteers at once does not go on; it ends, paid for what is
committed.

Not defended: the request, with both secrets, lies in the object store, where members of the Ray
cluster can read it. A thief could reveal links early or close the job; not take money.
"""

import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import cloudpickle

from gensyn_ray.cluster import connection, placement
from gensyn_ray.domain import canonical
from gensyn_ray.domain.errors import GensynError, OperationError, Refused
from gensyn_ray.domain.signing import SigningKey
from gensyn_ray.jobs.names import FAILED, request_name, result_name, runs_of
from gensyn_ray.jobs.request import JobRequest, Search, Together
from gensyn_ray.object_store.blobs import Blobs
from gensyn_ray.runtime.wall_clock import now_ms
from ledger.client import LedgerClient, Signer
from ledger.core.commands import CloseJob, Command, FinishTask, Record, StartTask
from ledger.core.refusals import Reason
from verifier_actors.core import beacon
from workloads.core.segment import InnerSteps, OuterStep, TaskSpec
from workloads.ray_jobs.diloco.core.rounds import Rounds
from workloads.ray_jobs.diloco.train.workers import run_rounds
from workloads.ray_jobs.search.core.gate import Gate
from workloads.ray_jobs.search.tune.run_search import run_sweep
from workloads.ray_jobs.search.tune.trainable import TrialFacts
from workloads.ray_jobs.search.tune.trial_errors import TrialErrors

SECRET_LINKS = 4096
POLL_S = 0.1
CANCELLED = "cancelled"
"""How a job's summary calls an end that its submitter wanted."""
TRACE_FRAMES = 12


class JobDriver:
    """Signs what the job asks of the authority. Implements `Driver` of the gate and the rounds."""

    def __init__(
        self, request: JobRequest, ledger: LedgerClient, blobs: Blobs, signer: Signer
    ) -> None:
        self._request, self._ledger, self._blobs, self._signer = request, ledger, blobs, signer
        self._config: dict[str, Any] = {}
        self._parts: dict[str, TaskSpec] = {}

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        # Tune pickles its hooks into the experiment's files, and this hangs from them: keys and
        # connections stay in this process, None travels.
        return (type(None), ())

    def start_task(self, *, task: str, trial: str, config: dict[str, Any], attempt: int) -> None:
        self._start(self._spec(task, config), trial, attempt)

    def all_parts_have(self, config: dict[str, Any]) -> None:
        """The config of what `start_part` starts."""
        self._config = config

    def start_part(
        self,
        *,
        task: str,
        inputs: Mapping[str, str],
        round: InnerSteps | None,
        merge: OuterStep | None,
    ) -> None:
        spec = self._spec(task, self._config)
        spec = replace(spec, inputs=dict(inputs), inner_steps=round, outer_step=merge)
        self._parts[task] = spec
        self._start(spec, task, 0)

    def start_again(self, *, task: str, attempt: int) -> None:
        self._start(self._parts[task], task, attempt)

    def _spec(self, task: str, config: dict[str, Any]) -> TaskSpec:
        return TaskSpec(
            bundle=self._request.bundle,
            config=config,
            seed=self._request.seed,
            task=task,
            numerics=self._request.numerics,
            data=self._request.data,
        )

    def _start(self, spec: TaskSpec, trial: str, attempt: int) -> None:
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

    def harden(self, tasks: list[str]) -> None:
        self._send(Record(kind="harden", content={"job": self._request.job, "tasks": tasks}))

    def tasks(self) -> dict[str, dict[str, Any]]:
        return self._ledger.read("tasks", job=self._request.job)

    def must_be_first(self) -> None:
        """Raises `OperationError` if another driver of this job has begun its work."""
        if self.tasks():
            raise OperationError(
                "the driver died, with the head perhaps, and a training of several volunteers at "
                "once cannot go on without it: what was committed is paid, the rest of the budget "
                "returns; submit the job again"
            )

    def config_of(self, spec: str) -> dict[str, Any]:
        """The config of a task by its spec's digest. Raises `OperationError`."""
        return self._blobs.get_spec(spec).config

    def look(self) -> dict[str, Any]:
        """The job's reading."""
        return self._ledger.read("job", job=self._request.job)

    def reveal_due(self) -> None:
        """Show one link of the submitter's chain for each round that waits for one."""
        rounds = self._ledger.read("unrevealed", job=self._request.job)
        if not rounds:
            return
        for index, round_ in enumerate(rounds, self.look()["revealed"] + 1):
            link = beacon.link_of(self._request.secret_seed, SECRET_LINKS, index)
            content = {"job": self._request.job, "round": round_, "link": link.hex()}
            self._send(Record(kind="reveal", content=content))

    def close_when_judged(self, sleep: Callable[[float], None]) -> None:
        """Have the rest drawn, wait until every segment is settled, close the job."""
        self.harden([])
        while True:
            try:
                self._send(CloseJob(job=self._request.job))
            except Refused as refusal:
                if refusal.reason == Reason.JOB_CLOSED:  # its submitter was faster
                    return
                if refusal.reason not in (Reason.SEGMENTS_UNSETTLED, Reason.SLOT_CHALLENGED):
                    raise
                sleep(POLL_S)
            else:
                return

    def _send(self, command: Command) -> None:
        self._ledger.submit(self._signer.sign(command))


class StopSignal:
    """Whether this process was asked to end. A plain flag: Tune pickles it with its hooks."""

    def __init__(self) -> None:
        self._given = False

    def give(self, *_: object) -> None:
        """A signal's handler."""
        self._given = True

    def is_given(self) -> bool:
        return self._given


class Watch:
    """Between Tune's steps: sends caught operators' nodes away, sees when the budget is spent.

    `is_cancelled`: whether the submitter wants the job to end."""

    def __init__(self, driver: JobDriver, is_cancelled: Callable[[], bool]) -> None:
        self._driver, self._is_cancelled = driver, is_cancelled
        self._drained: set[str] = set()
        self._out_of_budget = False

    def __call__(self) -> None:
        seen = self._driver.look()
        for operator in set(seen["tombstoned"]) - self._drained:
            placement.drain_operator(operator)
            self._drained.add(operator)
        waiting = seen["segments"]["committed"] - seen["segments"]["settled"]
        self._out_of_budget = seen["free_micro"] < seen["price_micro"] and not waiting

    def is_over(self) -> bool:
        """Whether the job must not, or cannot pay to, go on."""
        return bool(self.early_end())

    def early_end(self) -> str:
        """Why the job ends before its time; empty if it does not."""
        if self._is_cancelled():
            return CANCELLED
        return "out of budget" if self._out_of_budget else ""


def run(
    request: JobRequest, blobs: Blobs, is_cancelled: Callable[[], bool] = lambda: False
) -> dict[str, Any]:
    """Run a job to its end and close it, however it ends; returns its summary."""
    facts = request.facts
    ledger = LedgerClient(facts["address"])
    signer = Signer(
        SigningKey(request.driver_seed),
        role="driver",
        network=facts["network"],
        genesis=facts["genesis"],
        clock=now_ms,
    )
    driver = JobDriver(request, ledger, blobs, signer)
    _in_background(driver.reveal_due)
    watch = Watch(driver, is_cancelled)
    started = time.monotonic()
    try:
        summary = _work(request, driver, watch)
    except Exception as error:
        if is_cancelled() or driver.look()["closed"]:
            # What was under way met a closed job: that is no failure.
            summary = {"state": CANCELLED}
        else:
            summary = {"state": FAILED, "error": _told(error)}
    driver.close_when_judged(time.sleep)
    return {**summary, "wall_s": round(time.monotonic() - started, 3)}


def _work(request: JobRequest, driver: JobDriver, watch: Watch) -> dict[str, Any]:
    work = request.work
    if isinstance(work, Search):
        return _search(request, work, driver, watch)
    driver.must_be_first()
    driver.all_parts_have(work.config)
    return _train_together(request, work, driver, watch)


def _told(error: Exception) -> str:
    """For the job's author: what the program or the search raised, or why it could not begin."""
    if isinstance(error, GensynError):
        return str(error)
    return "".join(traceback.format_exception(error, limit=-TRACE_FRAMES)).rstrip()


def _search(request: JobRequest, work: Search, driver: JobDriver, watch: Watch) -> dict[str, Any]:
    facts, config = request.facts, work.tune_config
    gate = Gate(
        job=request.job,
        network_key=bytes.fromhex(facts["network_key"]),
        genesis=facts["genesis"],
        driver=driver,
        objectives=work.objectives,
    )
    gate.resume()
    complaints = TrialErrors()
    results = run_sweep(
        facts=TrialFacts(job=request.job, blobs=facts["blobs"]),
        gate=gate,
        param_space=work.param_space,
        tune_config=config,
        storage=runs_of(facts["blobs"]),
        watch=watch,
        is_over=watch.is_over,
        complaints=complaints,
    )
    failed = results.num_errors
    if complaints.is_hopeless or (failed == len(results) and not watch.early_end()):
        raise OperationError(complaints.last or "every trial failed: see the driver's log")
    return {
        "state": watch.early_end() or (f"{failed} trials failed" if failed else "done"),
        "trials": len(results) - failed,
        "metric": str(config.metric),
        "mode": str(config.mode),
        "objectives": dict(work.objectives),
        "error": complaints.last if failed else "",
    }


def _train_together(
    request: JobRequest, work: Together, driver: JobDriver, watch: Watch
) -> dict[str, Any]:
    rounds = Rounds(driver, work.plan, time.monotonic)
    run_rounds(
        facts=TrialFacts(job=request.job, blobs=request.facts["blobs"]),
        rounds=rounds,
        workers=work.workers,
        storage=runs_of(request.facts["blobs"]),
        watch=watch,
        is_over=watch.is_over,
    )
    return {
        "state": "done" if rounds.is_over else watch.early_end(),
        "rounds": [
            {
                "task": one.task,
                "state": one.state,
                "metrics": one.metrics,
                "at_s": round(one.at_s, 3),
                "changes": [{"task": made.task, "steps": made.steps} for made in one.changes],
            }
            for one in rounds.history
        ],
    }


def _in_background(action: Callable[[], None]) -> None:
    def keep_on() -> None:
        while True:
            try:
                action()
            except GensynError as error:
                print(f"driver: {error}", flush=True)
            time.sleep(POLL_S)

    threading.Thread(target=keep_on, name="reveal", daemon=True).start()


def main(job: str, blobs_uri: str) -> None:
    """Entry point of the Ray job. Ends with code 1 if the job failed."""
    blobs = Blobs(blobs_uri)
    connection.attach("auto")
    stop = StopSignal()
    # After Ray's own handler. `ray job stop` and the desk ask like this, and then wait.
    signal.signal(signal.SIGTERM, stop.give)
    request: JobRequest = cloudpickle.loads(blobs.get_file(request_name(job)))
    summary = run(request, blobs, stop.is_given)
    blobs.put_file(result_name(job), canonical.encode(summary))
    if summary["state"] == FAILED:
        sys.exit(f"job {job} failed: {summary['error']}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
