"""Stores under the contract tests, opened as the network and as a volunteer open them."""

from dataclasses import replace

from gensyn_ray.object_store.address import BucketAddress, parse
from gensyn_ray.object_store.grants import Grant, Method
from gensyn_ray.object_store.presigned import Presigned
from gensyn_ray.object_store.retry import RetryPolicy
from gensyn_ray.services.presigner import Links


def address_of(uri: str) -> BucketAddress:
    """The address of a bucket."""
    address = parse(uri)
    assert isinstance(address, BucketAddress)
    return address


def presigned(uri: str, *, at: str = "", retry: RetryPolicy | None = None) -> Presigned:
    """A volunteer's objects behind a presigner that allows everything.

    `at`: the address in links, `http://HOST:PORT`; the default is the store itself."""
    address = address_of(uri)
    links = Links(address)

    def ask(method: Method, kind: str, digest: str) -> Grant:
        grant = links.reading(kind, digest) if method == "get" else links.storing_state(digest)
        if not at:
            return grant
        # moto accepts another host than the signed one.
        return replace(grant, url=grant.url.replace(str(address.endpoint_url), at, 1))

    return Presigned(ask, where=str(address), retry=retry)
