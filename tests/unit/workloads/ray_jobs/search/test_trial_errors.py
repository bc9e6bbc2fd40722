"""Errors of a program end a trial, or the whole search."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cloudpickle
import pytest
from ray.tune.experiment import Trial

from gensyn_ray.domain.errors import Refused, UsageError
from workloads.core.dataset import BadData
from workloads.core.program_errors import ProgramFailed
from workloads.ray_jobs.search.tune.trial_errors import MAX_ERRORS, TrialErrors


@dataclass
class FakeTrial:
    trial_id: str
    pickled_error_file: str | None


def _trial(folder: Path, name: str, error: Exception | None) -> Trial:
    path = folder / f"{name}.pkl"
    if error is not None:
        path.write_bytes(cloudpickle.dumps(error))
    return cast(Any, FakeTrial(name, str(path)))


@pytest.mark.parametrize("kind", [ProgramFailed, BadData, UsageError])
def test_a_trial_that_raises_is_given_up_after_some_starts(
    tmp_path: Path, kind: type[Exception]
) -> None:
    complaints = TrialErrors()
    trial = _trial(tmp_path, "t0", kind("mistake"))
    last = [complaints.failed(trial) for _ in range(MAX_ERRORS - 1)]
    assert last == [False] * (MAX_ERRORS - 2) + [True]
    assert complaints.last == "mistake"


def test_one_failing_trial_does_not_end_the_search(tmp_path: Path) -> None:
    complaints = TrialErrors()
    trial = _trial(tmp_path, "t0", ProgramFailed("NaN"))
    for _ in range(3 * MAX_ERRORS):
        complaints.failed(trial)
    assert not complaints.is_hopeless


def test_a_search_ends_when_several_trials_fail_and_none_has_worked(tmp_path: Path) -> None:
    broken, works = TrialErrors(), TrialErrors()
    works.worked()
    for number in range(MAX_ERRORS):
        trial = _trial(tmp_path, f"t{number}", ProgramFailed("mistake"))
        for _ in range(MAX_ERRORS):
            assert not broken.is_hopeless
            broken.failed(trial)
            works.failed(trial)
    assert broken.is_hopeless
    assert not works.is_hopeless


def test_nodes_that_die_or_refuse_are_no_errors_of_the_program(tmp_path: Path) -> None:
    complaints = TrialErrors()
    refused = _trial(tmp_path, "t1", Refused("program not allowed"))
    for _ in range(3 * MAX_ERRORS):
        assert not complaints.failed(_trial(tmp_path, "t0", None))
        assert not complaints.failed(refused)
    assert not complaints.is_hopeless
    assert complaints.last == "refused: program not allowed"
    complaints.failed(_trial(tmp_path, "t2", ProgramFailed("mistake")))
    complaints.failed(refused)
    assert complaints.last == "mistake", "the program's own error says more"
