"""The job driver: runs Tune on the head, reveals the submitter's links, closes the job.

    python -m gensyn_ray.job JOB_ID BLOBS_URI

It holds the job's own key, which can start and finish tasks and close the job, and the submitter's
hash chain. It can move no credit by itself.

Not defended: the request, with both secrets, lies in the object store, where members of the Ray
cluster can read it. A thief could reveal links early or close the job; not take money.
"""

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cloudpickle
from ray import tune

from gensyn_ray import cluster
from gensyn_ray.blobs import Blobs
from gensyn_ray.domain import canonical
from gensyn_ray.domain.errors import GensynError, Refused
from gensyn_ray.domain.signing import SigningKey
from gensyn_ray.wall_clock import now_ms
from ledger.client import LedgerClient, Signer
from ledger.core.commands import CloseJob, Command, FinishTask, Record, StartTask
from ledger.core.refusals import Reason
from verifier_actors.core import beacon
from workloads.core.segment import TaskSpec
from workloads.ray_jobs.gate import Gate
from workloads.ray_jobs.sweep import run_sweep
from workloads.ray_jobs.trainable import TrialFacts

SECRET_LINKS = 4096
POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRequest:
    """What a driver needs to run a sweep; travels pickled, like any Ray job's code."""

    job: str
    facts: dict[str, str]
    bundle: str
    numerics: str
    seed: int
    driver_seed: bytes
    secret_seed: bytes
    param_space: dict[str, Any]
    tune_config: tune.TuneConfig


class JobDriver:
    """Signs what the job asks of the authority. Implements the gate's `Driver`."""

    def __init__(
        self, request: SweepRequest, ledger: LedgerClient, blobs: Blobs, signer: Signer
    ) -> None:
        self._request, self._ledger, self._blobs, self._signer = request, ledger, blobs, signer
        self._revealed = 0

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        # Tune pickles its hooks into the experiment's files, and this hangs from them: keys and
        # connections stay in this process, None travels.
        return (type(None), ())

    def start_task(self, *, task: str, trial: str, config: dict[str, Any], attempt: int) -> None:
        spec = TaskSpec(
            bundle=self._request.bundle,
            config=config,
            seed=self._request.seed,
            task=task,
            numerics=self._request.numerics,
        )
        if attempt == 0:
            self._blobs.put_spec(spec)
        self._send(
            StartTask(
                job=self._request.job, task=task, trial=trial, spec=spec.digest, attempt=attempt
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


def run(request: SweepRequest, blobs: Blobs) -> dict[str, Any]:
    """Run a sweep to its end; returns the job's summary."""
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
    config = request.tune_config
    gate = Gate(
        job=request.job,
        network_key=bytes.fromhex(facts["network_key"]),
        genesis=facts["genesis"],
        driver=driver,
        metric=str(config.metric),
        higher_is_better=config.mode == "max",
    )
    watch = Watch(driver)
    started = time.monotonic()
    results = run_sweep(
        facts=TrialFacts(job=request.job, blobs=facts["blobs"]),
        gate=gate,
        param_space=request.param_space,
        tune_config=config,
        storage_path=runs_of(facts["blobs"]),
        watch=watch,
        is_over=watch.is_over,
    )
    driver.close_when_judged(time.sleep)
    failed = results.num_errors
    state = "out of budget" if watch.is_over() else f"{failed} trials failed" if failed else "done"
    return {
        "state": state,
        "trials": len(results) - failed,
        "wall_s": round(time.monotonic() - started, 3),
    }


def runs_of(blobs_uri: str) -> str:
    """Where Tune keeps its own files."""
    return f"{blobs_uri.rstrip('/')}/runs"


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
    request: SweepRequest = cloudpickle.loads(blobs.get_file(request_name(job)))
    cluster.attach("auto")
    blobs.put_file(result_name(job), canonical.encode(run(request, blobs)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
