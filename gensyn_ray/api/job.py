"""A job on the network, and its result."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gensyn_ray.api.progress import ProgressLines, progress_line
from gensyn_ray.domain import canonical
from gensyn_ray.domain.errors import OperationError, Refused, UsageError
from gensyn_ray.jobs.driver_queue import QUEUED
from gensyn_ray.jobs.names import result_name
from gensyn_ray.object_store.blobs import Blobs, Missing
from gensyn_ray.queries.rows import JobStatus, SegmentReceipt, TaskRow
from ledger.core.refusals import Reason
from workloads.ray_jobs.kind.interface import TaskEnd
from workloads.ray_jobs.kind.summary import JobSummary
from workloads.ray_jobs.registry import summary_from_json

if TYPE_CHECKING:
    import torch
    from ray import tune

    from gensyn_ray.api.network import Network
    from workloads.core.program import Program

POLL_S = 0.5
WORKING = ("PENDING", "RUNNING")
"""Ray's states of a driver that has not ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """The result of a job.

    `summary`: how it ended, with its kind's outcome. `search`: Tune's own result; None if Tune did
    not run the job or left none. `bill`: the job's counts and amounts. `receipts`: one for each
    settled segment. `tasks`: by name. `store`: where the trained states are.

    The methods below take a `trial`: a result of `grid`, or Tune's id of a trial. Without it they
    use a search's best trial, or the last round. They raise `OperationError` if there is no trained
    state, and `UsageError` for an unknown trial."""

    summary: JobSummary
    search: "tune.ResultGrid | None"
    bill: JobStatus
    receipts: list[SegmentReceipt] = field(repr=False)
    tasks: dict[str, TaskRow] = field(repr=False)
    store: Blobs = field(repr=False)

    @property
    def grid(self) -> "tune.ResultGrid":
        """Tune's own result. Raises `UsageError` if there is none."""
        if self.search is None:
            raise UsageError("Tune left no result of this job: see `summary`")
        return self.search

    @property
    def state(self) -> str:
        """Digest of the trained state: of a search's best trial, or of the last round.

        Raises `OperationError` if the job ended before there was one."""
        return self._end(None).state

    def model_state(
        self, trial: "tune.Result | str | None" = None, *, module: str = ""
    ) -> "dict[str, torch.Tensor]":
        """The trained `state_dict` of one torch module: `model.load_state_dict(...)` takes it.

        `module`: the program's attribute that holds the module; may be left out if there is only
        one. Runs none of the program's code. Raises `UsageError` that names the modules, and what
        the class documents."""
        from workloads.core.model_state import module_states

        found = module_states(self.store.get_state(self._end(trial).state))
        name = module or (next(iter(found)) if len(found) == 1 else "")
        if name not in found:
            known = ", ".join(repr(one) for one in sorted(found)) or "none"
            said = f"the program has no module {module!r}" if module else "name one module"
            raise UsageError(f"{said}: model_state(module=...) takes {known}")
        return found[name]

    def program(self, trial: "tune.Result | str | None" = None) -> "Program":
        """The trained program: its modules are attributes, as in `result.program().model.eval()`.

        Runs the program's own code in this process: it loads the data and calls `init`. Raises
        `ProgramFailed` for what the program raises, and what the class documents."""
        from gensyn_ray.api.trained import trained_program

        return trained_program(self._end(trial), self.tasks, self.store)

    def save_pretrained(self, folder: Path, trial: "tune.Result | str | None" = None) -> None:
        """Write the trained Hugging Face model as `transformers` and `peft` read it.

        A model with an adapter gives two folders: `adapter` for its base model, and `merged`, the
        whole model. Any other model is written into `folder` itself. The tokenizer goes along. Runs
        the program's own code, as `program` does. Raises `UsageError` if the program has no such
        model, and as `program` does."""
        from workloads.programs.pretrained import save_pretrained

        save_pretrained(self.program(trial), Path(folder))

    def _end(self, trial: "tune.Result | str | None") -> TaskEnd:
        name = trial if isinstance(trial, str) else ""
        if trial is not None and not isinstance(trial, str):
            name = str((trial.metrics or {}).get("trial_id"))
        return self.outcome.trained(self.search, name)

    @property
    def outcome(self) -> Any:
        """The outcome of the job: the `SearchOutcome` or `DilocoOutcome` of its kind
        (`workloads.ray_jobs`). Raises `OperationError` if the job ended before it had one."""
        if self.summary.outcome is None:
            raise OperationError(f"the job ended without an outcome: {self.summary.state}")
        return self.summary.outcome

    def describe(self) -> str:
        """The job's end and outcome as text, one line or more."""
        if self.summary.outcome is None:
            return str(self.summary.state)
        return f"{self.summary.state}: {self.summary.outcome.describe(self.search)}"


