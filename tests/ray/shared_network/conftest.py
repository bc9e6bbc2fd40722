"""One network for all modules of this folder, because starting one takes a minute of a small
machine. What a test does to it, those of later modules find: the last one takes a node away."""

from collections.abc import Iterator

import pytest

from gensyn_ray.api.network import Network
from gensyn_ray.domain.money import MICRO_PER_CREDIT
from gensyn_ray.testnet.local import LocalNetwork
from tests.kits import raising
from tests.kits.ray_network import STAKE_MICRO, VOLUNTEERS
from workloads.core.bundle import bundle_of
from workloads.numerics.pinned import best_profiles


@pytest.fixture(scope="package")
def network() -> Iterator[LocalNetwork]:
    """Head, verifier node and two honest volunteers of one class, who also run the program that
    raises. Its submitter has 10,000 credits."""
    profile = best_profiles()[1]
    with LocalNetwork(seed=31, allow=[bundle_of(raising.Raises).digest]) as local:
        local.start([profile])
        for name in VOLUNTEERS:
            local.add_volunteer(name, profile, stake_micro=STAKE_MICRO)
        submitter = Network(local.key("submitter"))
        submitter.join("submitter")
        local.fund(submitter.party, 10_000 * MICRO_PER_CREDIT)
        yield local


@pytest.fixture
def client(network: LocalNetwork) -> Network:
    """The submitter, connected anew: the head may have been another in the test before."""
    return Network(network.key("submitter"))
