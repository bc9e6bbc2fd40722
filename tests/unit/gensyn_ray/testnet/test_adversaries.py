"""A cheat's node, in a process like those of its workers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gensyn_ray.testnet import adversaries

ROOT = Path(__file__).parents[4]
WORK = """
import json
from tests.kits.small_programs import Small
from workloads.core.segment import Runner
from workloads.core.task_spec import InnerSteps, OuterStep, TaskSpec
from workloads.numerics.arithmetic import arithmetic

def done(inputs=None, **more):
    program = Small()
    spec = TaskSpec(bundle="", config={"lr": 0.2}, seed=5, task="t", **more)
    run = Runner(program, spec, program.load_data(), arithmetic, inputs or {})
    return run.run_segment(lambda: True)

first = done(outer_step=OuterStep(weights={}, lr=0.8, momentum=0.5))
part = InnerSteps(steps=2, first_step=0, bits=8)
ran = {
    "outer step": first,
    "segment": done(),
    "inner steps": done({"global": first.state}, inner_steps=part),
}
print(json.dumps({kind: [one.state_after, int(one.state.get("progress/step", 0))]
                  for kind, one in ran.items()}))
"""


def results(*python_path: Path) -> dict[str, tuple[str, int]]:
    path = os.pathsep.join(str(one) for one in (*python_path, ROOT))
    done = subprocess.run(
        [sys.executable, "-c", WORK],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {kind: (state, step) for kind, (state, step) in json.loads(done.stdout).items()}


@pytest.mark.parametrize("name", ["lazy"])
def test_a_lazy_node_claims_all_steps_and_takes_none(name: str) -> None:
    lazy = results(Path(next(iter(adversaries.__path__))) / name)
    honest = results()
    assert {kind: step for kind, (_, step) in lazy.items()} == {
        kind: step for kind, (_, step) in honest.items()
    }
    differing = {kind for kind in honest if lazy[kind] != honest[kind]}
    assert differing == {"segment", "inner steps"}, "an outer step is always replayed"