class Job:
    """A handle of an open or ended job. Reading it changes nothing."""

    def __init__(self, network: "Network", job: str) -> None:
        self._network = network
        self.id = job

    def status(self) -> JobStatus:
        """The job's counts, rulings and amounts now. Raises `Refused` and `Unreachable`."""
        return self._network.read("job", job=self.id)

    def is_done(self) -> bool:
        """Whether the job is over. Raises `OperationError` if it failed, with the program's
        traceback if the program raised."""
        return self._ended(*self._network.driver_status(self.id))

    def progress(self) -> str:
        """What the job does or waits for, in one line. Raises `Refused` and `Unreachable`."""
        status, place = self._network.driver_status(self.id)
        if status == QUEUED:
            return f"{self.id}: waits for a driver, {place}"
        return progress_line(self.status())

    def result(
        self, *, timeout_s: float | None = None, say: Callable[[str], None] | None = None
    ) -> JobResult:
        """Wait for the job's end. `say` gets lines about its progress: `job.result(say=print)`.

        Raises `OperationError` if it failed, and `TimeoutError`."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        lines = None if say is None else ProgressLines(say, time.monotonic)
        while not self.is_done():
            if lines is not None:
                lines.show(self.progress)
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"job {self.id} is still running after {timeout_s} s")
            time.sleep(POLL_S)
        try:
            summary = self._summary()
        except Missing:
            raise OperationError(f"job {self.id} was stopped before it had a result") from None
        outcome, store = summary.outcome, self._network.store
        return JobResult(
            summary=summary,
            search=outcome
            and outcome.grid(self.id, lambda: self._network.run_files(self.id), store.get_state),
            bill=self.status(),
            receipts=self._network.read("receipts", job=self.id),
            tasks=self._network.read("tasks", job=self.id),
            store=store,
        )

    def cancel(self, *, timeout_s: float = 300.0) -> bool:
        """Close the job: its driver stops, committed segments are judged and paid, and the rest of
        the budget returns. Works from any machine that has the submitter's key.

        Returns when the job is closed: True, or False if it was over before. A segment that a
        volunteer has started and not committed is not paid. Raises `Refused` for another key, and
        `TimeoutError` if rulings are still missing; then the job closes later.
        """
        deadline = time.monotonic() + timeout_s
        asked, closed = False, False
        while not (closed and self._network.driver_status(self.id)[0] not in WORKING):
            try:
                closed = closed or self._network.close_job(self.id)
            except Refused as refusal:
                if refusal.reason != Reason.JOB_CLOSED:
                    raise
                if not asked:
                    return False
                closed = True
            asked = True
            if time.monotonic() > deadline:
                raise TimeoutError(f"job {self.id} is still closing after {timeout_s} s")
            time.sleep(POLL_S)
        return True

    def _ended(self, status: str, log: str) -> bool:
        if status == "FAILED":
            raise OperationError(f"job {self.id} failed: {self._reason(log)}")
        return status in ("SUCCEEDED", "STOPPED")

    def _reason(self, log: str) -> str:
        try:
            return self._summary().error
        except Missing:
            last = [line for line in log.splitlines() if line.strip()][-1:]
            return f"{last[0] if last else 'no log'} (whole log: `ray job logs {self.id}`)"

    def _summary(self) -> JobSummary:
        stored = self._network.store.get_file(result_name(self.id))
        return summary_from_json(canonical.decode(stored))
