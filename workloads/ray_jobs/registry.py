"""The list of the kinds of job, and functions of this list."""

from collections.abc import Mapping
from typing import Any

import msgspec

from gensyn_ray.domain.errors import UsageError
from gensyn_ray.domain.records import to_json
from workloads.ray_jobs.diloco.kind import DilocoRequest
from workloads.ray_jobs.kind.interface import KindRequest
from workloads.ray_jobs.kind.job_end import JobEnd
from workloads.ray_jobs.kind.summary import JobSummary
from workloads.ray_jobs.search.kind import SearchRequest

KINDS: tuple[type[KindRequest], ...] = (
    SearchRequest,
    DilocoRequest,
)


def job_kinds() -> list[str]:
    """The values that `kind` in a job file can have."""
    return list(dict.fromkeys(name for kind in KINDS for name in kind.job_kinds))


def table_names() -> list[str]:
    """The names in a job file that some kind reads."""
    return list(dict.fromkeys(name for kind in KINDS for name in kind.tables))


def selected_kind(job_kind: str, written: Mapping[str, Any]) -> type[KindRequest]:
    """The kind of a job file, by its `kind` and its tables. Raises `UsageError`."""
    if job_kind not in job_kinds():
        raise UsageError(f"unknown kind {job_kind!r}: choose from {', '.join(job_kinds())}")
    given = [kind for kind in KINDS if kind.tables[0] in written]
    if len(given) != 1 or job_kind not in given[0].job_kinds:
        tables = "] or [".join(kind.tables[0] for kind in KINDS if job_kind in kind.job_kinds)
        raise UsageError(f"a {job_kind} needs one section [{tables}]")
    return given[0]


def driver_env() -> dict[str, str]:
    """Environment variables of a job driver. The ledger's `kind` does not determine the kind of a
    `finetune`, so each driver gets the variables of all kinds."""
    return {name: value for kind in KINDS for name, value in kind.driver_env.items()}


def result_files() -> tuple[str, ...]:
    """Name prefixes of the Ray files that clients may fetch."""
    return tuple(prefix for kind in KINDS for prefix in kind.result_files)


def summary_to_json(summary: JobSummary) -> dict[str, Any]:
    """A summary as a JSON value, which names the kind of its outcome."""
    kinds = [kind.name for kind in KINDS if type(summary.outcome) is kind.outcome]
    return {**to_json(summary), "kind": kinds[0] if kinds else ""}


def summary_from_json(value: Mapping[str, Any]) -> JobSummary:
    """The inverse of `summary_to_json`."""
    outcomes = {kind.name: kind.outcome for kind in KINDS}
    name, outcome = value["kind"], value["outcome"]
    return JobSummary(
        state=JobEnd(value["state"]),
        error=value["error"],
        outcome=msgspec.convert(outcome, outcomes[name]) if name else None,
        wall_s=value["wall_s"],
    )
