"""Bundles: their content and digest; a loaded program trains with the same bits everywhere."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
import torch

from gensyn_ray.domain import canonical
from gensyn_ray.domain.errors import OperationError, UsageError
from gensyn_ray.domain.records import from_json, to_json
from tests.kits import small_programs
from workloads.core.bundle import Bundle, bundle_of, load_program
from workloads.core.program import Program
from workloads.core.segment import Runner
from workloads.core.task_spec import TaskSpec
from workloads.numerics.arithmetic import arithmetic
from workloads.programs.digits import Digits

TORCH = metadata.version("torch").split("+")[0]

GOLDEN = "1ed915c4a58a61f4accce698360b8a857a9008bc93c1b9150268d8abc4e179e2"

HEAD = """
import torch
from workloads.core.program import Program

class Tiny(Program):
    steps_per_segment = 1
    segments = 2
    def load_data(self): return {}
    def init(self, config, data, rng): self.x = rng.uniform((2,))
    def step(self, data, rng): self.x = self.x + rng.uniform((2,))
    def evaluate(self, data): return {"sum": float(self.x.sum())}
"""

TRAIN = """
import sys
from gensyn_ray.domain import canonical
from gensyn_ray.domain.records import from_json
from workloads.core.bundle import Bundle, load_program
from workloads.core.segment import Runner
from workloads.core.task_spec import TaskSpec
from workloads.numerics.arithmetic import arithmetic

bundle = from_json(Bundle, canonical.decode(sys.stdin.buffer.read()))
program = load_program(bundle)()
spec = TaskSpec(bundle=bundle.digest, config={"lr": 0.1}, seed=1, task="t000")
print(Runner(program, spec, program.load_data(), arithmetic).run_segment().state_after)
"""


def bundle_from(source: str, entry: str = "Tiny", **libraries: str) -> Bundle:
    return Bundle(entry=entry, source=source, libraries=libraries)


def train_here(program: type[Program], bundle: Bundle) -> str:
    one = program()
    spec = TaskSpec(bundle=bundle.digest, config={"lr": 0.1}, seed=1, task="t000")
    return Runner(one, spec, one.load_data(), arithmetic).run_segment().state_after


def train_elsewhere(bundle: Bundle) -> str:
    done = subprocess.run(
        [sys.executable, "-c", TRAIN],
        input=canonical.encode(to_json(bundle)),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout.decode().strip()


def test_a_bundles_digest_never_changes() -> None:
    bundle = bundle_from("x = 1\n", numpy="2.4.6", torch="2.13.0")
    assert bundle.digest == GOLDEN


def test_everything_in_a_bundle_is_part_of_its_digest() -> None:
    bundle = bundle_from(HEAD, torch="2.13.0")
    others = [
        replace(bundle, entry="Other"),
        replace(bundle, source=HEAD + "\n"),
        replace(bundle, libraries={"torch": "2.13.1"}),
        replace(bundle, libraries={}),
    ]
    assert len({one.digest for one in [bundle, *others]}) == 5


def test_a_program_in_a_file_has_one_digest() -> None:
    assert bundle_of(small_programs.Small).digest == bundle_of(small_programs.Small).digest
    assert bundle_of(small_programs.Small).digest != bundle_of(small_programs.Adam).digest


def test_the_bundle_of_a_program_in_a_file_has_the_whole_file() -> None:
    bundle = bundle_of(small_programs.Adam)
    assert bundle.entry == "Adam"
    assert bundle.source == Path(small_programs.__file__).read_text()


def test_a_bundle_survives_json() -> None:
    bundle = bundle_of(Digits)
    again = from_json(Bundle, json.loads(canonical.encode(to_json(bundle))))
    assert again == bundle
    assert again.digest == bundle.digest


@pytest.mark.parametrize("program", small_programs.ALL)
def test_a_loaded_program_trains_as_the_one_that_was_bundled(program: type[Program]) -> None:
    bundle = bundle_of(program)
    loaded = load_program(bundle)
    assert loaded is not program
    assert train_here(loaded, bundle) == train_here(program, bundle)


def test_a_program_trains_the_same_in_another_process() -> None:
    bundle = bundle_of(small_programs.Averaged)
    assert train_elsewhere(bundle) == train_here(small_programs.Averaged, bundle)


def test_a_bundle_is_loaded_once() -> None:
    bundle = bundle_from(HEAD)
    assert load_program(bundle) is load_program(bundle)
    assert load_program(replace(bundle, source=HEAD + "# other\n")) is not load_program(bundle)


def test_the_versions_of_imported_libraries_are_recorded() -> None:
    libraries = bundle_of(Digits).libraries
    for name in ("torch", "numpy", "scikit-learn"):
        assert libraries[name] == metadata.version(name).split("+")[0]


def test_a_version_has_no_build_tag() -> None:
    assert "+" not in bundle_of(small_programs.Small).libraries["torch"]
    assert torch.__version__.startswith(TORCH)


def test_the_standard_library_is_no_library() -> None:
    libraries = bundle_of(Digits).libraries
    assert not set(libraries) & set(sys.stdlib_module_names)


def test_another_version_of_a_library_is_refused_by_name() -> None:
    bundle = bundle_from(HEAD + "# 1\n", numpy=metadata.version("numpy"), torch="1.0.0")
    with pytest.raises(OperationError, match=rf"torch 1\.0\.0, here is {TORCH}"):
        load_program(bundle)


def test_a_missing_library_is_refused_by_name() -> None:
    bundle = bundle_from(HEAD + "# 2\n", **{"no-such-library-here": "3.1"})
    with pytest.raises(OperationError, match=r"no-such-library-here 3\.1, here is missing"):
        load_program(bundle)


@pytest.mark.parametrize("entry", ["Absent", "torch", "helper", "Rest"])
def test_an_entry_that_is_no_program_is_refused(entry: str) -> None:
    source = HEAD + "def helper(): pass\nclass Rest: pass\n"
    with pytest.raises(OperationError, match=entry):
        load_program(bundle_from(source, entry))


def test_a_bundle_that_fails_to_load_leaves_nothing_behind() -> None:
    bundle = bundle_from(HEAD + "raise RuntimeError('broken at import')\n")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="broken at import"):
            load_program(bundle)
    assert f"gensyn_bundle_{bundle.digest[:16]}" not in sys.modules


class Outer:
    class Nested(small_programs.Small):
        """A nested program class."""


def test_a_nested_program_is_refused() -> None:
    class Local(small_programs.Small):
        pass

    for program in (Outer.Nested, Local):
        with pytest.raises(UsageError, match="nested"):
            bundle_of(program)


def test_a_program_without_readable_source_is_refused() -> None:
    code = (
        f"exec({HEAD!r})\n"
        "from workloads.core.bundle import bundle_of\n"
        "from gensyn_ray.domain.errors import UsageError\n"
        "try: bundle_of(Tiny)\n"
        "except UsageError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "define it in a file" in done.stdout, done.stderr[-2000:]


CELLS = [
    "import math as m\nimport torch\nfrom torch import nn\n"
    "from collections.abc import Mapping\nfrom typing import Any\n"
    "from workloads.core.program import Program{extra_import}\nWIDTH = 4\n",
    "def make_model(rng):\n    '''A helper.'''\n    model = nn.Linear(WIDTH, 1)\n"
    "    rng.init_linear_(model)\n    return model\n",
    """class Noted(Program):
    steps_per_segment = 2
    segments = 2

    def load_data(self):
        return {"x": torch.ones(3, WIDTH)}

    def init(self, config{config_type}, data, rng):
        self.model = make_model(rng)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=float(config["lr"]))

    def step(self, data, rng):
        self.optimizer.zero_grad()
        (self.model(data["x"]) * m.pi).sum().backward()
        self.optimizer.step()

    def evaluate(self, data):
        return {"out": float(self.model(data["x"]).sum())}
