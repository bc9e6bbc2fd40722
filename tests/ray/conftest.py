"""Real clusters for tests. Each ends only the processes that it started."""

import os
from collections.abc import Generator

import pytest
import ray

from gensyn_ray.api.network import Network
from gensyn_ray.domain.money import MICRO_PER_CREDIT
from gensyn_ray.testnet.local import LocalNetwork


@pytest.fixture(scope="module")
def client(network: LocalNetwork) -> Network:
    """A submitter with 10,000 credits."""
    submitter = Network(network.key("submitter"))
    submitter.join("submitter")
    network.fund(submitter.party, 10_000 * MICRO_PER_CREDIT)
    return submitter


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the load and the nodes to a failure: a busy machine or a lost node may explain it."""
    report = yield
    if report.failed and isinstance(item.funcargs.get("network"), LocalNetwork):
        load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
        lines = [f"load average {load} on {os.cpu_count()} cores"]
        for node in ray.nodes() if ray.is_initialized() else ():
            name = node["Labels"].get("gensyn.name", "head")
            lines.append(f"{name}: {'alive' if node['Alive'] else 'lost'}")
        report.sections.append(("the network when it failed", "\n".join(lines)))
    return report
