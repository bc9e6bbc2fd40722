"""One test for each thing that was wrong once: it failed before it was mended."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gensyn_ray.domain.errors import OperationError, Refused
from gensyn_ray.object_store.blobs import Blobs, Missing
from ledger.core.refusals import Reason
from tests.kits import small_programs
from tests.unit.gensyn_ray.operators import test_agent
from tests.unit.verifier_actors.replay import test_replay
from tests.unit.workloads.core import test_bundle
from tests.unit.workloads.ray_jobs.search import test_gate
from tests.unit.workloads.ray_jobs.tasks import test_task_run
from verifier_actors.replay.replay import replay
from workloads.core.bundle import Bundle
from workloads.core.data_cache import DataCache
from workloads.core.program import Program
from workloads.core.rng import Rng
from workloads.core.segment import Runner, TaskSpec
from workloads.core.state import state_digest
from workloads.numerics.arithmetic import arithmetic

# -- bundle: a class typed at a prompt --------------------------------------------------------

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
from workloads.core.segment import Runner, TaskSpec
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


def _cells(annotated: bool) -> list[str]:
    return [
        cell.replace("{extra_import}", ", Config" if annotated else "").replace(
            "{config_type}", ": Config" if annotated else ""
        )
        for cell in CELLS
    ]


@pytest.mark.parametrize("annotated", [False, True])
def test_a_program_typed_in_a_notebook_trains_the_same_in_another_process(annotated: bool) -> None:
    after, bundle = bundle_at_prompt(_cells(annotated))
    assert bundle.entry == "Noted"
    assert test_bundle.train_elsewhere(bundle) == after


# -- blobs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("damaged", [b"", b"{", b"\xff\xfe", b"[1]", b'"text"'])
def test_a_damaged_bundle_or_spec_is_missing(tmp_path: Path, damaged: bytes) -> None:
    blobs = Blobs(tmp_path.as_uri())
    bundle = Bundle(entry="P", source="x = 1\n", libraries={})
    spec = TaskSpec(bundle=bundle.digest, config={}, seed=1, task="t000")
    blobs.put_bundle(bundle)
    blobs.put_spec(spec)
    (tmp_path / "bundles" / bundle.digest).write_bytes(damaged)
    (tmp_path / "specs" / spec.digest).write_bytes(damaged)
    with pytest.raises(Missing):
        blobs.get_bundle(bundle.digest)
    with pytest.raises(Missing):
        blobs.get_spec(spec.digest)


def test_a_state_with_nan_under_the_name_is_missing(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path.as_uri())
    digest = state_digest({"w": torch.tensor([1.0])})
    blobs.put_state(digest, {"w": torch.tensor([math.nan])})
    with pytest.raises(Missing):
        blobs.get_state(digest)


def test_a_hyperparameter_called_micro_keeps_its_type(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path.as_uri())
    spec = TaskSpec(bundle="b", config={"batch_micro": 5}, seed=1, task="t000")
    blobs.put_spec(spec)
    assert blobs.get_spec(spec.digest).config == {"batch_micro": 5}


# -- rng, state, program ----------------------------------------------------------------------


class Top(Rng):
    def raw(self, count: int) -> Any:
        return np.full(count, 2**64 - 1, dtype=np.uint64)


@pytest.mark.parametrize(("low", "high"), [(1.0, 2.0), (10.0, 11.0), (0.5, 0.75)])
def test_uniform_stays_below_its_high_end(low: float, high: float) -> None:
    assert Top("a").uniform((1,), low, high).item() < high


def test_a_lazily_conjugated_tensor_has_a_digest() -> None:
    assert state_digest({"c": torch.tensor([1 + 2j]).conj()}) == state_digest(
        {"c": torch.tensor([1 - 2j])}
    )


class Line(Program):
    steps_per_segment, segments = 2, 2

    def load_data(self) -> Any:
        return {"x": torch.arange(3.0)}

    def init(self, config: Any, data: Any, rng: Any) -> None:
        self.w = torch.zeros(3, requires_grad=True)
        self.optimizer = torch.optim.SGD([self.w], lr=0.1)

    def step(self, data: Any, rng: Any) -> None:
        self.optimizer.zero_grad()
        ((self.w - data["x"]) ** 2).sum().backward()
        self.optimizer.step()

    def evaluate(self, data: Any) -> Any:
        return {"sum": float(self.w.sum())}


def test_a_trained_tensor_attribute_replays() -> None:
    spec = TaskSpec(bundle="b", config={}, seed=1, task="t000")
    live = Runner(Line(), spec, Line().load_data(), arithmetic)
    first, second = live.run_segment(), live.run_segment()
    again = Runner(Line(), spec, Line().load_data(), arithmetic)
    again.load(first.state)
    assert again.run_segment().state_after == second.state_after


# -- task run ---------------------------------------------------------------------------------


class Forgetful(small_programs.Dropout):
    """Its `step` relies on the mode that `init` left, and its `evaluate` leaves another."""

    def step(self, data: dict[str, torch.Tensor], rng: Rng) -> None:
        is_training = self.model.training
        super().step(data, rng)
        assert is_training, "evaluate's mode reached the next segment"


def test_the_mode_that_evaluate_leaves_does_not_reach_the_next_segment() -> None:
    program = Forgetful()
    spec = TaskSpec(bundle="b", config={"lr": 0.1}, seed=0, task="t")
    runner = Runner(program, spec, program.load_data(), arithmetic)
    for _ in range(2):
        runner.run_segment()


def test_a_caught_operators_trial_waits_when_its_first_slot_is_refused() -> None:
    agent, slept = test_task_run.FakeAgent(), []
    agent.refuse_slot[0] = Refused(Reason.OPERATOR_TOMBSTONED)
    run = test_task_run.start(agent, slept=slept)
    with pytest.raises(Refused, match="tombstoned"):
        run.advance()
    assert slept == [test_task_run.REFUSED_WAIT_S]


# -- gate -------------------------------------------------------------------------------------


@pytest.mark.parametrize("metrics", [{}, {"loss": 2.0}])
def test_a_metric_that_is_not_in_the_receipt_does_not_pass(metrics: dict[str, float]) -> None:
    gate = test_gate.make_gate(test_gate.FakeDriver())
    gate.started("a", {})
    leaf = {**test_gate.make_leaf(), "metrics": metrics}
    result = {**metrics, "accuracy": 0.99}
    assert gate.check("a", result, leaf, test_gate.make_receipt(leaf)) != ""


@pytest.mark.parametrize("value", ["0.5", None, [1], True])
def test_a_metric_that_is_no_number_does_not_pass(value: Any) -> None:
    gate = test_gate.make_gate(test_gate.FakeDriver())
    gate.started("a", {})
    leaf = {**test_gate.make_leaf(), "metrics": {"accuracy": value}}
    assert test_gate.report(gate, "a", leaf) != ""


# -- replay, agent ----------------------------------------------------------------------------


def test_a_bundle_that_raises_when_loaded_has_that_as_its_result() -> None:
    store = test_replay.FakeStore(small_programs.Small, lr=0.2)
    broken = Bundle(entry="P", source="raise RuntimeError\n", libraries={})
    store.bundles[broken.digest] = broken
    store.spec = TaskSpec(bundle=broken.digest, config={}, seed=5, task="t000")
    store.specs = {store.spec.digest: store.spec}
    assert replay(test_replay.request(store), store, DataCache()) == "failed: RuntimeError"


def test_a_forged_receipt_is_an_operation_error() -> None:
    class Impostor(test_agent.FakeLedger):
        def submit(self, envelope: Any) -> dict[str, Any]:
            return {"receipt": test_agent.receipt_for(envelope, key=test_agent.OTHER_KEY)}

    with pytest.raises(OperationError):
        test_agent.open_slot(test_agent.make_agent(Impostor()))
