"""A faulty bucket during a job. Temporary faults cost nothing. A permanent fault ends the job with
an error that names the object, and the budget returns."""

from collections.abc import Iterator

import pytest
from ray import tune

from gensyn_ray.api.job import Job
from gensyn_ray.api.network import Network
from gensyn_ray.api.terms import Audit
from gensyn_ray.domain.errors import OperationError
from gensyn_ray.domain.money import MICRO_PER_CREDIT
from gensyn_ray.testnet.local import BucketStore, LocalNetwork, wait_for
from tests.kits.faulty_proxy import Fault, FaultyProxy
from tests.kits.laptop import BUDGET
from tests.kits.ray_network import STAKE_MICRO
from tests.kits.s3_servers import S3Server, running_moto
from workloads.numerics.profiles import best_profiles
from workloads.programs.digits import Digits

pytestmark = pytest.mark.soak
PASSING = {
    "PUT": [Fault.SLOW_DOWN, Fault.RESET, Fault.LOST_ANSWER],
    "GET": [Fault.SERVER_ERROR, Fault.RESET, Fault.SLOW_DOWN],
}
"""Faults of the connection. Wrong bytes are not among them: Tune's own files have no digests that
would show them (tests/contract/test_store_faults.py tests objects)."""


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with running_moto() as running:
        yield running


@pytest.fixture(scope="module")
def proxy(server: S3Server) -> Iterator[FaultyProxy]:
    with FaultyProxy(server.port) as running:
        yield running


@pytest.fixture(scope="module")
def network(server: S3Server, proxy: FaultyProxy) -> Iterator[LocalNetwork]:
    profile = best_profiles()[1]
    store = BucketStore(uri=server.uri_at(proxy.port), credentials=server.credentials)
    with LocalNetwork(seed=31, store=store) as local:
        local.start([profile])
        for name in ("volunteer-1", "volunteer-2"):
            local.add_volunteer(name, profile, stake_micro=STAKE_MICRO)
        yield local


def _sweep(client: Network, rates: list[float]) -> Job:
    return client.sweep(
        Digits,
        param_space={"lr": tune.grid_search(rates), "momentum": 0.9, "width": 16},
        tune_config=tune.TuneConfig(metric="accuracy", mode="max"),
        budget=BUDGET,
        audit=Audit(rate_ppm=500_000, draw_batch=2),
    )


def test_temporary_faults_lose_nothing(client: Network, proxy: FaultyProxy) -> None:
    job, planned = _sweep(client, [0.02, 0.04]), 0

    def is_done() -> bool:
        nonlocal planned
        if proxy.left() == 0:  # a fault for each answer; the kinds take turns
            for method, faults in PASSING.items():
                proxy.plan(method, faults[planned % len(faults)])
            planned += 1
        return job.is_done()

    wait_for(is_done, timeout_s=720, what="the end of the job")
    result = job.result(timeout_s=60)
    assert planned > 10
    assert result.summary.state == "done"
    slots = [one.slot for one in result.receipts]
    assert len(slots) == len(set(slots)) == 2 * Digits.segments
    assert result.bill.segments.rejected == 0
    assert result.bill.segments.unavailable == 0
    assert result.bill.paid_micro == len(slots) * MICRO_PER_CREDIT


def test_a_permanent_fault_is_named_and_the_budget_returns(
    client: Network, proxy: FaultyProxy
) -> None:
    proxy.always("PUT", Fault.FORBIDDEN, "/states/")
    before_micro = client.read("balance", party=client.party).available_micro
    job = _sweep(client, [0.03])  # its states are not in the store yet
    with pytest.raises(OperationError, match=r"states/[0-9a-f]{64}"):
        job.result(timeout_s=720)
    bill = job.status()
    assert bill.closed
    assert (bill.escrow_micro, bill.paid_micro) == (0, 0)
    assert client.read("balance", party=client.party).available_micro == before_micro
