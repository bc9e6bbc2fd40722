"""A file system of one folder, whose files a subclass makes. Tune's checkpoints lie in such ones.

Not covered: writing, and folders in the folder.
"""

from abc import abstractmethod
from io import BytesIO
from typing import Any

from fsspec import AbstractFileSystem


class ReadOnlyFolder(AbstractFileSystem):
    """`folder`: the path of the one folder."""

    cachable = False

    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder = folder

    @abstractmethod
    def contents(self) -> dict[str, bytes]:
        """File name -> content."""

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        if path == "":
            entries: list[dict[str, Any]] = [
                {"name": self._folder, "size": 0, "type": "directory"},
            ]
        else:
            files = self._files(path)
            entries = [
                {"name": name, "size": len(content), "type": "file"}
                for name, content in files.items()
                if path in (name, self._folder)
            ]
            if not entries:
                raise FileNotFoundError(path)
        return entries if detail else [entry["name"] for entry in entries]

    def _open(self, path: str, mode: str = "rb", **_: Any) -> BytesIO:
        files = self._files(path)
        if path not in files:
            raise FileNotFoundError(path)
        return BytesIO(files[path])

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Does nothing: there are no files to remove."""

    def _files(self, path: str) -> dict[str, bytes]:
        """Path -> content. Empty if `path` is outside the folder."""
        if path != self._folder and not path.startswith(f"{self._folder}/"):
            return {}
        return {f"{self._folder}/{name}": data for name, data in self.contents().items()}
