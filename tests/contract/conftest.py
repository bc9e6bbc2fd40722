"""One server of each kind for all tests of this folder; each test has a schema or a prefix of its
own."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.kits.postgres import running_postgres
from tests.kits.s3_servers import S3Server, running_ceph, running_moto


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    # Tests end processes, never the machine: without syncs they are faster and prove as much.
    with running_postgres("fsync=off") as conninfo:
        yield conninfo


@pytest.fixture(scope="session")
def admin(server: str) -> Iterator[psycopg.Connection]:
    """A superuser's connection."""
    with psycopg.connect(server, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    with running_moto() as server:
        yield server


@pytest.fixture(scope="session")
def ceph() -> Iterator[S3Server]:
    with running_ceph() as server:
        yield server
