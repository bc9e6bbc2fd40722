"""Progress as lines: one for each change, not too many."""

from dataclasses import replace
from typing import Any

import msgspec

from gensyn_ray.api.progress import EVERY_S, ProgressLines, progress_line
from gensyn_ray.queries.rows import JobStatus
from tests.kits.fake_ledger import reading_of


def status(**changes: Any) -> JobStatus:
    return replace(msgspec.convert(reading_of("job"), JobStatus), **changes)


def test_a_job_without_tasks_says_what_it_waits_for() -> None:
    assert progress_line(status(id="j", tasks=0)) == "j: starts its driver and workers"


def test_a_line_comes_with_a_change_and_after_a_while() -> None:
    now_s, said = [100.0], list[str]()
    lines = ProgressLines(said.append, lambda: now_s[0])
    for tasks in (1, 1, 2):
        lines.show(lambda tasks=tasks: progress_line(status(tasks=tasks)))
    assert len(said) == 1, "the second change comes too soon"
    now_s[0] += EVERY_S
    for tasks in (2, 2):
        lines.show(lambda tasks=tasks: progress_line(status(tasks=tasks)))
    now_s[0] += EVERY_S
    lines.show(lambda: progress_line(status(tasks=2)))
    assert [line.split(": ")[1].split(" tasks")[0] for line in said] == ["1", "2"]
