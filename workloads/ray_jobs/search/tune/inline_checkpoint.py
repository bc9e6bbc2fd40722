"""Tune checkpoints that contain their data instead of pointing at files.

Tune moves a checkpoint as a pair (file system, path). A trial's checkpoint is a small JSON object,
so here the file system holds it: one folder with one file, pickled with the checkpoint. Nothing is
uploaded, so nodes need no credentials for the run's storage. When Tune restores a run, it replaces
the file system of each checkpoint by the run's storage. So the path encodes the data as well, and
`inline_checkpoint_at` makes the checkpoint again from the path.

Not covered: writing, and data of more than a few kilobytes.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path
from typing import Any

from pyarrow import fs
from ray import tune

from gensyn_ray.domain import canonical
from workloads.ray_jobs.search.tune.read_only_folder import ReadOnlyFolder

NAME = "reference.json"


class OneFile(ReadOnlyFolder):
    """A folder with one file, `NAME`."""

    protocol = "gensyn-inline"

    def __init__(self, folder: str, content: str) -> None:
        super().__init__(folder)
        self._content = content.encode()

    def contents(self) -> dict[str, bytes]:
        return {NAME: self._content}


def inline_checkpoint(reference: dict[str, Any]) -> tune.Checkpoint:
    """A checkpoint of one JSON object."""
    # Ray caches unpacked checkpoints by path, so the path must determine the content.
    content = canonical.encode(reference)
    folder = urlsafe_b64encode(content).decode()
    filesystem = fs.PyFileSystem(fs.FSSpecHandler(OneFile(folder, content.decode())))
    return tune.Checkpoint(folder, filesystem)


def inline_checkpoint_at(path: str) -> tune.Checkpoint:
    """The checkpoint that has this path. Raises `ValueError` for a path of another kind."""
    return inline_checkpoint(canonical.decode(urlsafe_b64decode(path)))


def read_inline_checkpoint(folder: str) -> dict[str, Any]:
    """The JSON object of a checkpoint that Tune has unpacked into a folder."""
    return json.loads((Path(folder) / NAME).read_text())
