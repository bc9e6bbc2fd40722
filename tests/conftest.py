"""Distributes tests over the processes of `make test`.

A free process takes the next test. Tests with an expensive common set-up form a group, which one
process runs. With pytest 9.2 and xdist 3.8, pytest's group marks do not reach the scheduler, so the
groups are lists of paths.
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
    """Assigns single tests and whole groups of `TOGETHER`, the largest group first."""

    def _split_scope(self, nodeid: str) -> str:
        for group, places in TOGETHER.items():
            if nodeid.startswith(places):
                return group
        return nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> GroupScheduling:
    """A hook of xdist. Its controlling process calls it if there are several workers."""
    return GroupScheduling(config, log)
