"""Bundles: a program as source text, the name of its class and the versions of its libraries.

The digest of a bundle identifies the program. The bundle of a class from a module has the whole
file of that module, and the user's own modules that it imports. The bundle of a class from a
script, a notebook or a prompt has the class, and the definitions and imports of `__main__` that its
code mentions.

Not defended: loading a bundle runs its code. Nodes load only bundles that their operator allows.
"""

import ast
import inspect
import linecache
import sys
import textwrap
from dataclasses import dataclass, field
from importlib import metadata
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from gensyn_ray.domain import canonical
from gensyn_ray.domain.errors import OperationError, UsageError
from gensyn_ray.domain.records import to_json
from workloads.core.local_modules import LocalImports, modules_of
from workloads.core.script_source import global_names, part_for

if TYPE_CHECKING:
    from workloads.core.program import Program


LATER = ("modules", "module")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """`entry`: name of the class in `source`. `libraries`: distribution -> exact version.
    `modules`: the user's own modules that it imports, name -> source. `module`: the dotted name of
    `source` among them."""

    entry: str
    source: str
    libraries: dict[str, str]
    modules: dict[str, str] = field(default_factory=dict[str, str])
    module: str = ""

    def to_json(self) -> dict[str, Any]:
        """A JSON value, without `modules` and `module` if they are empty."""
        value = to_json(self)
        return {name: item for name, item in value.items() if item or name not in LATER}

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, as hex."""
        return canonical.digest(self.to_json())

    @property
    def file(self) -> str:
        """The file name under which its code is compiled. Tracebacks show it."""
        return f"<bundle {self.digest[:16]}>"


def bundle_of(program: "type[Program]") -> Bundle:
    """The bundle of a program class.

    Raises `UsageError` if its source cannot be read, if the class is nested, or if a module of the
    user's that it imports is no Python source."""
    module = sys.modules.get(program.__module__)
    try:
        path = getattr(module, "__file__", None)
        source = inspect.getsource(module) if module and path else _prompt_source(program)
        if path and program.__module__ == "__main__":
            source = part_for(program.__name__, source)
    except (OSError, TypeError):
        raise UsageError(
            f"the source of {program.__qualname__} cannot be read: define it in a file"
        ) from None
    if "." in program.__qualname__:
        raise UsageError(f"{program.__qualname__} is nested: define it at the top of its module")
    package = str(getattr(module, "__package__", None) or "")
    modules = modules_of(source, package)
    modules.pop(program.__module__, None)
    roots = {name.split(".")[0] for name in modules}
    return Bundle(
        entry=program.__name__,
        source=source,
        libraries=_libraries("\n".join([source, *modules.values()])),
        modules=modules,
        module=program.__module__ if program.__module__.split(".")[0] in roots else "",
    )


def load_program(bundle: Bundle) -> "type[Program]":
    """Load the class of a bundle, once in a process.

    Raises `OperationError` if a library has another version on this node or if `entry` is no
    program, and what the source raises.
    """
    name = f"gensyn_bundle_{bundle.digest[:16]}"
    if name not in sys.modules:
        for library, version in bundle.libraries.items():
            here = _version(library)
            if here != version:
                raise OperationError(
                    f"the program was bundled with {library} {version}, here is {here}: "
                    "install that version on this node"
                )
        module = sys.modules[name] = ModuleType(name)
        try:
            imports = LocalImports(name, bundle.file, bundle.modules, entry=bundle.module)
            package = bundle.module.rpartition(".")[0]
            imports.run(bundle.source, module, package=package, file=bundle.file)
        except BaseException:
            for loaded in [one for one in sys.modules if f"{one}.".startswith(f"{name}.")]:
                del sys.modules[loaded]
            raise
    found = getattr(sys.modules[name], bundle.entry, None)
    from workloads.core.program import Program  # most processes load no bundle

    if not (isinstance(found, type) and issubclass(found, Program)):
        raise OperationError(f"the bundle has no program called {bundle.entry}")
    return found


def _libraries(source: str) -> dict[str, str]:
    """Versions of the third-party distributions that the source imports, and of torch and NumPy."""
    imports = {"torch", "numpy"}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imports.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imports.add(node.module.split(".")[0])
    owners = metadata.packages_distributions()
    third_party = {
        owner
        for package in imports - set(sys.stdlib_module_names)
        for owner in owners.get(package, [])[:1]
    }
    return {library: _version(library) for library in sorted(third_party)}


def _version(library: str) -> str:
    try:
        return metadata.version(library).split("+")[0]
    except metadata.PackageNotFoundError:
        return "missing"


def _prompt_source(program: "type[Program]") -> str:
    """Source of a class from a prompt, after the definitions of `__main__` that it uses."""
    scope = vars(sys.modules[program.__module__])
    parts: dict[str, str] = {}

    def add(name: str, value: Any) -> None:
        if name in parts:
            return
        parts[name] = ""  # ends the recursion of definitions that name each other
        if isinstance(value, ModuleType):
            text = f"import {value.__name__} as {name}"
        elif isinstance(value, type) or inspect.isroutine(value):
            if value.__module__ == program.__module__:
                text = _class_source(value) if isinstance(value, type) else _source(value)
                for mentioned in sorted(global_names(text)):
                    if mentioned in scope and mentioned != name:
                        add(mentioned, scope[mentioned])
            else:
                text = f"from {value.__module__} import {value.__name__} as {name}"
        elif _is_constant(value):
            text = f"{name} = {value!r}"
        elif home := _home_of(name, value):
            text = f"from {home} import {name}"
        else:
            raise UsageError(f"{name} is used by {program.__name__} and is not code or a constant")
        del parts[name]
        parts[name] = text

    add(program.__name__, program)
    return "\n\n".join(parts.values()) + "\n"


def _source(value: Any) -> str:
    return textwrap.dedent(inspect.getsource(value))


def _class_source(kind: type) -> str:
    """Source of a class from a prompt. Only its methods know the file and line of the input."""
    for method in vars(kind).values():
        if not inspect.isfunction(method):
            continue
        source = "".join(linecache.getlines(method.__code__.co_filename))
        first = method.__code__.co_firstlineno
        for node in ast.parse(source).body:
            if (
                isinstance(node, ast.ClassDef)
                and node.name == kind.__name__
                and node.lineno <= first <= (node.end_lineno or 0)
            ):
                start = min([node.lineno, *(one.lineno for one in node.decorator_list)])
                return "\n".join(source.splitlines()[start - 1 : node.end_lineno]) + "\n"
    raise OSError("source code not available")


def _home_of(name: str, value: Any) -> str:
    """A module that has this value under this name. Type aliases do not know their module."""
    return next(
        (
            home
            for home, module in sorted(sys.modules.items())
            if not home.startswith("__") and vars(module).get(name) is value
        ),
        "",
    )


def _is_constant(value: Any) -> bool:
    """Whether its text gives it back."""
    if not isinstance(value, int | float | str | bool | tuple | list | dict | None):
        return False
    try:
        return ast.literal_eval(repr(cast("Any", value))) == value
    except (ValueError, SyntaxError):
        return False
