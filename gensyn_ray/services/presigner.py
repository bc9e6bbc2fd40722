"""The presigner gives volunteers links to single objects of the bucket. Volunteers need no
credentials.

    python -m gensyn_ray.services.presigner CONFIG.json

It is a process of its own, outside Ray. It holds the bucket's credentials, which it takes from its
environment, and no network key, so it cannot move credits. The authority answers one request at a
time and must not wait for a bucket; therefore the presigner is a separate process. It asks the
authority for a party's rights (`readings.object_rights`), and signs the link.

A link reads the bundle, the spec, the data or a predecessor of one task, or stores the end state of
one open slot. A slot stores one digest, and no link overwrites an object. If a party stored other
bytes under a digest first, the presigner finds and removes them when the digest's owner asks. One
presigner serves a bucket: two could remove an object that the other has just given a link to.

Not covered: a restart forgets which digest a slot was bound to; uploads over 5 GiB.

Not defended here: an operator that stores wrong bytes for its own slot (replays of later segments
find no predecessor), or that keeps the presigner busy with requests. Limits per client belong to a
proxy in front.
"""

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gensyn_ray.domain import canonical, records, signing
from gensyn_ray.domain.clock import Clock
from gensyn_ray.domain.errors import GensynError, OperationError, Refused, UsageError
from gensyn_ray.domain.ids import party_id
from gensyn_ray.domain.signing import Envelope
from gensyn_ray.object_store.address import BucketAddress, parse
from gensyn_ray.object_store.blobs import Blobs
from gensyn_ray.object_store.bucket import Bucket
from gensyn_ray.object_store.grants import KINDS, REQUEST_LIFE_MS, TAG, Grant, ObjectRequest
from gensyn_ray.object_store.objects import Missing
from gensyn_ray.runtime import http_server
from gensyn_ray.runtime.address import parse_listen_address
from gensyn_ray.runtime.blocking_calls import CALL_LIMIT, BlockingCalls
from gensyn_ray.runtime.http_answers import (
    HttpRefusal,
    RequestRefused,
    answer_errors,
    answer_json,
)
from gensyn_ray.runtime.http_body import read_json
from gensyn_ray.runtime.listening import listen
from gensyn_ray.runtime.wall_clock import now_ms
from ledger.client import LedgerClient
from ledger.core.refusals import Reason

LINK_LIFE_S = 300
BODY_LIMIT = 4096
DIGEST_LENGTH = 64
MANIFESTS = 64
"""Number of jobs whose manifests are kept in memory."""
REMEMBERED = 10_000
"""Number of digests of whole states that are kept in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PresignerConfig:
    """`blobs`: the bucket's address. `ledger`: the authority's address. `genesis`: the network's,
    hex. `listen`: `unix:PATH`, `http://HOST:PORT` or `https://HOST:PORT`. `certificate` and
    `certificate_key`: PEM files, for https only."""

    blobs: str
    ledger: str
    genesis: str
    listen: str
    certificate: str = ""
    certificate_key: str = ""


class Links:
    """Signs links to one bucket, with the credentials of the environment.

    Raises `UsageError` if there are none.
    """

    def __init__(self, address: BucketAddress) -> None:
        session = boto3.Session()
        if session.get_credentials() is None:
            raise UsageError(
                "no credentials for the bucket: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY "
                "where the presigner starts"
            )
        self._address = address
        self._s3: Any = session.client(
            "s3",
            endpoint_url=address.endpoint_url,
            region_name=address.region,
            verify=address.tls_ca_file_path or None,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path" if address.endpoint_override else "auto"},
                # The link is signed without a body: its checksum would be that of an empty one.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        self._blobs = Blobs(Bucket(address))
        self._clearing = threading.Lock()
        self._whole: set[str] = set()
        """States that were read and match their digests. Reading a large state takes longer than a
        client waits; the client's next request is answered at once."""
        self.data_of = lru_cache(MANIFESTS)(self._data_of)
        """Digests of the objects that a manifest names. Raises `Missing` if it is not stored."""

    def reading(self, kind: str, digest: str) -> Grant:
        """A link that reads one object."""
        return Grant(url=self._sign("get_object", kind, digest), headers={})

    def storing_state(self, digest: str) -> Grant:
        """A link that stores a state; an empty one if the state is stored already.

        Raises `Unreachable` if the bucket does not answer.
        """
        if self._is_there(digest) and self._is_whole(digest):
            return Grant(url="", headers={})
        url = self._sign("put_object", "states", digest, IfNoneMatch="*")
        return Grant(url=url, headers={"If-None-Match": "*"})

    def _sign(self, operation: str, kind: str, digest: str, **more: str) -> str:
        return self._s3.generate_presigned_url(
            operation, Params={**self._place(kind, digest), **more}, ExpiresIn=LINK_LIFE_S
        )

    def _data_of(self, manifest: str) -> frozenset[str]:
        found = self._blobs.get_manifest(manifest)
        shards = (shard.digest for split in found.splits.values() for shard in split)
        return frozenset([*shards, *found.files.values()])

    def _is_there(self, digest: str) -> bool:
        try:
            self._s3.head_object(**self._place("states", digest))
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return False
            raise self._failure("look at", digest, error) from None
        except BotoCoreError as error:
            raise self._failure("look at", digest, error) from None
        return True

    def _is_whole(self, digest: str) -> bool:
        """Whether a stored state has the digest that it is stored under. Removes it if not: the
        digest's owner could not store the right one over it."""
        # One at a time: another request must not store the right state before the removal.
        with self._clearing:
            if digest in self._whole:
                return True
            try:
                self._blobs.get_state(digest)
            except Missing:
                try:
                    self._s3.delete_object(**self._place("states", digest))
                except (BotoCoreError, ClientError) as error:
                    raise self._failure("remove", digest, error) from None
                return False
            if len(self._whole) >= REMEMBERED:
                self._whole.clear()
            self._whole.add(digest)
        return True

    def _failure(self, what: str, digest: str, error: Exception) -> OperationError:
        return OperationError(
            f"cannot {what} {self._address}/states/{digest} ({type(error).__name__}): check that "
            "the store runs, and the rights of the presigner's credentials"
        )

    def _place(self, kind: str, digest: str) -> dict[str, str]:
        return {
            "Bucket": self._address.bucket,
            "Key": f"{self._address.prefix}{kind}/{digest}",
        }


