"""Tune's result of a search on the client: statuses, configs, columns and checkpoints are right."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ray.tune.experiment import Trial
from safetensors.torch import load_file

from gensyn_ray.domain.errors import OperationError, UsageError
from tests.kits.search_files import JOB, ended, leaf_of, run_files
from workloads.core.state import State
from workloads.ray_jobs.kind.interface import TaskEnd
from workloads.ray_jobs.search.core.result_keys import LEAF, RECEIPT
from workloads.ray_jobs.search.kind import SearchOutcome
from workloads.ray_jobs.search.tune.result_grid import SearchGrid

STATE = {
    "model/0.weight": torch.ones(2, 3),
    "model/0.bias": torch.zeros(2),
    "optimizer/param_groups/0/lr": torch.tensor(0.1, dtype=torch.float64),
    "progress/step": torch.tensor(4),
}


def outcome_of(trials: int, **objectives: str) -> SearchOutcome:
    return SearchOutcome(
        trials=trials,
        failed_trials=1,
        metric="accuracy",
        mode="max",
        objectives=objectives or {"accuracy": "max"},
    )


def grid_of(*trials: Trial) -> SearchGrid:
    states: dict[str, State] = {"good": STATE}
    found = outcome_of(2).grid(JOB, lambda: run_files(*trials), states.__getitem__)
    assert found is not None
    return found


@pytest.fixture
def grid(tmp_path: Path) -> SearchGrid:
    """Two trials that ended well, and one that failed before its first result."""
    return grid_of(
        ended(tmp_path, "a", {"lr": 0.1}, leaf_of("t000", "bad", 0.5)),
        ended(tmp_path, "b", {"lr": 0.25, "n": np.int64(3)}, leaf_of("t001", "good", 0.9)),
        ended(tmp_path, "c", {"lr": 9.0}, None),
    )


def test_trials_that_ended_are_terminated_and_one_has_an_error(grid: SearchGrid) -> None:
    assert (grid.num_terminated, grid.num_errors) == (2, 1)
    assert [one.error for one in grid] == [None, None, "it diverged"]


def test_a_failed_trial_has_its_config(grid: SearchGrid) -> None:
    assert [one.config for one in grid] == [
        {"lr": 0.1},
        {"lr": 0.25, "n": 3},
        {"lr": 9.0},
    ]


def test_leaf_and_receipt_are_in_no_table_and_stay_in_the_trials_file(grid: SearchGrid) -> None:
    columns = set(grid.get_dataframe().columns)
    assert {"accuracy", "config/lr", "task"} <= columns
    for one in grid:
        columns |= set(one.metrics or {})
        if one.metrics_dataframe is not None:
            columns |= set(one.metrics_dataframe.columns)
        for _, metrics in one.best_checkpoints or ():
            columns |= set(metrics)
    assert not columns & {LEAF, RECEIPT}
    with grid[0].filesystem.open_input_stream(f"{grid[0].path}/result.json") as file:
        assert json.loads(json.loads(file.readall())[RECEIPT]) == {"signed": "x"}


def test_a_checkpoint_has_the_state_the_modules_and_the_config(
    grid: SearchGrid, tmp_path: Path
) -> None:
    best = grid.get_best_result()
    assert best.checkpoint is not None
    folder = Path(best.checkpoint.to_directory(tmp_path / "copy"))
    assert json.loads((folder / "config.json").read_text()) == {"lr": 0.25, "n": 3}
    assert set(load_file(folder / "state.safetensors")) == set(STATE)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2))
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    assert torch.equal(model[0].weight, torch.ones(2, 3))
    with best.checkpoint.as_directory() as other:
        assert len(list(Path(other).iterdir())) == 3


def test_a_failed_trial_has_no_checkpoint(grid: SearchGrid) -> None:
    assert [one.checkpoint is None for one in grid] == [False, False, True]


def test_the_trained_state_is_the_best_ones_or_that_of_any_trial(grid: SearchGrid) -> None:
    outcome = outcome_of(2)
    assert outcome.trained(grid, "") == TaskEnd(task="t001", state="good")
    assert outcome.trained(grid, "a") == TaskEnd(task="t000", state="bad")
    with pytest.raises(UsageError, match="no trial 'c' has a trained state: choose from a, b"):
        outcome.trained(grid, "c")
    with pytest.raises(OperationError, match="no trial of this job ended well"):
        outcome_of(0).trained(grid, "")


def test_the_front_leaves_out_trials_that_failed(grid: SearchGrid) -> None:
    said = outcome_of(2, accuracy="max", training_iteration="min").describe(grid)
    front = [line.partition(" with ")[0] for line in said.splitlines()[1:]]
    assert front == ["the front, by accuracy, training_iteration:", "  0.5, 4", "  0.9, 4"]


@pytest.mark.parametrize("told", ["no json", "[]", '{"task": 1}'])
def test_a_result_without_a_leaf_has_no_state(tmp_path: Path, told: str) -> None:
    forged = ended(tmp_path, "f", {"lr": 0.1}, leaf_of("t000", "good", 0.5))
    forged.run_metadata.last_result[LEAF] = told
    found = grid_of(forged)
    assert found[0].checkpoint is None
    with pytest.raises(UsageError, match="no trial 'f'"):
        outcome_of(1).trained(found, "")
