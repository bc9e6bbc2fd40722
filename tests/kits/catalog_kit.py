"""The catalog's programs with small data: one case each."""

from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from workloads.core.dataset import DataSet, Prepared, prepare
from workloads.core.rng import Rng
from workloads.core.segment import Runner
from workloads.core.task_spec import TaskSpec
from workloads.numerics.arithmetic import arithmetic
from workloads.programs import recipes
from workloads.programs.catalog import PROGRAMS

REPRODUCIBLE = "reproducible/v1/highest"


def lists(values: np.ndarray[Any, Any], length: int) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), length)


def pictures() -> Prepared:
    """Images in which the position of a bright line is the class."""
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
    """(data, config) of a case."""
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
