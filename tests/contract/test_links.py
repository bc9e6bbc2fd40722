"""A link allows one operation on one object for a limited time. Tested on moto and on Ceph, which
checks signatures."""

import httpx
import pytest
import torch

from gensyn_ray.object_store.blobs import Blobs
from gensyn_ray.object_store.bucket import Bucket
from gensyn_ray.services.presigner import LINK_LIFE_S, Links
from tests.kits.places import address_of
from tests.kits.s3_servers import S3Server
from workloads.core.state import state_digest

STATE = {"weight": torch.arange(9.0)}
DIGEST, OTHER = state_digest(STATE), "0f" * 32
KEY = f"states/{DIGEST}"


@pytest.fixture(params=["moto", "ceph"])
def uri(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    server: S3Server = request.getfixturevalue(request.param)
    for name, value in server.credentials.items():
        monkeypatch.setenv(name, value)
    return server.uri_at(server.port, prefix=f"links/{request.node.name}")


@pytest.fixture
def links(uri: str) -> Links:
    return Links(address_of(uri))


@pytest.fixture
def bucket(uri: str) -> Bucket:
    return Bucket(address_of(uri))


def test_a_link_ends_after_minutes(links: Links) -> None:
    for grant in (links.reading("states", DIGEST), links.storing_state(DIGEST)):
        assert httpx.URL(grant.url).params["X-Amz-Expires"] == str(LINK_LIFE_S)
        assert LINK_LIFE_S <= 10 * 60


def test_a_link_never_replaces_what_is_there(links: Links, bucket: Bucket) -> None:
    first, second = links.storing_state(DIGEST), links.storing_state(DIGEST)
    assert httpx.put(first.url, headers=first.headers, content=b"one").status_code == 200
    for again in (first, second):
        assert httpx.put(again.url, headers=again.headers, content=b"two").status_code == 412
    assert bucket.get(KEY) == b"one"


def test_what_is_stored_whole_needs_no_link(links: Links, bucket: Bucket) -> None:
    Blobs(bucket).put_state(DIGEST, STATE)
    assert links.storing_state(DIGEST).url == ""
    bucket.put(KEY, b"not read a second time")
    assert links.storing_state(DIGEST).url == ""


def test_other_bytes_under_a_digest_make_room(links: Links, bucket: Bucket) -> None:
    bucket.put(KEY, b"planted by somebody")
    grant = links.storing_state(DIGEST)
    assert httpx.put(grant.url, headers=grant.headers, content=b"right").status_code == 200
    assert bucket.get(KEY) == b"right"


class TestCheckedSignatures:
    """Checks that moto lacks."""

    @pytest.fixture
    def uri(self, ceph: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
        for name, value in ceph.credentials.items():
            monkeypatch.setenv(name, value)
        return ceph.uri_at(ceph.port, prefix="links/checked")

    def test_a_link_is_for_one_object_and_one_method(self, links: Links, bucket: Bucket) -> None:
        bucket.put(KEY, b"mine")
        bucket.put(f"states/{OTHER}", b"not yours")
        reading = links.reading("states", DIGEST).url
        assert httpx.get(reading).content == b"mine"
        assert httpx.get(reading.replace(DIGEST, OTHER)).status_code == 403
        assert httpx.put(reading, content=b"x").status_code == 403
        assert httpx.delete(reading).status_code == 403
        assert bucket.get(KEY) == b"mine"

    def test_a_link_that_stores_cannot_drop_its_condition(
        self, links: Links, bucket: Bucket
    ) -> None:
        grant = links.storing_state("1e" * 32)
        bucket.put(f"states/{'1e' * 32}", b"first")
        assert httpx.put(grant.url, content=b"x").status_code == 403
        elsewhere = grant.url.replace("1e" * 32, OTHER)
        assert httpx.put(elsewhere, headers=grant.headers, content=b"x").status_code == 403
        assert httpx.get(grant.url).status_code == 403
        assert bucket.get(f"states/{'1e' * 32}") == b"first"

    def test_an_expired_link_is_refused(self, links: Links, bucket: Bucket) -> None:
        bucket.put(KEY, b"mine")
        late = links.reading("states", DIGEST).url.replace(
            f"X-Amz-Expires={LINK_LIFE_S}", "X-Amz-Expires=604800"
        )
        assert httpx.get(late).status_code == 403, "its life cannot be stretched"
