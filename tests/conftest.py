"""How two processes share the tests (`make test`): modules stay whole. Should tests with real
clusters be among them, all of those run in one of the two, one after the other."""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

CLUSTERS = "tests/ray/"


class OneClusterAtATime(LoadScopeScheduling):
    """Each test goes where there is time for it, those of clusters together. By their place: marks
    of groups do not reach the scheduler with pytest 9.2 and xdist 3.8."""

    def _split_scope(self, nodeid: str) -> str:
        return CLUSTERS if nodeid.startswith(CLUSTERS) else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneClusterAtATime:
    """Called in the process that hands the tests out, if there are several."""
    return OneClusterAtATime(config, log)
