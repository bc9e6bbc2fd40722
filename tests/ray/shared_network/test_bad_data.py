"""A job on bad data ends, its error names the faulty part, and it costs nothing. The submitter has
switched the dry run off, which would find the fault before."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gensyn_ray.api.job import Job
from gensyn_ray.api.network import Network
from gensyn_ray.domain.errors import OperationError
from gensyn_ray.testnet.local import LocalNetwork, wait_for
from tests.kits.laptop import BUDGET
from workloads.core.dataset import Prepared, Shard, digest_of, prepare
from workloads.programs.fashion import Fashion
from workloads.ray_jobs.diloco.core.plan import Plan

pytestmark = pytest.mark.soak
ROWS = 64


def _tables(*columns: str) -> dict[str, pa.Table]:
    pixels = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(ROWS * 784, dtype=np.uint8)), 784)
    whole = pa.table({"pixels": pixels, "label": pa.array(np.zeros(ROWS, dtype=np.int64))})
    return {"train": whole.select(columns), "test": whole.select(columns)}


def _with_shard(split: str, data: bytes, groups: list[int]) -> Prepared:
    """A data set with one bad shard, under the digest of its real bytes."""
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
        Fashion,
        config=config,
        metric="accuracy",
        mode="max",
        budget=BUDGET,
        data=data,
        dry_run=False,
    ),
    "pretrain": lambda client, config, data: client.pretrain(
        Fashion,
        config=config,
        plan=Plan(rounds=1, steps=2),
        workers=(1, 2),
        budget=BUDGET,
        data=data,
        dry_run=False,
    ),
}


CASES = (*(("finetune", case) for case in BAD), ("pretrain", "missing column"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """Runs all cases at once, because most of a case is the start of processes.

    Returns the submitter's balance before them."""

    jobs: dict[tuple[str, str], Job]
    before_micro: int


@pytest.fixture(scope="module")
def begun(network: LocalNetwork) -> Begun:
    client = Network(network.key("submitter"))
    before_micro = client.read("balance", party=client.party).available_micro
    config = {"model": "mlp", "hidden": 8, "lr": 1e-3}
    jobs: dict[tuple[str, str], Job] = {}
    for kind, case in CASES:
        prepared = BAD[case][0]()
        client.store.put_prepared(prepared)
        jobs[kind, case] = KINDS[kind](client, config, prepared.manifest.digest)
    return Begun(jobs=jobs, before_micro=before_micro)


@pytest.mark.parametrize(("kind", "case"), CASES)
def test_bad_data_are_named(client: Network, begun: Begun, kind: str, case: str) -> None:
    job = begun.jobs[kind, case]
    with pytest.raises(OperationError, match=BAD[case][1]):
        job.result(timeout_s=360)
    bill = job.status()
    assert bill.closed
    assert bill.escrow_micro == 0
    receipts = client.read("receipts", job=job.id)
    assert bill.paid_micro == sum(one.paid_micro for one in receipts)
    assert bill.paid_micro == 0 or kind == "pretrain", "a first global state may be paid"


def test_bad_data_cost_nothing(begun: Begun, client: Network) -> None:
    for job in begun.jobs.values():
        wait_for(lambda job=job: job.status().closed, timeout_s=360, what="the end of a job")
    paid_micro = sum(job.status().paid_micro for job in begun.jobs.values())
    left_micro = client.read("balance", party=client.party).available_micro
    assert begun.before_micro - left_micro == paid_micro
