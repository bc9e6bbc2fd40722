"""The cache of compiled kernels: one folder per state of the sources that a kernel depends on.

Numba checks only the file of the kernel. It does not check the files of inlined functions. Here the
folder's name contains a digest of the kernel's module and of every module of `workloads.numerics`
that the module imports, directly or indirectly. An edit of a file therefore recompiles the kernels
that can depend on the file, and no others.

The cache folder is trusted: a user who can write to it can replace the code that runs. The folder
is NUMBA_CACHE_DIR, or else `gensyn-ray/kernels` in XDG_CACHE_HOME (default `~/.cache`).
"""

import hashlib
import os
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = "workloads.numerics"
"""The package whose sources determine the folder of a kernel."""
_ROOT = Path(__file__).parents[2]
_IMPORT = re.compile(r"^\s*from ([\w.]+) import (\([^)]*\)|[^\n]*)", re.MULTILINE)


@cache
def folder() -> Path:
    """The cache folder. A temporary folder if the cache folder cannot be created."""
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
    """Digest of the sources of a module of `PACKAGE` and of every module of `PACKAGE` that it
    imports, directly or indirectly: 16 hex digits of SHA-256. Raises `OSError` if a source cannot
    be read."""
    digest = hashlib.sha256()
    for name in sorted(_closure(module)):
        digest.update(f"{name}\n".encode())
        digest.update(_path_of(name).read_bytes())
    return digest.hexdigest()[:16]


def _closure(module: str) -> set[str]:
    """The module and every module of `PACKAGE` that it imports, directly or indirectly."""
    found, waiting = {module}, [module]
    while waiting:
        fresh = _imports(waiting.pop()) - found
        found |= fresh
        waiting += fresh
    return found


@cache
def _imports(module: str) -> frozenset[str]:
    """The modules of `PACKAGE` that the import statements of a module name."""
    found: set[str] = set()
    for home, names in _IMPORT.findall(_path_of(module).read_text()):
        if home.startswith(PACKAGE):
            parts = (f"{home}.{name}" for name in re.findall(r"\w+", names))
            found.update(one for one in (home, *parts) if _path_of(one).exists())
    return frozenset(found)


def _path_of(module: str) -> Path:
    """Path of the source of a module. The path may not exist."""
    path = _ROOT.joinpath(*module.removeprefix(PACKAGE).strip(".").split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


class SourceLocator:
    """Tells numba the cache folder of a kernel. The methods are those of numba's own locators
    (`numba.core.caching`). Numba finds the class by its name in the option
    CACHE_LOCATOR_CLASSES."""

    def __init__(self, function: Any) -> None:
        self._line = function.__code__.co_firstlineno
        self._digest = digest_of(function.__module__)
        name = function.__module__.removeprefix(f"{PACKAGE}.")
        self._path = folder() / f"{name}-{self._digest}"

    def ensure_cache_path(self) -> None:
        """Create the folder of the kernel. Raises `OSError`."""
        self._path.mkdir(parents=True, exist_ok=True)

    def get_cache_path(self) -> str:
        """The folder of the kernel."""
        return str(self._path)

    def get_source_stamp(self) -> str:
        """Digest of the kernel's sources. Numba recompiles a kernel whose stamp differs."""
        return self._digest

    def get_disambiguator(self) -> str:
        """The first line of the function, which distinguishes functions of one name."""
        return str(self._line)

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> "SourceLocator | None":
        """A locator for a function of `PACKAGE`. None for other functions, so that numba tries its
        next locator."""
        return cls(py_func) if py_func.__module__.startswith(f"{PACKAGE}.") else None
