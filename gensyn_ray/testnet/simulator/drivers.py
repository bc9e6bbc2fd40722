"""The driver of one simulated job: it starts and finishes tasks and shows the job's links."""

import random
from typing import Any

from gensyn_ray.domain.evidence import Evidence, Flush, FullAudit, Reveal
from gensyn_ray.testnet.simulator.network import LINKS, SEGMENTS, Network
from gensyn_ray.testnet.simulator.operators import Attempt, Operator
from gensyn_ray.testnet.simulator.training import digest_of
from ledger.core.commands import CloseJob, FinishTask, Record, StartTask
from verifier_actors.core import beacon


def spec_of(task: str) -> str:
    """Digest of a task's specification."""
    return digest_of("spec", task)


class Driver:
    """`base`: each task's predecessor, empty if it starts from nothing. `withholds`: probability
    with which a batch's link is not shown when it is asked for."""

    def __init__(
        self, network: Network, *, job: str, secret: bytes, base: dict[str, str], withholds: float
    ) -> None:
        self.job = job
        self.secret = secret
        self.base = base
        self._network = network
        self._withholds = withholds
        self._shown = 0

    def task(self, task: str) -> dict[str, Any] | None:
        """The task's reading, None before its first start."""
        if task not in self._network.read("tasks", job=self.job):
            return None
        return self._network.read("task", job=self.job, trial=f"trial {task}")

    def start(self, task: str, operator: Operator) -> Attempt | None:
        """Assign a task to an operator, whose node reads where the task stands.

        None if the task has all its segments.
        """
        before = self.task(task)
        if before is not None and before["good"] >= SEGMENTS:
            return None
        attempt = 0 if before is None else before["attempt"] + 1
        command = StartTask(
            job=self.job, task=task, trial=f"trial {task}", spec=spec_of(task), attempt=attempt
        )
        self._network.must(self._network.driver, "driver", command)
        started = self._network.read("task", job=self.job, trial=f"trial {task}")
        state = started["state"]
        if not state and self.base[task] and (base := self.task(self.base[task])):
            state = base["state"]
        return Attempt(
            operator=operator,
            job=self.job,
            task=task,
            attempt=attempt,
            segment=started["good"],
            state=state,
        )

    def finish_tasks(self) -> None:
        """Finish every task that has all its segments."""
        for name, task in self._network.read("tasks", job=self.job).items():
            if task["good"] >= SEGMENTS:
                command = FinishTask(job=self.job, task=name)
                self._network.must(self._network.driver, "driver", command)

    def is_whole(self) -> bool:
        """Whether every task has all its segments, all judged."""
        tasks = self._network.read("tasks", job=self.job)
        return len(tasks) == len(self.base) and all(
            task["good"] == SEGMENTS and not task["unjudged"] for task in tasks.values()
        )

    def show_links(self, chance: random.Random) -> None:
        """Show the next link for each batch that waits for one, unless it is withheld."""
        for batch in self._network.read("unrevealed", job=self.job):
            if chance.random() >= self._withholds:
                self._shown += 1
                link = beacon.link_of(self.secret, LINKS, self._shown).hex()
                self._record(Reveal(job=self.job, batch=batch, link=link))

    def audit_fully(self, chance: random.Random) -> None:
        """Have every segment of one task audited."""
        if started := list(self._network.read("tasks", job=self.job)):
            self._record(FullAudit(job=self.job, tasks=[chance.choice(started)]))

    def flush(self) -> None:
        """Close all open batches."""
        self._record(Flush(job=self.job))

    def close(self) -> None:
        self._network.must(self._network.driver, "driver", CloseJob(job=self.job))

    def _record(self, evidence: Evidence) -> None:
        self._network.must(self._network.driver, "driver", Record(evidence=evidence))
