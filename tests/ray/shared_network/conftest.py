"""One network for all modules of this folder. Each test leaves it as it was.

A test ends the jobs that it opens. A test that stops a node adds that node itself (`spare`).
"""

from collections.abc import Iterator

import pytest

from gensyn_ray.api.network import Network
from gensyn_ray.domain.money import MICRO_PER_CREDIT
from gensyn_ray.testnet.local import LocalNetwork, Member
from tests.kits import raising
from tests.kits.ray_network import STAKE_MICRO, VOLUNTEERS
from workloads.core.bundle import bundle_of
from workloads.numerics.profiles import best_profiles


@pytest.fixture(scope="package")
def network() -> Iterator[LocalNetwork]:
    """Head, verifier node, two honest volunteers of one class, a submitter with 10,000 credits.

    The volunteers also accept the program that raises.
    """
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
    """The submitter, with a new connection: the last test may have restarted the head."""
    return Network(network.key("submitter"))


@pytest.fixture
def spare(network: LocalNetwork) -> Iterator[Member]:
    """A third volunteer for one test, which may kill its node."""
    name = f"spare-{len(network.members)}"
    yield network.add_volunteer(name, best_profiles()[1], stake_micro=STAKE_MICRO)
    if network.is_alive(name):
        network.kill_node(name)
