"""A client finds the local network of its own user, while that runs."""

import json
import stat
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from gensyn_ray.cluster.local_record import LocalRecord, read, remove, write


def mine(address: str = "127.0.0.1:1") -> LocalRecord:
    return LocalRecord.of_this_process(address=address, token="t", key_file="k")


def test_a_record_is_read_back_and_private(tmp_path: Path) -> None:
    file = tmp_path / "new" / "local.json"
    write(mine(), file)
    assert read(file) == mine()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("old", ["file", "link"])
def test_an_old_file_or_link_is_replaced(tmp_path: Path, old: str) -> None:
    file, other = tmp_path / "local.json", tmp_path / "other"
    other.write_text("old")
    if old == "link":
        file.symlink_to(other)
    else:
        file.write_text("old")
        file.chmod(0o644)
    write(mine(), file)
    assert stat.S_IMODE(file.lstat().st_mode) == 0o600
    assert stat.S_ISREG(file.lstat().st_mode)
    assert other.read_text() == "old"


def test_the_record_of_a_process_that_has_ended_is_ignored(tmp_path: Path) -> None:
    file = tmp_path / "local.json"
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    write(replace(mine(), pid=child.pid), file)
    assert read(file) is None
    write(replace(mine(), started_s=1.0), file)
    assert read(file) is None, "another process has its number now"


def test_a_network_removes_its_own_record_only(tmp_path: Path) -> None:
    file = tmp_path / "local.json"
    write(mine("first:1"), file)
    write(mine("second:1"), file)
    remove(mine("first:1"), file)
    assert read(file) == mine("second:1")
    remove(mine("second:1"), file)
    assert not file.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"address": "a", "more": 1}'])
def test_a_damaged_record_is_ignored(tmp_path: Path, text: str) -> None:
    file = tmp_path / "local.json"
    file.write_text(text)
    assert read(file) is None
    assert read(tmp_path / "none.json") is None


@pytest.mark.parametrize("pid", ["x", None, 2**70, -1, 0])
def test_a_record_with_no_process_of_ours_is_ignored(tmp_path: Path, pid: Any) -> None:
    file = tmp_path / "local.json"
    file.write_text(json.dumps({**asdict(mine()), "pid": pid}))
    assert read(file) is None
