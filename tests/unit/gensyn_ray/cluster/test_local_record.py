"""A client finds the local network of its own user, while that runs."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gensyn_ray.cluster.local_record import LocalRecord, read, write


def record_of(pid: int) -> LocalRecord:
    return LocalRecord(address="127.0.0.1:1", token="t", key_file="k", pid=pid)


def test_a_record_is_read_back_and_private(tmp_path: Path) -> None:
    file = write(record_of(os.getpid()), tmp_path / "new" / "local.json")
    assert read(file) == record_of(os.getpid())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_an_old_file_that_others_can_read_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "local.json"
    file.write_text("old")
    file.chmod(0o644)
    write(record_of(os.getpid()), file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_record_of_a_process_that_has_ended_is_ignored(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert read(write(record_of(child.pid), tmp_path / "local.json")) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"address": "a", "more": 1}'])
def test_a_damaged_record_is_ignored(tmp_path: Path, text: str) -> None:
    file = tmp_path / "local.json"
    file.write_text(text)
    assert read(file) is None
    assert read(tmp_path / "none.json") is None
