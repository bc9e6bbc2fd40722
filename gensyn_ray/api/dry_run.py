"""A short run of a program in the submitter's process, before its job costs anything.

It finds what would fail on every volunteer: code that does not load from its bundle, a config that
cannot travel, a metric that `evaluate` does not give, data or training that differ from one run to
the next, and attributes that the state does not carry.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gensyn_ray.api.submission import Submission, WithOwnData, loaded
from gensyn_ray.api.terms import JobSpec
from gensyn_ray.domain.errors import UsageError
from workloads.core import own_data
from workloads.core.bundle import load_program
from workloads.core.data_cache import DataCache, Store
from workloads.core.program_errors import told_to_its_author
from workloads.core.segment import Runner
from workloads.core.task_spec import plain_config
from workloads.core.vet import uncaptured
from workloads.numerics.arithmetic import arithmetic

STEPS = 2
"""Steps between two states of the run that a replay is compared with."""


def dry_run(
    spec: JobSpec, submission: Submission, store: Store, *, steps: int = STEPS
) -> Sequence[str]:
    """Load the data again and compare; take a step and evaluate; look for what a replay would not
    see (`workloads.core.vet`). Returns the names of the metrics.

    `store`: source of prepared data. Raises `UsageError` that names what to change, and
    `ProgramFailed` for what the program raises."""
    if submission.own is not None:
        again = own_data.pack(loaded(spec)).manifest.digest
        if again != submission.template.data:
            raise UsageError(
                f"{spec.program.__name__}.load_data gives other data each time: take random "
                "numbers from a generator with a fixed seed, and no time or file that changes"
            )
    config = plain_config(spec.request.sample_config())
    task = replace(submission.template, config=config, task="dry-run")
    cache, source = DataCache(), WithOwnData(submission.own, store)
    with told_to_its_author(submission.bundle.file):
        program = load_program(submission.bundle)
        runner = Runner(program(), task, cache.get(task, source), arithmetic)
        runner.train(1)
        metrics = runner.finish().metrics
        for metric in spec.request.needed_metrics:
            if metric not in metrics:
                raise UsageError(
                    f"{program.__name__}.evaluate gives {_listed(metrics)}, and the job asks for "
                    f"{metric!r}: name one of these, or return it"
                )
        findings = uncaptured(program, task, cache.get(task, source), arithmetic, steps=steps)
    if findings:
        said = "; ".join(finding.sentence for finding in findings)
        raise UsageError(f"no verifier could replay {program.__name__}: {said}")
    return list(metrics)


def _listed(metrics: dict[str, Any]) -> str:
    return ", ".join(map(repr, metrics)) or "no metrics"
