"""The job driver: runs Tune or Train on the head, reveals the submitter's links, closes the job.

    python -m gensyn_ray.job JOB_ID BLOBS_URI

It holds the job's own key, which can start and finish tasks and close the job, and the submitter's
hash chain. It can move no credit by itself.

Not defended: the request, with both secrets, lies in the object store, where members of the Ray
cluster can read it. A thief could reveal links early or close the job; not take money.
"""

import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import cloudpickle
from pyarrow import fs

from gensyn_ray import cluster
from gensyn_ray.blobs import Blobs
from gensyn_ray.domain import canonical
from gensyn_ray.domain.errors import GensynError, Refused
from gensyn_ray.domain.signing import SigningKey
from gensyn_ray.object_store.opening import open_files
from gensyn_ray.request import JobRequest, Search, Together
from gensyn_ray.wall_clock import now_ms
from ledger.client import LedgerClient, Signer
from ledger.core.commands import CloseJob, Command, FinishTask, Record, StartTask
from ledger.core.refusals import Reason
from verifier_actors.core import beacon
from workloads.core.segment import Merge, Round, TaskSpec
from workloads.ray_jobs.gate import Gate
from workloads.ray_jobs.rounds import Rounds
from workloads.ray_jobs.sweep import run_sweep
from workloads.ray_jobs.together import run_rounds
from workloads.ray_jobs.trainable import TrialFacts

SECRET_LINKS = 4096
POLL_S = 0.1


class JobDriver:
    """Signs what the job asks of the authority. Implements `Driver` of the gate and the rounds."""

    def __init__(
        self, request: JobRequest, ledger: LedgerClient, blobs: Blobs, signer: Signer
    ) -> None:
        self._request, self._ledger, self._blobs, self._signer = request, ledger, blobs, signer
        self._config = request.work.config if isinstance(request.work, Together) else {}
        self._parts: dict[str, TaskSpec] = {}
        self._revealed = 0

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        # Tune pickles its hooks into the experiment's files, and this hangs from them: keys and
        # connections stay in this process, None travels.
        return (type(None), ())

    def start_task(self, *, task: str, trial: str, config: dict[str, Any], attempt: int) -> None:
        self._start(self._spec(task, config), trial, attempt)

    def start_part(
        self, *, task: str, inputs: Mapping[str, str], round: Round | None, merge: Merge | None
    ) -> None:
        spec = self._spec(task, self._config)
        spec = replace(spec, inputs=dict(inputs), round=round, merge=merge)
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

    def look(self) -> dict[str, Any]:
        """The job's reading."""
        return self._ledger.read("job", job=self._request.job)

    def reveal_due(self) -> None:
        """Show one link of the submitter's chain for each round that waits for one."""
        for round_ in self._ledger.read("unrevealed", job=self._request.job):
            link = beacon.link_of(self._request.secret_seed, SECRET_LINKS, self._revealed + 1)
            content = {"job": self._request.job, "round": round_, "link": link.hex()}
            self._send(Record(kind="reveal", content=content))
            self._revealed += 1

    def close_when_judged(self, sleep: Callable[[float], None]) -> None:
        """Have the rest drawn, wait until every segment is settled, close the job."""
        self.harden([])
        while True:
            try:
                self._send(CloseJob(job=self._request.job))
            except Refused as refusal:
                if refusal.reason != Reason.SEGMENTS_UNSETTLED:
                    raise
                sleep(POLL_S)
            else:
                return

    def _send(self, command: Command) -> None:
        self._ledger.submit(self._signer.sign(command))


class Watch:
    """Between Tune's steps: sends caught operators' nodes away, sees when the budget is spent."""

    def __init__(self, driver: JobDriver) -> None:
        self._driver = driver
        self._drained: set[str] = set()
        self._out_of_budget = False

    def __call__(self) -> None:
        seen = self._driver.look()
        for operator in set(seen["tombstoned"]) - self._drained:
            cluster.drain_operator(operator)
            self._drained.add(operator)
        waiting = seen["segments"]["committed"] - seen["segments"]["settled"]
        self._out_of_budget = seen["free_micro"] < seen["price_micro"] and not waiting

    def is_over(self) -> bool:
        """Whether the job cannot pay for another segment."""
        return self._out_of_budget


def run(request: JobRequest, blobs: Blobs) -> dict[str, Any]:
    """Run a job to its end; returns its summary."""
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
    watch = Watch(driver)
    started = time.monotonic()
    if isinstance(request.work, Search):
        summary = _search(request, request.work, driver, watch)
    else:
        summary = _train_together(request, request.work, driver, watch)
    driver.close_when_judged(time.sleep)
    return {**summary, "wall_s": round(time.monotonic() - started, 3)}


def _search(request: JobRequest, work: Search, driver: JobDriver, watch: Watch) -> dict[str, Any]:
    facts, config = request.facts, work.tune_config
    gate = Gate(
        job=request.job,
        network_key=bytes.fromhex(facts["network_key"]),
        genesis=facts["genesis"],
        driver=driver,
        metric=str(config.metric),
        higher_is_better=config.mode == "max",
    )
    results = run_sweep(
        facts=TrialFacts(job=request.job, blobs=facts["blobs"]),
        gate=gate,
        param_space=work.param_space,
        tune_config=config,
        storage=runs_of(facts["blobs"]),
        watch=watch,
        is_over=watch.is_over,
    )
    failed = results.num_errors
    state = "out of budget" if watch.is_over() else f"{failed} trials failed" if failed else "done"
    return {
        "state": state,
        "trials": len(results) - failed,
        "metric": str(config.metric),
        "mode": str(config.mode),
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
        "state": "done" if rounds.is_over else "out of budget",
        "rounds": [
            {
                "task": one.task,
                "state": one.state,
                "metrics": one.metrics,
                "changes": [{"task": made.task, "steps": made.steps} for made in one.changes],
            }
            for one in rounds.history
        ],
    }


def runs_of(blobs_uri: str) -> tuple[fs.FileSystem, str]:
    """Where Tune and Train keep their own files."""
    return open_files(blobs_uri, "runs")


def result_name(job: str) -> str:
    """The name of a job's summary in the object store."""
    return f"{job}.result"


def request_name(job: str) -> str:
    """The name of a job's request in the object store."""
    return f"{job}.request"


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
    """Entry point of the Ray job."""
    blobs = Blobs(blobs_uri)
    request: JobRequest = cloudpickle.loads(blobs.get_file(request_name(job)))
    cluster.attach("auto")
    blobs.put_file(result_name(job), canonical.encode(run(request, blobs)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
