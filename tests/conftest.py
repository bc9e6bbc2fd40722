"""How two processes share the tests (`make test`): a process takes the next test that is free.

Tests whose set-up costs more than the tests themselves stay together in one process. pytest's marks
of groups do not reach the scheduler with pytest 9.2 and xdist 3.8, so the groups are paths.
"""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

TOGETHER = {
    "one cluster at a time": ("tests/ray/",),
    "one S3 server of each kind": (
        "tests/contract/test_blobs.py",
        "tests/contract/test_links.py",
        "tests/contract/test_store_faults.py",
    ),
    "one PostgreSQL server": (
        "tests/contract/test_authority_on_stores.py",
        "tests/contract/test_journal_store.py",
    ),
    "kernels for another processor are compiled once": (
        "tests/unit/workloads/numerics/test_reproducible.py",
        "tests/unit/workloads/programs/test_programs.py",
    ),
    "one recording of golden files": ("tests/unit/workloads/numerics/test_self_test.py",),
    "one long journal": ("tests/soak/test_tamper.py",),
}


class GroupScheduling(LoadScopeScheduling):
    """Hands out single tests, and the groups of `TOGETHER` whole. The largest group goes first."""

    def _split_scope(self, nodeid: str) -> str:
        for group, places in TOGETHER.items():
            if nodeid.startswith(places):
                return group
        return nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> GroupScheduling:
    """Called in the process that hands the tests out, if there are several."""
    return GroupScheduling(config, log)
