"""A program's bundle has the user's own modules. Nodes load them from there, for each bundle its
own."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gensyn_ray.domain import canonical
from gensyn_ray.domain.errors import UsageError
from gensyn_ray.domain.records import from_json
from workloads.core import local_modules
from workloads.core.bundle import Bundle, bundle_of, load_program
from workloads.core.program_errors import ProgramFailed, told_to_its_author

PROGRAM = """
import torch
from workloads.core.program import Program
{imports}

class Mine(Program):
    steps_per_segment = segments = 1
    def load_data(self): return {{"x": torch.zeros(1)}}
    def init(self, config, data, rng): self.x = torch.tensor(float({value}))
    def step(self, data, rng): self.x = self.x + 1
    def evaluate(self, data):
        from mine_late import LATE
        return {{"x": float(self.x) + LATE}}
"""

LOAD = """
import sys
from gensyn_ray.domain import canonical
from gensyn_ray.domain.records import from_json
from workloads.core.bundle import Bundle, load_program

program = load_program(from_json(Bundle, canonical.decode(sys.stdin.buffer.read())))()
program.init({}, {}, None)
print(program.evaluate({})["x"])
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of a user, from which Python imports."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mine_late.py").write_text("LATE = 100\n")
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith(("mine_", "gensyn_bundle_")):
            del sys.modules[name]


def bundle_in(folder: Path, imports: str, value: str, name: str = "mine_program") -> Bundle:
    (folder / f"{name}.py").write_text(PROGRAM.format(imports=imports, value=value))
    return bundle_of(__import__(name).Mine)


def value_elsewhere(bundle: Bundle, folder: Path) -> float:
    """The value of the program in a process that cannot see the user's folder."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD],
        input=canonical.encode(bundle.to_json()),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return float(done.stdout)


def test_modules_travel_with_those_that_they_import(folder: Path) -> None:
    (folder / "mine_base.py").write_text("from mine_deep import DEEP\nBASE = DEEP + 1\n")
    (folder / "mine_deep.py").write_text("import math\nDEEP = math.floor(2.5)\n")
    bundle = bundle_in(folder, "from mine_base import BASE", "BASE")
    assert sorted(bundle.modules) == ["mine_base", "mine_deep", "mine_late"]
    assert value_elsewhere(bundle, folder) == 103.0


def test_packages_and_relative_imports_travel(folder: Path) -> None:
    package = folder / "mine_package"
    (package / "parts").mkdir(parents=True)
    (package / "__init__.py").write_text("from .one import ONE\n")
    (package / "one.py").write_text("ONE = 1\n")
    (package / "parts" / "two.py").write_text("from ..one import ONE\nTWO = 2 * ONE\n")
    imports = "import mine_package.parts.two\nfrom mine_package import ONE, one\n"
    value = "mine_package.parts.two.TWO + ONE + one.ONE"
    bundle = bundle_in(folder, imports, value)
    assert value_elsewhere(bundle, folder) == 104.0
    (package / "program.py").write_text(PROGRAM.format(imports="from .one import ONE", value="ONE"))
    inside: Any = __import__("mine_package.program", fromlist=["Mine"])
    assert value_elsewhere(bundle_of(inside.Mine), folder) == 101.0


def test_a_module_that_imports_the_programs_module_back_gets_the_same(folder: Path) -> None:
    package = folder / "mine_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "registry.py").write_text(
        "SEEN = []\ndef value():\n    from . import program\n    return len(program.SEEN)\n"
    )
    imports = "from .registry import SEEN, value\nSEEN.append(1)"
    (package / "program.py").write_text(PROGRAM.format(imports=imports, value="value()"))
    inside: Any = __import__("mine_package.program", fromlist=["Mine"])
    bundle = bundle_of(inside.Mine)
    assert "mine_package.program" not in bundle.modules
    assert value_elsewhere(bundle, folder) == 101.0


def test_a_relative_import_out_of_no_package_is_left_alone(folder: Path) -> None:
    imports = "try:\n    from .helpers import f\nexcept ImportError:\n    f = 1"
    assert value_elsewhere(bundle_in(folder, imports, "f"), folder) == 101.0


def test_a_program_may_ask_for_its_file(folder: Path) -> None:
    imports = "from pathlib import Path\nROOT = Path(__file__).parent"
    assert value_elsewhere(bundle_in(folder, imports, "1"), folder) == 101.0


def test_two_bundles_have_modules_of_one_name(folder: Path) -> None:
    loaded: list[float] = []
    for number in (1, 2):
        (folder / "mine_base.py").write_text(f"BASE = {number}\n")
        bundle = bundle_in(folder, "from mine_base import BASE", "BASE", f"mine_program_{number}")
        program = load_program(bundle)()
        program.init({}, {}, None)  # type: ignore[arg-type]
        loaded.append(program.evaluate({})["x"])
        del sys.modules["mine_base"]
    assert loaded == [101.0, 102.0]


def test_a_change_of_a_module_changes_the_digest(folder: Path) -> None:
    digests: set[str] = set()
    for text in ("BASE = 1\n", "BASE = 1  # the same\n"):
        (folder / "mine_base.py").write_text(text)
        digests.add(bundle_in(folder, "from mine_base import BASE", "BASE").digest)
    assert len(digests) == 2


def test_a_bundle_with_modules_survives_json(folder: Path) -> None:
    (folder / "mine_base.py").write_text("BASE = 1\n")
    bundle = bundle_in(folder, "import mine_base", "mine_base.BASE")
    again = from_json(Bundle, canonical.decode(canonical.encode(bundle.to_json())))
    assert again == bundle
    assert again.digest == bundle.digest


def test_an_error_in_a_module_shows_its_line(folder: Path) -> None:
    (folder / "mine_base.py").write_text("def divide():\n    return 1 / 0  # the mistake\n")
    bundle = bundle_in(folder, "from mine_base import divide", "divide()")
    with pytest.raises(ProgramFailed) as caught, told_to_its_author(bundle.file):
        load_program(bundle)().init({}, {}, None)  # type: ignore[arg-type]
    assert "/mine_base.py" in str(caught.value)
    assert "# the mistake" in str(caught.value)


def test_a_module_that_fails_to_load_leaves_nothing_behind(folder: Path) -> None:
    (folder / "mine_base.py").write_text("BASE = 1\n")
    bundle = bundle_in(folder, "from mine_base import BASE", "BASE")
    broken = Bundle(
        entry="Mine",
        source=bundle.source,
        libraries={},
        modules={**bundle.modules, "mine_base": "BASE = 1 / 0\n"},
    )
    before = set(sys.modules)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            load_program(broken)
    assert set(sys.modules) == before


def test_modules_are_limited_and_need_source(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "mine_base.py").write_text("BASE = 1\n")
    monkeypatch.setattr(local_modules, "MOST_BYTES", 10)
    with pytest.raises(UsageError, match="mine_base, mine_late are larger"):
        bundle_in(folder, "from mine_base import BASE", "BASE")


def test_the_vetted_programs_need_no_modules() -> None:
    from workloads.programs.catalog import PROGRAMS

    assert all(bundle_of(program).modules == {} for program in PROGRAMS.values())