""",
    # What a notebook has after its first job. These are local names in the functions above.
    "model = rng = object()\ndata = {'x': torch.ones(1)}\n",
]


PROMPT = """
import json, linecache, sys
scope = sys.modules["__main__"].__dict__
scope.pop("__file__", None)
for number, source in enumerate(json.loads(sys.stdin.read())):
    name = f"<ipython-input-{number}-0123456789ab>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    exec(compile(source, name, "exec"), scope)
from gensyn_ray.domain import canonical
from gensyn_ray.domain.records import to_json
from workloads.core.bundle import bundle_of
from workloads.core.segment import Runner
from workloads.core.task_spec import TaskSpec
from workloads.numerics.arithmetic import arithmetic
bundle = bundle_of(scope["Noted"])
spec = TaskSpec(bundle=bundle.digest, config={"lr": 0.1}, seed=1, task="t000")
program = scope["Noted"]()
after = Runner(program, spec, program.load_data(), arithmetic).run_segment().state_after
print(json.dumps({"after": after, "bundle": to_json(bundle)}))
"""


def bundle_at_prompt(cells: list[str]) -> tuple[str, Bundle]:
    done = subprocess.run(
        [sys.executable, "-c", PROMPT],
        input=json.dumps(cells),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    return found["after"], Bundle(**found["bundle"])


def cells_of(annotated: bool) -> list[str]:
    return [
        cell.replace("{extra_import}", ", Config" if annotated else "").replace(
            "{config_type}", ": Config" if annotated else ""
        )
        for cell in CELLS
    ]


@pytest.mark.parametrize("annotated", [False, True])
def test_a_program_typed_in_a_notebook_trains_the_same_in_another_process(annotated: bool) -> None:
    """Regression: a class typed at a prompt had no source, and a type alias no module."""
    after, bundle = bundle_at_prompt(cells_of(annotated))
    assert bundle.entry == "Noted"
    assert train_elsewhere(bundle) == after
