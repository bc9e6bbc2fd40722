"""A bundle of a script has what its program needs, and nothing that the script runs."""

import pytest

from gensyn_ray.domain.errors import UsageError
from workloads.core.script_source import part_for

SCRIPT = '''"""A script."""
from __future__ import annotations
import os, sys
import torch as t
from torch import nn
try:
    import fast
except ImportError:
    fast = None

WIDTH = 8
SIZES = {"a": WIDTH}
SIZES["b"] = 2
OTHER = 5
LEFT, RIGHT = 1, 2


def helper(x):
    return x * SIZES["a"] + (fast is None)


@t.no_grad()
def decorated():
    return RIGHT


def unused():
    return OTHER


class Base:
    pass


class Mine(Base):
    def step(self):
        return nn.Linear(helper(1), decorated())


network = connect()
job = network.sweep(Mine)
print(job.result())
if __name__ == "__main__":
    Mine().step()
'''


def test_what_a_class_needs_is_kept_and_what_the_script_runs_is_not() -> None:
    part = part_for("Mine", SCRIPT)
    for kept in ("as t", "from torch import nn", "import fast", "WIDTH = 8", 'SIZES["b"]', "LEFT"):
        assert kept in part, kept
    for kept in ("def helper", "@t.no_grad()\ndef decorated", "class Base", "class Mine"):
        assert kept in part, kept
    for dropped in ("connect()", "sweep", "print", "__main__", "OTHER", "unused", "import os"):
        assert dropped not in part, dropped


def test_lines_keep_their_numbers() -> None:
    lines, part = SCRIPT.splitlines(), part_for("Mine", SCRIPT).splitlines()
    assert part[lines.index("class Mine(Base):")] == "class Mine(Base):"
    assert all(one in ("", given) for one, given in zip(part, lines, strict=False))


def test_the_part_runs_by_itself() -> None:
    source = "import math\nHALF = math.pi / 2\nclass A:\n    value = HALF\nraise SystemExit\n"
    scope: dict[str, type] = {}
    exec(part_for("A", source), scope)
    assert scope["A"].value > 1.5  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "change", ["A.size = 3", "A.size: int = 3", "for A.size in (1, 3): pass", "A.size = A.size = 3"]
)
def test_changes_of_a_needed_name_are_kept(change: str) -> None:
    assert change in part_for("A", f"class A:\n    size = 1\n{change}\nprint(A)\n")


@pytest.mark.parametrize(
    ("script", "kept", "dropped"),
    [
        # Local names of the class are no names of the script.
        (
            "class A:\n    def f(self):\n        model = 1\n        return [x for x in (model,)]\n"
            "net = connect()\nmodel = net.run()\nfor x in range(3):\n    net.sweep(x)\n",
            [],
            ["connect", "net.run", "sweep"],
        ),
        # Calls and decorators that build what the class uses.
        (
            "LAYERS = []\nLAYERS.append(8)\nREG = {}\ndef reg(f):\n    REG[1] = f\n    return f\n"
            "@reg\ndef small():\n    pass\nclass A:\n    x = (LAYERS, REG, reg)\nprint(LAYERS)\n",
            ["LAYERS.append(8)", "@reg\ndef small"],
            ["print"],
        ),
        (
            "from __future__ import annotations\nfrom math import *\nclass A: x = pi\n",
            ["*", "_f"],
            [],
        ),
        ("import math\nmath.floor(2)\nclass A: x = math.pi\n", ["import math"], ["floor"]),
        ('TEXT = """a\nb"""; OTHER = 1\nclass A: x = OTHER\n', ['TEXT = """a\nb"""; OTHER'], []),
        ('class A:\n    """\u2028 \x0c"""\n    x = 1\n', ["x = 1"], []),
    ],
)
def test_what_is_kept(script: str, kept: list[str], dropped: list[str]) -> None:
    part = part_for("A", script)
    compile(part, "part", "exec")
    assert all(text in part for text in kept), part
    assert not any(text in part for text in dropped), part


def test_a_change_of_torch_for_the_whole_process_is_refused() -> None:
    with pytest.raises(UsageError, match=r"line 2 calls torch.set_default_dtype"):
        part_for("A", "import torch\ntorch.set_default_dtype(torch.float64)\nclass A: pass\n")
