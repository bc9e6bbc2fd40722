"""One server of each kind for all tests of this folder. Each test has its own schema or prefix."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.kits.postgres import running_postgres
from tests.kits.s3_servers import S3Server, running_ceph, running_moto


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    # Tests end processes, not the machine, so syncs would prove nothing more.
    with running_postgres("fsync=off") as conninfo:
        yield conninfo


@pytest.fixture(scope="session")
def admin(server: str) -> Iterator[psycopg.Connection]:
    """The connection string of a superuser."""
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
