"""A node takes reproducible work only if its bits equal the golden files; else it gets a reason."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gensyn_ray.domain.errors import OperationError
from workloads.numerics import guard, self_test
from workloads.numerics.arithmetic import served
from workloads.numerics.golden import trainings, vectors
from workloads.numerics.mode import BITS
from workloads.numerics.node_test import node_in
from workloads.numerics.pinned import numerics_class, one_thread
from workloads.numerics.registry import LATEST

NAMES = ("aten.exp.default", "aten.mm.default")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Golden files of two operators and of the timed training."""
    made = tmp_path_factory.mktemp("golden")
    for name in NAMES:
        vectors.record(name, folder=made)
    digests = {one: trainings.digest(self_test.TRAINING, one) for one in BITS}
    trainings.path_of(LATEST, made).write_text(json.dumps({self_test.TRAINING: digests}))
    return made


@pytest.fixture(autouse=True)
def _one_thread_here() -> Iterator[None]:
    """One thread: on busy cores, waits between threads would dominate the time."""
    with one_thread():
        yield


def with_change(folder: Path, made: Path, file: str) -> Path:
    """The same files with one changed hex digit of a digest."""
    for path in folder.iterdir():
        text = path.read_text()
        if path.name == file:
            at = text.rindex('"', 0, text.rindex('"')) + 1
            text = text[:at] + ("1" if text[at] == "0" else "0") + text[at + 1 :]
        (made / path.name).write_text(text)
    return made


def test_a_sound_machine_passes_and_is_timed(folder: Path) -> None:
    found = self_test.run(folder)
    assert (found.passed, found.failures) == (True, [])
    assert found.numerics == f"reproducible/v{LATEST}"
    assert found.steps_per_second > 0
    assert found.seconds > 0


def test_it_may_join_with_every_precision_and_its_own_class(folder: Path) -> None:
    node = self_test.node_of(pinned="c0ffee", reproducible=self_test.run(folder))
    assert node.classes == ["c0ffee", *served(LATEST)]


def test_a_training_with_other_bits_fails_by_name(folder: Path, tmp_path: Path) -> None:
    found = self_test.run(with_change(folder, tmp_path, "training.json"))
    assert not found.passed
    assert f"training of the {self_test.TRAINING}" in found.failures[0]
    assert found.steps_per_second == 0


def test_a_node_that_fails_keeps_its_pinned_class_alone(folder: Path, tmp_path: Path) -> None:
    failed = self_test.run(with_change(folder, tmp_path, "training.json"))
    assert self_test.node_of(pinned="c0ffee", reproducible=failed).classes == ["c0ffee"]


def test_wrong_operators_are_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [f"aten.op{n} differs" for n in range(self_test.REASONS + 4)]
    monkeypatch.setattr(vectors, "verify", lambda **_: list(many))
    assert self_test.run(folder).failures == [*many[: self_test.REASONS], "and 4 more"]


def test_a_machine_that_breaks_a_rule_is_told_which(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unfit() -> None:
        raise guard.UnfitMachine("denormal numbers are flushed to zero")

    monkeypatch.setattr(guard, "check", unfit)
    assert self_test.run(folder).failures == ["UnfitMachine: denormal numbers are flushed to zero"]


def test_a_process_that_flushes_denormals_fails(folder: Path) -> None:
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush denormals")
    try:
        found = self_test.run(folder)
    finally:
        torch.set_flush_denormal(False)
    assert "denormal" in found.failures[0]


def test_an_installation_without_its_golden_files_fails(tmp_path: Path) -> None:
    assert "training.json" in self_test.run(tmp_path).failures[0]


def test_a_node_is_tested_in_its_own_environment() -> None:
    default = node_in({"ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "1"})
    assert len(default.pinned) == 12
    assert default.pinned != numerics_class()
    assert default.reproducible.passed, default.reproducible.failures
    assert default.reproducible.seconds < 120


def test_a_crashed_self_test_is_reported() -> None:
    with pytest.raises(OperationError, match="broke off"):
        node_in({"PYTHONHOME": "/nonexistent"})
