"""Where compiled kernels are cached: one folder per state of the sources that a kernel is made of.

Numba itself checks the file of a kernel, not the files of the functions that were inlined into it.
Here a kernel's folder is named by the content of its module and of every module of
`workloads.numerics` that this one imports, directly or indirectly. An edit of a file therefore
compiles the kernels again that can depend on it, and no others.

Not defended: a user who can write to the cache folder decides what runs. The folder is
`gensyn-ray/kernels` in XDG_CACHE_HOME (default `~/.cache`), or NUMBA_CACHE_DIR.
"""

import hashlib
import os
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = "workloads.numerics"
_ROOT = Path(__file__).parents[2]
_IMPORT = re.compile(r"^\s*from ([\w.]+) import (\([^)]*\)|[^\n]*)", re.MULTILINE)


@cache
def folder() -> Path:
    """The cache's folder; a temporary one where it cannot be made."""
    named = os.environ.get("NUMBA_CACHE_DIR")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = Path(named) if named else home / "gensyn-ray" / "kernels"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="gensyn-ray-kernels-"))
    return path


@cache
def digest_of(module: str) -> str:
    """Hex digest of the sources of a module of `PACKAGE` and of all that it imports from there."""
    digest = hashlib.sha256()
    for name in sorted(_closure(module)):
        digest.update(f"{name}\n".encode())
        digest.update(_path_of(name).read_bytes())
    return digest.hexdigest()[:16]


def _closure(module: str) -> set[str]:
    found, waiting = {module}, [module]
    while waiting:
        fresh = _imports(waiting.pop()) - found
        found |= fresh
        waiting += fresh
    return found


@cache
def _imports(module: str) -> frozenset[str]:
    """Modules of `PACKAGE` that a module imports from, by its import statements."""
    found: set[str] = set()
    for home, names in _IMPORT.findall(_path_of(module).read_text()):
        if home.startswith(PACKAGE):
            parts = (f"{home}.{name}" for name in re.findall(r"\w+", names))
            found.update(one for one in (home, *parts) if _path_of(one).exists())
    return frozenset(found)


def _path_of(module: str) -> Path:
    """The source of a module, whether it exists or not."""
    path = _ROOT.joinpath(*module.removeprefix(PACKAGE).strip(".").split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


class SourceLocator:
    """Tells numba where the compiled form of a kernel lies. Has the methods of numba's own locators
    (`numba.core.caching`), which takes it by name from its option CACHE_LOCATOR_CLASSES."""

    def __init__(self, function: Any) -> None:
        self._line = function.__code__.co_firstlineno
        self._digest = digest_of(function.__module__)
        name = function.__module__.removeprefix(f"{PACKAGE}.")
        self._path = folder() / f"{name}-{self._digest}"

    def ensure_cache_path(self) -> None:
        self._path.mkdir(parents=True, exist_ok=True)

    def get_cache_path(self) -> str:
        return str(self._path)

    def get_source_stamp(self) -> str:
        return self._digest

    def get_disambiguator(self) -> str:
        return str(self._line)

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> "SourceLocator | None":
        return cls(py_func) if py_func.__module__.startswith(f"{PACKAGE}.") else None
