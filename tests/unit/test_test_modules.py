"""Test modules do not import each other. Shared code is in `tests/kits`."""

import ast
from pathlib import Path

TESTS = Path(__file__).parent.parent
ROOT = TESTS.parent
SHARED = "tests.kits."
FORBIDDEN = ("tests.", "benchmarks")


def imported_by(tree: ast.AST) -> set[str]:
    """All modules that a file imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                found |= {one.name for one in node.names}
            case ast.ImportFrom(module=str(module)):
                found |= {f"{module}.{one.name}" for one in node.names}
            case ast.Constant(value=str(text)) if "import " in text:
                found |= imported_by_program(text)
            case _:
                pass
    return found


def imported_by_program(text: str) -> set[str]:
    """The imports of a string, if it is a program that a test starts in another process."""
    try:
        return imported_by(ast.parse(text))
    except (SyntaxError, ValueError):
        return set()


def is_foreign(module: str) -> bool:
    return module.startswith(FORBIDDEN) and not f"{module}.".startswith(SHARED)


def test_no_test_imports_a_test_or_a_benchmark() -> None:
    files = [path for path in TESTS.rglob("*.py") if path != Path(__file__)]
    found = {
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files
        for module in imported_by(ast.parse(path.read_text()))
        if is_foreign(module)
    }
    assert len(files) > 100
    assert found == set()


def test_imports_are_found_everywhere() -> None:
    program = (
        "def f():\n    from tests.unit import a\nimport benchmarks.b\nfrom tests.kits import c\n"
        "P = 'from tests.soak.d import e'\n"
    )
    found = {one for one in imported_by(ast.parse(program)) if is_foreign(one)}
    assert found == {"tests.unit.a", "benchmarks.b", "tests.soak.d.e"}
