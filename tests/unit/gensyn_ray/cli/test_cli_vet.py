"""`gensyn-ray vet` says what would not replay, and opens no job."""

import sys
from pathlib import Path

import pytest

from tests.kits.command_line import Said, gensyn_ray

PROGRAM = """
import torch
import gensyn_ray
from vet_base import STEP

class Mine(gensyn_ray.Program):
    steps_per_segment, segments = 4, 2
    def load_data(self): return {"x": torch.zeros(1)}
    def init(self, config, data, rng):
        self.x = torch.zeros(())
        self.note = "a"
    def step(self, data, rng):
        self.x = self.x + (STEP if self.note == "a" else 2)
        CHANGE
    def evaluate(self, data): return {"x": float(self.x)}
"""
JOB = """
kind = "finetune"
program = "vet_mine.py:Mine"
budget = { credits = 10 }
config = { lr = 0.1 }
search = { metric = "x", mode = "max" }
numerics = "pinned"
"""


def vet(folder: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> Said:
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("vet_base", "vet_mine"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (folder / "vet_base.py").write_text("STEP = 1\n")
    (folder / "vet_mine.py").write_text(PROGRAM.replace("CHANGE", change))
    (folder / "job.toml").write_text(JOB)
    return gensyn_ray("vet", str(folder / "job.toml"))


def test_a_program_that_replays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = vet(tmp_path, monkeypatch, "pass")
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("Mine replays; it travels as ")
    assert said.stdout.endswith(", with vet_base\nmetrics: x\n")


def test_what_changes_after_a_few_steps_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = vet(tmp_path, monkeypatch, 'self.note = "b" if self.x >= 3 else "a"')
    assert said.returncode == 2
    assert "`self.note`" in said.stderr
    assert said.stdout == ""


def test_another_file_is_no_job_file() -> None:
    said = gensyn_ray("vet", "mine.py")
    assert (said.returncode, said.stdout) == (2, "")
    assert "is no job file" in said.stderr
