"""The part of a script that a class needs. Pure: text in, text out.

A script also runs things: it connects, opens a job, prints. A bundle must not do so on every node.
"""

import ast
from collections.abc import Iterator


def part_for(name: str, source: str) -> str:
    """The top-level statements of `source` that the definition of `name` needs, directly or through
    each other. Other lines become empty, so that line numbers stay those of the script.

    A statement is needed if it imports, defines, assigns or changes a needed name. Bare calls and
    the block under `if __name__ == "__main__"` never are."""
    statements = [one for one in ast.parse(source).body if not _is_main_block(one)]
    defined = [set(_defined(one)) for one in statements]
    needed, kept = {name}, set[int]()
    while found := {i for i, names in enumerate(defined) if names & needed} - kept:
        kept |= found
        for index in found:
            needed |= {one.id for one in ast.walk(statements[index]) if isinstance(one, ast.Name)}
    lines = source.splitlines(keepends=True)
    wanted = {
        number
        for index in kept
        for number in range(_first_line(statements[index]), (statements[index].end_lineno or 0) + 1)
    }
    last = max(wanted, default=0)
    return "".join(
        line if number in wanted else "\n" for number, line in enumerate(lines[:last], start=1)
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
    """The name at the start of `name.field[index]`."""
    while isinstance(target, (ast.Attribute, ast.Subscript)):
        target = target.value
    if isinstance(target, ast.Name):
        yield target.id


def _first_line(statement: ast.stmt) -> int:
    decorators = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(one.lineno for one in decorators)])
