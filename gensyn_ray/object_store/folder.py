"""Objects as files of a folder.

Not covered: syncing. A power cut can lose files that were just written. Readers then find them
missing or damaged, never wrong.
"""

import os
import secrets
from pathlib import Path

from gensyn_ray.object_store.objects import Missing


class Folder:
    """Implements `Objects`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, key: str, data: bytes) -> None:
        path = self._path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        # Write a temporary file, then rename it: a reader sees the whole object or none.
        aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        aside.write_bytes(data)
        os.replace(aside, path)

    def get(self, key: str) -> bytes:
        try:
            return (self._path / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise Missing(f"the object store has no {self._path / key}") from None
