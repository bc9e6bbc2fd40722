"""S3 servers for tests, each with an empty bucket: Ceph's gateway, and the mock moto.

    with running_ceph() as server:
        Blobs(server.uri)           # with server.credentials in the environment

Ceph needs Debian's packages `ceph-mon ceph-osd radosgw ceph-common`. One monitor and one OSD in
memory serve a gateway on a free port. The start takes about 12 seconds and 200 MB.
"""

import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config

from gensyn_ray.testnet.processes import Child, free_port, stop_all

START_S = 90.0
CALL_S = 60.0
CEPH = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "monmaptool")
BUCKET = "network"


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """A running server. `credentials`: environment variables that give access to the bucket."""

    port: int
    credentials: Mapping[str, str]
    host: str = "127.0.0.1"

    @property
    def uri(self) -> str:
        return self.uri_at(self.port)

    def uri_at(self, port: int, prefix: str = "net/one") -> str:
        """The bucket's address through another port of this host, or with another prefix."""
        return f"s3://{BUCKET}/{prefix}?endpoint_override={self.host}:{port}&scheme=http"

    def client(self) -> Any:
        """The client with which a test reads the bucket."""
        return boto3.client(
            "s3",
            endpoint_url=f"http://{self.host}:{self.port}",
            region_name="us-east-1",
            aws_access_key_id=self.credentials["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.credentials["AWS_SECRET_ACCESS_KEY"],
            config=Config(
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )


def _server(port: int, host: str = "127.0.0.1") -> S3Server:
    key = {"AWS_ACCESS_KEY_ID": "NETWORKSOWNKEYID", "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20)}
    credentials = {**key, "AWS_EC2_METADATA_DISABLED": "true"}
    return S3Server(port=port, credentials=credentials, host=host)


def _answers(server: S3Server) -> Callable[[], bool]:
    def ask() -> bool:
        try:
            url = f"http://{server.host}:{server.port}/"
            return httpx.get(url, timeout=2.0).status_code < 500
        except httpx.TransportError:
            return False

    return ask


@contextmanager
def running_moto(host: str = "127.0.0.1") -> Iterator[S3Server]:
    """Run a mock of S3 on this machine. It does not check signatures."""
    server = _server(free_port(), host)
    folder = Path(tempfile.mkdtemp(prefix="moto-"))
    command = [sys.executable, "-m", "moto.server", "-H", host, "-p", str(server.port)]
    child = Child("moto", command, env={}, log=folder / "log")
    try:
        child.wait_until(_answers(server), timeout_s=START_S)
        server.client().create_bucket(Bucket=BUCKET)
        yield server
    finally:
        stop_all([child])
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_ceph() -> Iterator[S3Server]:
    """Run Ceph's S3 gateway, which checks signatures. Skips if its packages are missing."""
    if missing := [program for program in CEPH if shutil.which(program) is None]:
        pytest.skip(f"no Ceph: {', '.join(missing)} missing (see .ci/run for the packages)")
    server = _server(free_port())
    folder = Path(tempfile.mkdtemp(prefix="ceph-", dir="/tmp"))
    children: list[Child] = []
    try:
        _start_ceph(server, folder, children)
        server.client().create_bucket(Bucket=BUCKET)
        yield server
    finally:
        stop_all(children)
        shutil.rmtree(folder, ignore_errors=True)


def _start_ceph(server: S3Server, folder: Path, children: list[Child]) -> None:
    cluster, monitor = str(uuid.uuid4()), f"127.0.0.1:{free_port()}"
    conf = folder / "ceph.conf"
    conf.write_text(_CEPH_CONF.format(folder=folder, fsid=cluster, monitor=monitor))

    def call(*command: str) -> str:
        """The output of a command, repeated until its monitor or OSD is ready."""
        deadline = time.monotonic() + CALL_S
        while True:
            done = subprocess.run(
                [command[0], "-c", str(conf), *command[1:]],
                capture_output=True,
                text=True,
                timeout=CALL_S,
                check=False,
            )
            if not done.returncode:
                return done.stdout.strip()
            if time.monotonic() > deadline:
                raise RuntimeError(f"{' '.join(command)} failed: {done.stderr}")
            time.sleep(0.2)

    def start(name: str, *command: str) -> Child:
        child = Child(
            name,
            [command[0], "-c", str(conf), *command[1:], "-f"],
            env={},
            log=folder / f"{name}.out",
        )
        children.append(child)
        return child

    for one in ("mon", "osd"):
        (folder / one).mkdir()
    map_file = str(folder / "monmap")
    call("monmaptool", "--create", "--fsid", cluster, "--addv", "a", f"[v2:{monitor}]", map_file)
    call("ceph-mon", "--mkfs", "-i", "a", "--monmap", map_file)
    start("mon", "ceph-mon", "-i", "a")
    osd = str(uuid.uuid4())
    number = call("ceph", "--connect-timeout", "5", "osd", "new", osd)
    call("ceph-osd", "-i", number, "--mkfs", "--osd-uuid", osd)
    start("osd", "ceph-osd", "-i", number)
    key = server.credentials
    user = ("--uid=network", "--display-name=network", f"--access-key={key['AWS_ACCESS_KEY_ID']}")
    secret = f"--secret={key['AWS_SECRET_ACCESS_KEY']}"
    call("radosgw-admin", "user", "create", *user, secret)
    where = f"--rgw-frontends=beast endpoint=127.0.0.1:{server.port}"
    start("rgw", "radosgw", "-n", "client.rgw", where).wait_until(
        _answers(server), timeout_s=START_S
    )


_CEPH_CONF = """
[global]
fsid = {fsid}
mon host = [v2:{monitor}]
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
run dir = {folder}
admin socket = {folder}/$name.$pid.asok
log file = {folder}/$name.log
pid file = {folder}/$name.pid
mon cluster log file = {folder}/cluster.log
mon data = {folder}/mon
mon data avail crit = 1
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 1073741824
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon max pg per osd = 500
osd crush chooseleaf type = 0
rgw data = {folder}
rgw thread pool size = 32
"""
