"""Jobs on data that cannot be trained on end soon, say what is wrong with which part, and cost
nothing."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gensyn_ray.api import Network
from gensyn_ray.domain.errors import OperationError
from tests.ray.laptop import BUDGET
from workloads.core.dataset import Prepared, Shard, digest_of, prepare
from workloads.programs.fashion import Fashion
from workloads.ray_jobs.rounds import Plan

pytestmark = pytest.mark.soak
ROWS = 64


def _tables(*columns: str) -> dict[str, pa.Table]:
    pixels = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(ROWS * 784, dtype=np.uint8)), 784)
    whole = pa.table({"pixels": pixels, "label": pa.array(np.zeros(ROWS, dtype=np.int64))})
    return {"train": whole.select(columns), "test": whole.select(columns)}


def _with_shard(split: str, data: bytes, groups: list[int]) -> Prepared:
    """A good data set but for one shard, under the digest that it really has."""
    good = prepare(_tables("pixels", "label"))
    shard = Shard(digest=digest_of(data), groups=groups)
    splits = {**good.manifest.splits, split: [shard] if groups else []}
    return Prepared(
        manifest=replace(good.manifest, splits=splits), blobs={**good.blobs, shard.digest: data}
    )


BAD: dict[str, tuple[Callable[[], Prepared], str]] = {
    "missing column": (
        lambda: prepare(_tables("pixels")),
        r"no column 'label', only pixels",
    ),
    "no Parquet": (
        lambda: _with_shard("train", b"PAR1 and no more", [ROWS]),
        f"shard {digest_of(b'PAR1 and no more')[:16]} of the split 'train' is no Parquet file",
    ),
    "no rows to test on": (
        lambda: _with_shard("test", b"", []),
        "the split 'test' has no rows",
    ),
}
KINDS: dict[str, Callable[..., Any]] = {
    "finetune": lambda client, config, data: client.finetune(
        Fashion, config=config, metric="accuracy", mode="max", budget=BUDGET, data=data
    ),
    "pretrain": lambda client, config, data: client.pretrain(
        Fashion,
        config=config,
        plan=Plan(rounds=1, steps=2),
        workers=(1, 2),
        budget=BUDGET,
        data=data,
    ),
}


@pytest.mark.parametrize(
    ("kind", "case"),
    [*(("finetune", case) for case in BAD), ("pretrain", "missing column")],
)
def test_bad_data_are_named_and_cost_nothing(client: Network, kind: str, case: str) -> None:
    make, message = BAD[case]
    prepared = make()
    client.store.put_prepared(prepared)
    before_micro = client.read("balance", party=client.party)["available_micro"]
    config = {"model": "mlp", "hidden": 8, "lr": 1e-3}
    job = KINDS[kind](client, config, prepared.manifest.digest)
    with pytest.raises(OperationError, match=message):
        job.result(timeout_s=360)
    bill = job.status()
    assert bill["closed"]
    assert bill["escrow_micro"] == 0
    spent = before_micro - client.read("balance", party=client.party)["available_micro"]
    assert spent == bill["paid_micro"]
    assert bill["paid_micro"] == 0 or kind == "pretrain", "a first global state may be paid"
