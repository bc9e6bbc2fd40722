"""The contract of object stores, on a folder, on two kinds of S3 server, and on the links that
volunteers get for a bucket on those servers. Ceph is tested if its packages are installed."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from gensyn_ray.object_store.blobs import Blobs
from gensyn_ray.object_store.bucket import Bucket
from gensyn_ray.object_store.folder import Folder
from gensyn_ray.object_store.objects import Missing, Objects
from tests.kits.memory_store import MemoryObjects
from tests.kits.places import address_of, presigned
from tests.kits.s3_servers import S3Server
from workloads.core.bundle import Bundle
from workloads.core.dataset import prepare
from workloads.core.state import state_digest
from workloads.core.task_spec import TaskSpec

MEGABYTE = 1_000_000
NAME = "ab" * 32
STATE = {"layer/weight": torch.arange(12.0).reshape(3, 4), "step": torch.tensor(7)}
BUNDLE = Bundle(entry="P", source="x = 1\n", libraries={"torch": "2.13.0"})
SPEC = TaskSpec(bundle=BUNDLE.digest, config={"lr": 0.1}, seed=1, task="t000")


PLACES = ["memory", "folder", "moto", "ceph", "moto links", "ceph links"]
WHOLE_PLACES = [place for place in PLACES if not place.startswith("moto")]
"""Stores that allow reads while an object is written. moto 5.2 does not: its writer reads the
object for the ETag without the lock of its readers, so some readers get nothing."""


@pytest.fixture(params=PLACES)
def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Objects]:
    """Opens one store, which is empty at first. May be called repeatedly."""
    if request.param == "folder":
        return lambda: Folder(tmp_path / "store")
    if request.param == "memory":
        objects = MemoryObjects()
        return lambda: objects
    server: S3Server = request.getfixturevalue(request.param.split()[0])
    for name, value in server.credentials.items():
        monkeypatch.setenv(name, value)
    uri = server.uri_at(server.port, prefix=f"prefix of/{tmp_path.name}")
    if request.param.endswith("links"):
        return lambda: presigned(uri)
    return lambda: Bucket(address_of(uri))


@pytest.fixture
def objects(place: Callable[[], Objects]) -> Objects:
    return place()


class TestObjects:
    """The contract of `Objects`. Stores only states, because links store nothing else."""

    def test_what_is_stored_comes_back(self, objects: Objects) -> None:
        for number, data in enumerate([b"", b"\0", bytes(range(256)), b"\r\n" * 40_000]):
            key = f"states/{number:064x}"
            objects.put(key, data)
            assert objects.get(key) == data

    def test_large_objects_come_back(self, objects: Objects) -> None:
        data = bytes(range(251)) * (25 * MEGABYTE // 251)
        objects.put(f"states/{NAME}", data)
        assert objects.get(f"states/{NAME}") == data

    def test_storing_twice_is_harmless(self, objects: Objects) -> None:
        for _ in range(2):
            objects.put(f"states/{NAME}", b"same")
            assert objects.get(f"states/{NAME}") == b"same"

    def test_what_was_never_stored_is_missing(self, objects: Objects) -> None:
        with pytest.raises(Missing, match=NAME):
            objects.get(f"states/{NAME}")
        objects.put(f"states/{NAME}", b"there")
        for key in (f"specs/{NAME}", f"states/{NAME[:-1]}0", f"states/{NAME}/more"):
            with pytest.raises(Missing):
                objects.get(key)

    def test_a_stored_object_is_visible_to_others_at_once(
        self, place: Callable[[], Objects]
    ) -> None:
        first, second = place(), place()
        first.put(f"states/{NAME}", b"x")
        assert second.get(f"states/{NAME}") == b"x"

    @pytest.mark.parametrize("place", WHOLE_PLACES, indirect=True)
    def test_a_reader_sees_a_whole_object_or_none(self, place: Callable[[], Objects]) -> None:
        data, done = b"\x5a" * (6 * MEGABYTE), threading.Event()
        writer, reader = place(), place()

        def watch() -> int:
            seen = 0
            while not done.is_set():
                try:
                    assert reader.get(f"states/{NAME}") == data
                    seen += 1
                except Missing:
                    continue
            return seen

        with ThreadPoolExecutor(1) as pool:
            watching = pool.submit(watch)
            try:
                writer.put(f"states/{NAME}", data)
            finally:
                done.set()
            watching.result(60)

    def test_threads_may_share_it(self, objects: Objects) -> None:
        def one(number: int) -> bool:
            data = b"%d" % number * 10_000
            objects.put(f"states/{number:064x}", data)
            return objects.get(f"states/{number:064x}") == data

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(one, range(32)))


class TestBlobs:
    """The contract of `Blobs`: it adds kinds and checks digests."""

    @pytest.fixture(params=["folder", "moto", "ceph"])
    def uri(
        self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> str:
        if request.param == "folder":
            return (tmp_path / "store").as_uri()
        server: S3Server = request.getfixturevalue(request.param)
        for name, value in server.credentials.items():
            monkeypatch.setenv(name, value)
        return server.uri_at(server.port, prefix=tmp_path.name)

    def test_everything_comes_back(self, uri: str) -> None:
        blobs, digest = Blobs(uri), state_digest(STATE)
        blobs.put_state(digest, STATE)
        blobs.put_bundle(BUNDLE)
        blobs.put_spec(SPEC)
        blobs.put_file("job.request", b"\x00\xff")
        prepared = prepare({"train": pa.table({"x": [1.0, 2.0, 3.0]})}, {"model.bin": b"\x01"})
        blobs.put_prepared(prepared)
        other = Blobs(uri)
        assert other.get_manifest(prepared.manifest.digest) == prepared.manifest
        for name, data in prepared.blobs.items():
            assert other.get_data(name) == data
        back = other.get_state(digest)
        assert state_digest(back) == digest
        assert other.get_bundle(BUNDLE.digest) == BUNDLE
        assert other.get_spec(SPEC.digest) == SPEC
        assert other.get_file("job.request") == b"\x00\xff"

    def test_other_bytes_under_a_digest_are_missing(self, uri: str) -> None:
        blobs, digest = Blobs(uri), state_digest(STATE)
        blobs.put_state(digest, {**STATE, "step": torch.tensor(8)})
        with pytest.raises(Missing, match="another state"):
            blobs.get_state(digest)

    def test_prefixes_are_apart(self, uri: str) -> None:
        head, question, options = uri.partition("?")
        Blobs(uri).put_file("name", b"one")
        beside = Blobs(f"{head}-2{question}{options}")
        with pytest.raises(Missing):
            beside.get_file("name")
        beside.put_file("name", b"two")
        assert Blobs(uri).get_file("name") == b"one"
