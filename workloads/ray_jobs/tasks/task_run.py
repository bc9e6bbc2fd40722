"""One attempt at one task on one node: requests slots, computes segments, stores, commits.

Agent, object store and numerics class are arguments, so tests need no Ray.

Storing and committing run one segment behind the training: while segment k is stored and committed,
segment k + 1 is computed. A segment is reported only with its own receipt, so a scheduler sees
acknowledged results only. If a trial stops early, the segment that was computed ahead is lost.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import torch

from gensyn_ray.domain.errors import OperationError, Refused
from gensyn_ray.domain.ids import Slot
from gensyn_ray.domain.leaf import Leaf
from gensyn_ray.domain.numerics import PINNED
from gensyn_ray.operators.agent_requests import Identity
from gensyn_ray.queries.rows import AssignedTask
from ledger.core.refusals import Reason
from workloads.core.bundle import Bundle, load_program
from workloads.core.data_cache import DataCache
from workloads.core.dataset import Manifest
from workloads.core.program_errors import ProgramFailed, told_to_its_author
from workloads.core.segment import Abandoned, Computed, Runner, always
from workloads.core.state import State
from workloads.core.task_spec import TaskSpec
from workloads.numerics.arithmetic import arithmetic

REFUSED_WAIT_S = 2.0
"""How long a trial of a tombstoned operator waits before it fails. Its node is drained by then, and
Tune's next attempt starts on another node."""
JUDGED_POLL_S = 0.5
JUDGED_POLLS = 240
"""Interval at which an attempt without further segments asks whether the last one is judged."""


class Agent(Protocol):
    """The part of `AgentClient` that a task uses. Each call raises `Refused`."""

    def identity(self) -> Identity: ...
    def task(self, *, job: str, trial: str) -> AssignedTask: ...
    def slot(self, slot: Slot) -> None: ...
    def commit(self, leaf: Leaf) -> dict[str, Any]: ...


class Store(Protocol):
    """The part of `Blobs` that a task uses. Reads raise `OperationError`."""

    def get_bundle(self, digest: str) -> Bundle: ...
    def get_spec(self, digest: str) -> TaskSpec: ...
    def get_state(self, digest: str) -> dict[str, torch.Tensor]: ...
    def put_state(self, digest: str, state: State) -> None: ...
    def get_manifest(self, digest: str) -> Manifest: ...
    def get_data(self, digest: str) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """A segment whose commitment is in the journal and whose state is stored.

    `receipt`: of the commitment; empty if an earlier attempt got it and the segment is judged.
    `segments_done`: of the task, this one included. `is_last`: whether the task is complete."""

    leaf: Leaf
    receipt: dict[str, Any]
    segments_done: int
    is_last: bool

    @property
    def checkpoint(self) -> dict[str, Any]:
        """The task and the digest of its end state, for a checkpoint."""
        return {"task": self.leaf.task, "state": self.leaf.state_after}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pending:
    slot: Slot
    state_before: str
    computed: Computed
    segments_done: int


_Ahead = _Pending | Refused | ProgramFailed | Abandoned
"""A segment that is computed and not committed, or the reason why there is none."""


