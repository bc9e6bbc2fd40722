"""A sweep with its objects in a bucket that checks signatures. Volunteers and submitter have no
credentials.

The search is population based training, because it makes Tune save and restore checkpoints.
"""

from collections.abc import Iterator

import pytest
import ray
from ray import tune

from gensyn_ray.api.network import Network
from gensyn_ray.api.terms import Audit, Budget
from gensyn_ray.domain.money import MICRO_PER_CREDIT
from gensyn_ray.object_store.bucket import Bucket
from gensyn_ray.testnet.local import BucketStore, LocalNetwork
from tests.kits.laptop import population_based
from tests.kits.places import address_of
from tests.kits.ray_network import STAKE_MICRO
from tests.kits.s3_servers import BUCKET, S3Server, running_ceph
from workloads.numerics.profiles import best_profiles
from workloads.programs.digits import Digits

pytestmark = pytest.mark.soak

BUDGET = Budget(total_micro=1000 * MICRO_PER_CREDIT, per_segment_micro=MICRO_PER_CREDIT)


@pytest.fixture(scope="module")
def ceph() -> Iterator[S3Server]:
    with running_ceph() as server:
        yield server


@pytest.fixture(scope="module")
def network(ceph: S3Server) -> Iterator[LocalNetwork]:
    profile = best_profiles()[1]
    store = BucketStore(uri=ceph.uri, credentials=ceph.credentials)
    with LocalNetwork(seed=23, store=store) as local:
        local.start([profile])
        for name in ("volunteer-1", "volunteer-2"):
            local.add_volunteer(name, profile, stake_micro=STAKE_MICRO)
        yield local


def test_volunteers_hold_no_credentials(client: Network, ceph: S3Server) -> None:
    def read(uri: str) -> str:
        try:
            Bucket(address_of(uri)).get("files/anything")
        except Exception as error:
            return str(error)
        return ""

    where = {"gensyn.role": "volunteer"}
    task = ray.remote(read).options(num_cpus=0, label_selector=where)
    assert "forbids" in ray.get(task.remote(ceph.uri), timeout=360)


def test_a_sweep_in_a_bucket(client: Network, ceph: S3Server) -> None:
    job = client.sweep(
        Digits,
        param_space={
            "lr": tune.grid_search([0.00001, 0.05]),
            "momentum": 0.9,
            "width": 16,
        },
        tune_config=tune.TuneConfig(metric="accuracy", mode="max", scheduler=population_based()),
        budget=BUDGET,
        audit=Audit(rate_ppm=250_000, draw_batch=4),
    )
    result = job.result(timeout_s=900)
    assert result.summary.state == "done"
    assert len(result.grid) == 2
    assert result.bill.segments.rejected == 0
    assert result.bill.segments.unavailable == 0
    assert result.bill.segments.accepted > 0
    grown = [one for one in result.receipts if "." in one.slot.split("/")[1]]
    assert grown, "a trial went on from a state of the other one"
    stored = ceph.client().list_objects_v2(Bucket=BUCKET, Prefix="net/one/")["Contents"]
    kinds = {one["Key"].split("/")[2] for one in stored} - {""}  # the empty name is a folder
    assert kinds == {"bundles", "manifests", "data", "specs", "states", "files", "runs"}
    states = [one["Key"] for one in stored if "/states/" in one["Key"]]
    assert len(states) >= len(result.receipts) // 2
    runs = [one["Key"] for one in stored if "/runs/" in one["Key"]]
    assert not [key for key in runs if "checkpoint" in key and "dict_checkpoint" in key]
