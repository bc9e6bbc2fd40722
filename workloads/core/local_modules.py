"""A user's own modules that a program imports: found on the submitter's machine, loaded on a node.

A node loads them under names of their bundle, so two bundles can each have a module `model`.

Not covered: modules that are imported by `importlib` with a computed name, and their data files.
"""

import ast
import builtins
import importlib.util
import linecache
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from gensyn_ray.domain.errors import UsageError

PLATFORM = ("gensyn_ray", "ledger", "verifier_actors", "workloads")
"""Packages that every node has."""
MOST_BYTES = 4 << 20
"""The most bytes of source of all modules together."""


def imported(source: str, package: str = "") -> Iterator[str]:
    """The dotted names that a source may import. `package`: of the source, for relative imports.

    `from a import b` gives `a` and `a.b`, because `b` may be a module. A relative import out of
    no package gives nothing: it fails wherever it runs."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            with suppress(ImportError):
                dots = "." * node.level
                start = importlib.util.resolve_name(dots + (node.module or ""), package)
                yield start
                yield from (f"{start}.{alias.name}" for alias in node.names)


def modules_of(source: str, package: str = "") -> dict[str, str]:
    """The user's modules that a source imports, directly or through each other: name -> source.

    A package's `__init__` is under the package's name. Raises `UsageError` for a module that is no
    Python source, and if all are larger than `MOST_BYTES`."""
    installed = {*sys.stdlib_module_names, *metadata.packages_distributions(), *PLATFORM}
    found: dict[str, str] = {}
    waiting = list(imported(source, package))
    while waiting:
        name = waiting.pop()
        if name in found or name.split(".")[0] in installed or not _exists(name):
            continue
        parent = name.rpartition(".")[0]
        if parent:
            waiting.append(parent)
        found[name], is_package = _source_of(name)
        waiting += imported(found[name], name if is_package else parent)
    if sum(map(len, found.values())) > MOST_BYTES:
        raise UsageError(
            f"the modules {', '.join(sorted(found))} are larger than {MOST_BYTES >> 20} MiB "
            "together: install them as a package on the nodes, or import less"
        )
    return found


def _exists(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def _source_of(name: str) -> tuple[str, bool]:
    """(source, whether it is a package). A namespace package has no source."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return "", True
    if not spec.origin.endswith(".py"):
        raise UsageError(f"the module {name} is no Python source: install it on the nodes instead")
    return Path(spec.origin).read_text(), spec.submodule_search_locations is not None


class LocalImports:
    """The `__import__` of a bundle's code: gives it the bundle's own modules.

    `home`: name of the bundle's module in `sys.modules`; the other modules import it as `entry`.
    `file`: shown in tracebacks."""

    def __init__(
        self, home: str, file: str, modules: Mapping[str, str], *, entry: str = ""
    ) -> None:
        self._home, self._file, self._modules, self._entry = home, file, modules, entry
        self._roots = {name.split(".")[0] for name in (*modules, entry) if name}

    def run(self, source: str, module: ModuleType, *, package: str, file: str) -> None:
        """Execute a source in a module. Raises what it raises."""
        # Tracebacks read the lines of the source from this cache.
        lines = source.splitlines(keepends=True)
        linecache.cache[file] = (len(source), None, lines, file)
        scope: dict[str, Any] = module.__dict__
        scope["__builtins__"] = {**vars(builtins), "__import__": self}
        scope["__package__"], scope["__file__"] = package, file
        exec(compile(source, file, "exec"), scope)

    def __call__(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        package = str((globals or {}).get("__package__") or "")
        absolute = importlib.util.resolve_name("." * level + name, package) if level else name
        if absolute.split(".")[0] not in self._roots:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        module = self._load(absolute)
        for attribute in fromlist or ():
            if f"{absolute}.{attribute}" in (*self._modules, self._entry) and not hasattr(
                module, attribute
            ):
                setattr(module, attribute, self._load(f"{absolute}.{attribute}"))
        return module if fromlist else self._load(absolute.split(".")[0])

    def _load(self, name: str) -> ModuleType:
        if name == self._entry:
            return sys.modules[self._home]
        known = f"{self._home}.{name}"
        if known in sys.modules:
            return sys.modules[known]
        if name not in self._modules:
            raise ModuleNotFoundError(
                f"No module named {name!r} in the program's bundle", name=name
            )
        parent, _, last = name.rpartition(".")
        above = self._load(parent) if parent else None
        module = sys.modules[known] = ModuleType(known)
        is_package = any(other.startswith(f"{name}.") for other in self._modules)
        try:
            self.run(
                self._modules[name],
                module,
                package=name if is_package else parent,
                file=f"{self._file}/{name.replace('.', '/')}.py",
            )
        except BaseException:
            del sys.modules[known]
            raise
        if above is not None:
            setattr(above, last, module)
        return module
