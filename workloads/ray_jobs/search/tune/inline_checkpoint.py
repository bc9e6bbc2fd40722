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
from io import BytesIO
from pathlib import Path
from typing import Any

from fsspec import AbstractFileSystem
from pyarrow import fs
from ray import tune

from gensyn_ray.domain import canonical

NAME = "reference.json"


class OneFile(AbstractFileSystem):
    """A read-only file system with one file, `NAME`, in one folder."""

    protocol = "gensyn-inline"
    cachable = False

    def __init__(self, folder: str, content: str) -> None:
        super().__init__()
        self._folder, self._content = folder, content.encode()

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        file = f"{self._folder}/{NAME}"
        entries = {
            "": {"name": self._folder, "size": 0, "type": "directory"},
            self._folder: {"name": file, "size": len(self._content), "type": "file"},
            file: {"name": file, "size": len(self._content), "type": "file"},
        }
        if path not in entries:
            raise FileNotFoundError(path)
        return [entries[path] if detail else entries[path]["name"]]

    def _open(self, path: str, mode: str = "rb", **_: Any) -> BytesIO:
        if path != f"{self._folder}/{NAME}":
            raise FileNotFoundError(path)
        return BytesIO(self._content)

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Does nothing: there are no files to remove."""


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