class TaskRun:
    """Continues from the task's last good state. Each `advance` gives one acknowledged segment.

    An earlier attempt can die between its last commitment and its report. Then nothing is left to
    compute, and `advance` reports that last segment once it is judged.

    `pinned_class`: computes this process's numerics class. `grow_from`: digest of another task's
    state to start from, if this task has no state yet. `is_wanted`: called before each step.
    The constructor and `advance` raise `Refused` if the node may not continue, `OperationError` if
    the data or the numerics are not the job's, `ProgramFailed` for what the program raises, and
    `Abandoned` once `is_wanted` is false. The run is over then.
    """

    def __init__(
        self,
        *,
        job: str,
        trial: str,
        agent: Agent,
        store: Store,
        pinned_class: Callable[[], str],
        data_cache: DataCache,
        grow_from: str = "",
        is_wanted: Callable[[], bool] = always,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._agent, self._store, self._sleep = agent, store, sleep
        self._is_wanted = is_wanted
        me = agent.identity()
        self._operator = me.party
        task = agent.task(job=job, trial=trial)
        self._job, self._trial = job, trial
        self._task, self._attempt = task.task, task.attempt
        spec = store.get_spec(task.spec)
        if spec.bundle != task.bundle:
            raise OperationError("the task's spec names another bundle than the job")
        if spec.numerics != task.numerics:
            # Verifiers of a reproducible job would disagree about a pinned run.
            raise OperationError("the task's spec names other numerics than the job")
        self._numerics = pinned_class() if spec.numerics == PINNED else spec.numerics
        if self._numerics not in me.numerics.split(","):
            raise OperationError(
                f"this process computes in {self._numerics}, the node joined as {me.numerics}: "
                "set the profile's variables before `ray start`, or join again"
            )
        bundle = store.get_bundle(spec.bundle)
        self._file = bundle.file
        with told_to_its_author(self._file):
            program = load_program(bundle)()
        if spec.data != task.data_digest:
            # Verifiers replay on the spec's data.
            raise OperationError("the task's spec names other data than the job")
        self._data_digest = spec.data
        data = data_cache.get(spec, store)
        inputs = {name: store.get_state(digest) for name, digest in spec.inputs.items()}
        with told_to_its_author(self._file):
            self._runner = Runner(program, spec, data, arithmetic, inputs)
        self._total = self._runner.segments
        self._state_before = task.state or grow_from
        if self._state_before:
            self._runner.load(store.get_state(self._state_before))
        self._next_segment = task.good
        self._ahead: _Ahead | None = None
        self._background = ThreadPoolExecutor(1, thread_name_prefix="commit")

    def advance(self) -> Acknowledged:
        """Compute and commit the next segment. Raises as the class documents."""
        if self._ahead is None and self._next_segment and self._runner.segments_done >= self._total:
            return self._last_again()
        current = self._ahead if self._ahead is not None else self._try_compute()
        self._ahead = None
        if isinstance(current, (ProgramFailed, Abandoned)):
            raise current
        if isinstance(current, Refused):
            self._refused(current)
        receipt = self._background.submit(self._acknowledge, current)
        is_last = current.segments_done >= self._total
        if not is_last:
            self._ahead = self._try_compute()
        try:
            leaf, signed = receipt.result()
        except Refused as refusal:
            self._refused(refusal)
        return Acknowledged(
            leaf=leaf, receipt=signed, segments_done=current.segments_done, is_last=is_last
        )

    def _last_again(self) -> Acknowledged:
        for _ in range(JUDGED_POLLS):
            leaf = self._agent.task(job=self._job, trial=self._trial).leaf
            if leaf is not None and leaf.state_after == self._state_before:
                return Acknowledged(
                    leaf=leaf, receipt={}, segments_done=self._runner.segments_done, is_last=True
                )
            self._sleep(JUDGED_POLL_S)
        raise OperationError(
            "the task's last segment is not judged yet: the trial will be tried again elsewhere"
        )

    def close(self) -> None:
        """End the run. A commitment in progress is still sent."""
        self._background.shutdown(wait=True)

    def _try_compute(self) -> _Ahead:
        # An error in the segment ahead must not lose the one that is being committed.
        try:
            return self._compute()
        except (Refused, ProgramFailed, Abandoned) as end:
            return end

    def _compute(self) -> _Pending:
        slot = Slot(
            job=self._job, task=self._task, segment=self._next_segment, attempt=self._attempt
        )
        self._agent.slot(slot)
        with told_to_its_author(self._file):
            computed = self._runner.run_segment(self._is_wanted)
        pending = _Pending(
            slot=slot,
            state_before=self._state_before,
            computed=computed,
            segments_done=self._runner.segments_done,
        )
        self._state_before = computed.state_after
        self._next_segment += 1
        return pending

    def _acknowledge(self, pending: _Pending) -> tuple[Leaf, dict[str, Any]]:
        slot, computed = pending.slot, pending.computed
        self._store.put_state(computed.state_after, computed.state)
        leaf = Leaf(
            job=slot.job,
            task=slot.task,
            segment=slot.segment,
            attempt=slot.attempt,
            state_before=pending.state_before,
            state_after=computed.state_after,
            metrics=computed.metrics,
            data_digest=self._data_digest,
            numerics=self._numerics,
            operator=self._operator,
        )
        return leaf, self._agent.commit(leaf)

    def _refused(self, refusal: Refused) -> NoReturn:
        if refusal.reason == Reason.OPERATOR_TOMBSTONED:
            self._sleep(REFUSED_WAIT_S)
        raise refusal
