"""The part of a script that a class needs. Pure: text in, text out.

A script also runs things: it connects, opens a job, prints. A bundle must not do so on every node.
"""

import ast
import symtable
from collections.abc import Iterator
from dataclasses import dataclass

from gensyn_ray.domain.errors import UsageError

SETTERS = ("torch.set_", "torch.use_", "torch.backends.")
"""Beginnings of what changes torch for the whole process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Statement:
    """A top-level statement. `gives`: names that it defines, assigns or changes. `needs`: global
    names that it reads. `adds_to`: names whose objects it changes by a call or a decorator.
    `first`, `last`: its lines, from 1."""

    gives: frozenset[str]
    needs: frozenset[str]
    adds_to: frozenset[str]
    is_import: bool
    is_always: bool
    first: int
    last: int


def part_for(name: str, source: str) -> str:
    """The top-level statements of `source` that the definition of `name` needs, directly or through
    each other. Other lines become empty, so that line numbers stay those of the script.

    A statement is needed if it imports, defines, assigns or changes a needed name: also by a call
    of a method (`LAYERS.append(8)`) or as a decorator. Other bare calls and the block under
    `if __name__ == "__main__"` never are. Raises `UsageError` for a call that changes torch for the
    whole process: nodes would not make it."""
    body = [one for one in ast.parse(source).body if not _is_main_block(one)]
    statements = [_read(one) for one in body]
    needed, made = {name}, {name}
    kept: set[int] = {at for at, one in enumerate(statements) if one.is_always}
    while (
        found := {
            at for at, one in enumerate(statements) if one.gives & needed or one.adds_to & made
        }
        - kept
    ):
        kept |= found
        for at in found:
            needed |= statements[at].needs
            if not statements[at].is_import:
                made |= statements[at].gives
    # Statements on one line are kept together.
    wanted = {line for at in kept for line in range(statements[at].first, statements[at].last + 1)}
    for one in (*statements, *reversed(statements)):
        if wanted & set(range(one.first, one.last + 1)):
            wanted |= set(range(one.first, one.last + 1))
    lines = source.split("\n")[: max(wanted, default=0)]
    return "".join(f"{line}\n" if at in wanted else "\n" for at, line in enumerate(lines, start=1))


def global_names(source: str) -> set[str]:
    """The global names that a source reads, also within its functions and classes."""
    found: set[str] = set()
    waiting = [symtable.symtable(source, "source", "exec")]
    while waiting:
        table = waiting.pop()
        waiting += table.get_children()
        found |= {
            one.get_name()
            for one in table.get_symbols()
            if one.is_referenced() and (one.is_global() or table.get_type() == "module")
        }
    return found


def _read(statement: ast.stmt) -> _Statement:
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    call = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(call, ast.Call) and ast.unparse(call.func).startswith(SETTERS):
        raise UsageError(
            f"line {statement.lineno} calls {ast.unparse(call.func)}, which changes torch for the "
            "whole process; no node would do so: set it in the program's `init`, on its own modules"
        )
    changed = (
        [call.func] if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) else []
    )
    return _Statement(
        gives=frozenset(_defined(statement)),
        needs=frozenset(global_names(ast.unparse(statement))),
        adds_to=frozenset(base for one in (*changed, *decorators) for base in _base(one)),
        is_import=isinstance(statement, (ast.Import, ast.ImportFrom)),
        is_always=isinstance(statement, ast.ImportFrom)
        and (statement.module == "__future__" or statement.names[0].name == "*"),
        first=min([statement.lineno, *(one.lineno for one in decorators)]),
        last=statement.end_lineno or statement.lineno,
    )


def _is_main_block(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and any(
        isinstance(one, ast.Name) and one.id == "__name__" for one in ast.walk(statement.test)
    )


def _defined(statement: ast.stmt) -> Iterator[str]:
    """The names that a top-level statement gives a value or changes."""
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield statement.name
        case ast.Import() | ast.ImportFrom():
            for alias in statement.names:
                yield alias.asname or alias.name.split(".")[0]
        case ast.Expr():
            return
        case _:
            for one in ast.walk(statement):
                if isinstance(one, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)):
                    yield from _defined(one)
                elif isinstance(getattr(one, "ctx", None), (ast.Store, ast.Del)):
                    yield from _base(one)


def _base(target: ast.AST) -> Iterator[str]:
    """The name at the start of `name.field[index](argument)`."""
    while isinstance(target, (ast.Attribute, ast.Subscript, ast.Call)):
        target = target.func if isinstance(target, ast.Call) else target.value
    if isinstance(target, ast.Name):
        yield target.id
