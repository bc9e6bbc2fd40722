"""Checkpoints with inline content: Tune moves, reads and drops them."""

import pickle

import pyarrow
import pytest
from pyarrow import fs

from workloads.ray_jobs.search.tune.inline_checkpoint import (
    NAME,
    inline_checkpoint,
    inline_checkpoint_at,
    read_inline_checkpoint,
)

REFERENCE = {"trial": "a1", "task": "t000", "state": "5a" * 32}


def test_a_checkpoint_survives_a_move() -> None:
    checkpoint = pickle.loads(pickle.dumps(inline_checkpoint(REFERENCE)))
    with checkpoint.as_directory() as folder:
        assert read_inline_checkpoint(folder) == REFERENCE
    with checkpoint.as_directory() as folder:
        assert read_inline_checkpoint(folder) == REFERENCE


def test_the_path_alone_restores_a_checkpoint() -> None:
    assert len(inline_checkpoint(REFERENCE).path) < 255, "some file systems take no longer names"
    with inline_checkpoint_at(inline_checkpoint(REFERENCE).path).as_directory() as folder:
        assert read_inline_checkpoint(folder) == REFERENCE
    with pytest.raises(ValueError):  # noqa: PT011
        inline_checkpoint_at("checkpoint_000001")


def test_two_open_checkpoints_are_separate() -> None:
    one, other = inline_checkpoint(REFERENCE), inline_checkpoint({**REFERENCE, "state": "6b" * 32})
    with one.as_directory() as first, other.as_directory() as second:
        assert read_inline_checkpoint(first) == REFERENCE
        assert read_inline_checkpoint(second)["state"] == "6b" * 32


def test_a_checkpoint_is_a_folder_with_one_file() -> None:
    checkpoint = inline_checkpoint(REFERENCE)
    filesystem = checkpoint.filesystem
    assert filesystem.get_file_info(checkpoint.path).type is fs.FileType.Directory
    (file,) = filesystem.get_file_info(fs.FileSelector(checkpoint.path))
    assert file.path == f"{checkpoint.path}/{NAME}"
    assert filesystem.get_file_info("elsewhere").type is fs.FileType.NotFound
    with pytest.raises(FileNotFoundError):
        filesystem.open_input_stream("elsewhere/file")


def test_deleting_a_checkpoint_is_harmless_and_writes_are_refused() -> None:
    checkpoint = inline_checkpoint(REFERENCE)
    checkpoint.filesystem.delete_dir(checkpoint.path)
    with checkpoint.as_directory() as folder:
        assert read_inline_checkpoint(folder) == REFERENCE
    with pytest.raises((OSError, pyarrow.ArrowException)):
        checkpoint.filesystem.open_output_stream(f"{checkpoint.path}/more").write(b"x")