class Presigner:
    """Decides which party gets which link. `rights` asks the authority; see
    `readings.object_rights`."""

    def __init__(
        self, *, genesis: str, rights: Callable[..., Any], links: Links, clock: Clock
    ) -> None:
        self._genesis, self._rights, self._links, self._clock = genesis, rights, links, clock
        self._bound: dict[str, str] = {}
        """Open slot -> digest of the state that it may store."""
        self._lock = threading.Lock()

    def grant(self, envelope: Envelope) -> Grant:
        """The link that a signed request asks for. Raises `Refused` with the reason, and
        `OperationError` if the authority or the bucket does not answer."""
        request, party = self._read(envelope)
        rights = self._rights(
            "object_rights",
            job=request.job,
            trial=request.trial,
            party=party,
            kind=request.kind,
            digest=request.digest,
        )
        if request.method == "get":
            if not rights["reads"] or not self._is_named(request, rights["manifest"]):
                detail = f"{request.kind}/{request.digest[:16]} is not part of your task"
                raise Refused(Reason.NOT_YOUR_SLOT, detail)
            return self._links.reading(request.kind, request.digest)
        if request.kind != "states":
            raise Refused(Reason.ROLE_NOT_ALLOWED, "operators store states, nothing else")
        self._bind(rights["open_slots"], request.digest)
        return self._links.storing_state(request.digest)

    def _is_named(self, request: ObjectRequest, manifest: str) -> bool:
        """Whether the job's manifest names a data object. The authority decides on other kinds."""
        if request.kind != "data":
            return True
        try:
            return request.digest in self._links.data_of(manifest)
        except Missing:
            return False

    def _read(self, envelope: Envelope) -> tuple[ObjectRequest, str]:
        """A request whose signature and time are valid, and the id of the party that signed it.
        Raises `Refused`."""
        try:
            body = signing.unseal(envelope, TAG)
            key = bytes.fromhex(body.pop("key"))
            request = records.from_json(ObjectRequest, body)
        except ValueError as error:
            raise Refused(Reason.MALFORMED, str(error)) from None
        if request.kind not in KINDS or not _is_digest(request.digest):
            raise Refused(Reason.MALFORMED, f"an object is one of {', '.join(KINDS)} by its digest")
        if request.genesis != self._genesis:
            raise Refused(Reason.WRONG_NETWORK)
        now = self._clock()
        if not now < request.expires_ms <= now + 2 * REQUEST_LIFE_MS:
            raise Refused(Reason.EXPIRED, "sign again; check this machine's clock")
        return request, party_id(key)

    def _bind(self, open_slots: list[str], digest: str) -> None:
        """Bind the digest to an open slot: the slot that it is bound to already, or the first slot
        without a digest. Segments are stored in order. Raises `Refused`."""
        with self._lock:
            if any(self._bound.get(slot) == digest for slot in open_slots):
                return
            free = [slot for slot in open_slots if slot not in self._bound]
            if not free:
                raise Refused(Reason.SLOT_NOT_OPEN, "none of your open slots lacks a state")
            task = free[0].rsplit("/", 2)[0]
            gone = [one for one in self._bound if one.rsplit("/", 2)[0] == task]
            for slot in set(gone) - set(open_slots):
                del self._bound[slot]
            self._bound[free[0]] = digest


def _is_digest(text: str) -> bool:
    return len(text) == DIGEST_LENGTH and set(text) <= set("0123456789abcdef")


def make_app(grant: Callable[[Envelope], Grant], *, call_limit: int = CALL_LIMIT) -> Starlette:
    """The presigner's HTTP interface; see `object_store.grants`. `grant` may block. `call_limit`:
    requests at a time."""
    calls = BlockingCalls(call_limit)

    async def take(request: Request) -> Response:
        try:
            envelope = Envelope.from_json(await read_json(request, limit_bytes=BODY_LIMIT))
        except ValueError as error:
            raise RequestRefused(HttpRefusal.MALFORMED, str(error)) from None
        return answer_json(200, records.to_json(await calls.run(grant, envelope)))

    app = Starlette(routes=[Route("/v1/objects", take, methods=["POST"])])
    answer_errors(app)
    return app


def serve(config: PresignerConfig) -> None:
    """Run until terminated. Raises `UsageError` for a store that is no bucket."""
    address = parse(config.blobs)
    if not isinstance(address, BucketAddress):
        raise UsageError(f"a store in a folder ({address}) needs no presigner")
    listen_address = parse_listen_address(
        config.listen,
        certificate=config.certificate or None,
        key=config.certificate_key or None,
    )
    presigner = Presigner(
        genesis=config.genesis,
        rights=LedgerClient(config.ledger).read,
        links=Links(address),
        clock=now_ms,
    )
    with listen(listen_address) as listener:
        http_server.serve(make_app(presigner.grant), listener)


def main(path: Path) -> None:
    """Serve with a configuration file. Raises `GensynError`."""
    try:
        config = records.from_json(PresignerConfig, canonical.decode(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not a presigner's configuration: {error}") from None
    serve(config)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except GensynError as error:
        print(f"gensyn-ray presigner: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
