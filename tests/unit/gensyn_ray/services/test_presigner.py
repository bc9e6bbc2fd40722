"""The presigner gives links for signed, timely requests within the rights of the signer."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from gensyn_ray.domain import signing
from gensyn_ray.domain.clock import ManualClock
from gensyn_ray.domain.errors import Refused, Unreachable, UsageError
from gensyn_ray.domain.signing import Envelope, SigningKey
from gensyn_ray.object_store.grants import REQUEST_LIFE_MS, Grant, ObjectRequest, sign
from gensyn_ray.object_store.objects import Missing
from gensyn_ray.services.presigner import (
    BODY_LIMIT,
    Links,
    Presigner,
    PresignerConfig,
    make_app,
    serve,
)
from ledger.core.refusals import Reason
from tests.kits.fake_ledger import reading_of
from tests.kits.places import address_of

OPERATOR = SigningKey(b"o" * 32)
GENESIS, NOW_MS = "9e" * 32, 1_000_000
FIRST, SECOND, THIRD = "a1" * 32, "b2" * 32, "c3" * 32
SLOTS = ["job/t000/3/0", "job/t000/4/0"]
READ = ObjectRequest(
    genesis=GENESIS,
    job="job",
    trial="trial",
    method="get",
    kind="states",
    digest=FIRST,
    expires_ms=NOW_MS + REQUEST_LIFE_MS,
)
STORE = replace(READ, method="put")


class FakeLinks:
    """Fake links that state their object and method."""

    def reading(self, kind: str, digest: str) -> Grant:
        return Grant(url=f"read {kind}/{digest}", headers={})

    def data_of(self, manifest: str) -> frozenset[str]:
        if manifest != SECOND:
            raise Missing("no manifest")
        return frozenset({THIRD})

    def storing_state(self, digest: str) -> Grant:
        return Grant(url=f"store {digest}", headers={"If-None-Match": "*"})


class FakeAuthority:
    """A fake authority with the rights that a test sets."""

    def __init__(self) -> None:
        self.reads, self.manifest = True, SECOND
        self.open_slots: list[str] = []
        self.asked: list[dict[str, str]] = []

    def __call__(self, view: str, **parameters: str) -> Any:
        assert view == "object_rights"
        self.asked.append(parameters)
        return reading_of(
            view, reads=self.reads, manifest=self.manifest, open_slots=self.open_slots
        )


@pytest.fixture
def authority() -> FakeAuthority:
    return FakeAuthority()


@pytest.fixture
def presigner(authority: FakeAuthority) -> Presigner:
    return Presigner(
        genesis=GENESIS,
        rights=authority,
        links=FakeLinks(),  # pyright: ignore[reportArgumentType]
        clock=ManualClock(now_ms=NOW_MS),
    )


def ask(presigner: Presigner, request: ObjectRequest) -> str:
    return presigner.grant(sign(OPERATOR, request)).url


def refusal_of(presigner: Presigner, envelope: Envelope) -> str:
    with pytest.raises(Refused) as refused:
        presigner.grant(envelope)
    return refused.value.reason


def test_the_authority_is_asked_about_the_signer(
    presigner: Presigner, authority: FakeAuthority
) -> None:
    assert ask(presigner, READ) == f"read states/{FIRST}"
    assert authority.asked == [
        {
            "job": "job",
            "trial": "trial",
            "party": OPERATOR.party,
            "kind": "states",
            "digest": FIRST,
        }
    ]
    authority.reads = False
    assert refusal_of(presigner, sign(OPERATOR, READ)) == Reason.NOT_YOUR_SLOT


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"genesis": "00" * 32}, Reason.WRONG_NETWORK),
        ({"expires_ms": NOW_MS}, Reason.EXPIRED),
        ({"expires_ms": NOW_MS + 10 * REQUEST_LIFE_MS}, Reason.EXPIRED),
        ({"kind": "files"}, Reason.MALFORMED),
        ({"digest": "../" + "a" * 61}, Reason.MALFORMED),
        ({"digest": FIRST.upper()}, Reason.MALFORMED),
        ({"digest": ""}, Reason.MALFORMED),
        ({"method": "delete"}, Reason.MALFORMED),
        ({"method": "put", "kind": "bundles"}, Reason.ROLE_NOT_ALLOWED),
    ],
)
def test_what_is_refused_whatever_the_authority_says(
    presigner: Presigner, authority: FakeAuthority, changes: dict[str, Any], reason: Reason
) -> None:
    authority.open_slots = SLOTS
    assert refusal_of(presigner, sign(OPERATOR, replace(READ, **changes))) == reason


def test_a_signature_must_hold_and_be_made_for_this(presigner: Presigner) -> None:
    good = sign(OPERATOR, READ)
    body = json.loads(good.body)
    del body["key"]
    forged = [
        replace(good, body=good.body.replace(FIRST.encode(), SECOND.encode())),
        replace(good, signature=bytes(64)),
        signing.seal(OPERATOR, signing.COMMAND, body),
        signing.seal(OPERATOR, signing.RECEIPT, body),
        replace(good, body=b"{}"),
    ]
    for envelope in forged:
        assert refusal_of(presigner, envelope) == Reason.MALFORMED


def test_data_is_what_the_jobs_manifest_names(
    presigner: Presigner, authority: FakeAuthority
) -> None:
    data = replace(READ, kind="data", digest=THIRD)
    assert ask(presigner, data) == f"read data/{THIRD}"
    other = sign(OPERATOR, replace(data, digest=FIRST))
    assert refusal_of(presigner, other) == Reason.NOT_YOUR_SLOT
    authority.manifest = FIRST
    assert refusal_of(presigner, sign(OPERATOR, data)) == Reason.NOT_YOUR_SLOT


def test_a_state_is_stored_for_an_open_slot_alone(
    presigner: Presigner, authority: FakeAuthority
) -> None:
    assert refusal_of(presigner, sign(OPERATOR, STORE)) == Reason.SLOT_NOT_OPEN
    authority.open_slots, authority.reads = SLOTS, False
    assert ask(presigner, STORE) == f"store {FIRST}"


def test_each_slot_stands_for_one_digest(presigner: Presigner, authority: FakeAuthority) -> None:
    authority.open_slots = SLOTS
    store = [replace(STORE, digest=digest) for digest in (FIRST, SECOND, THIRD)]
    for request in (store[0], store[0], store[1], store[0]):
        assert ask(presigner, request) == f"store {request.digest}"
    assert refusal_of(presigner, sign(OPERATOR, store[2])) == Reason.SLOT_NOT_OPEN
    authority.open_slots = [SLOTS[1], "job/t000/5/0"]
    assert ask(presigner, store[2]) == f"store {THIRD}"
    assert refusal_of(presigner, sign(OPERATOR, store[0])) == Reason.SLOT_NOT_OPEN


@pytest.fixture
def http(presigner: Presigner) -> TestClient:
    return TestClient(make_app(presigner.grant))


class TestOverHttp:
    def test_a_link_is_returned_as_json(self, http: TestClient) -> None:
        answer = http.post("/v1/objects", json=sign(OPERATOR, READ).to_json())
        assert (answer.status_code, answer.json()) == (
            200,
            {"url": f"read states/{FIRST}", "headers": {}},
        )

    def test_a_refusal_has_its_reason(self, http: TestClient, authority: FakeAuthority) -> None:
        authority.reads = False
        answer = http.post("/v1/objects", json=sign(OPERATOR, READ).to_json())
        assert (answer.status_code, answer.json()["refused"]) == (409, "not your slot")

    @pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 4_000, b'{"body": 1}'])
    def test_an_invalid_envelope_is_refused(self, http: TestClient, body: bytes) -> None:
        assert http.post("/v1/objects", content=body).status_code == 400

    def test_a_large_body_is_refused(self, http: TestClient) -> None:
        assert http.post("/v1/objects", content=b" " * (BODY_LIMIT + 1)).status_code == 413

    def test_an_unreachable_authority_is_reported(self) -> None:
        def unreachable(envelope: Envelope) -> Grant:
            raise Unreachable("no ledger answers")

        answer = TestClient(make_app(unreachable)).post(
            "/v1/objects", json=sign(OPERATOR, READ).to_json()
        )
        assert (answer.status_code, answer.json()) == (503, {"detail": "no ledger answers"})

    def test_requests_beyond_the_limit_are_refused_at_once(self) -> None:
        begun, go_on = threading.Event(), threading.Event()

        def wait_for_the_bucket(envelope: Envelope) -> Grant:
            begun.set()
            assert go_on.wait(20)
            return Grant(url="u", headers={})

        body = sign(OPERATOR, READ).to_json()
        with (
            TestClient(make_app(wait_for_the_bucket, call_limit=1)) as http,
            ThreadPoolExecutor() as pool,
        ):
            first = pool.submit(http.post, "/v1/objects", json=body)
            assert begun.wait(20)
            second = http.post("/v1/objects", json=body)
            go_on.set()
            assert first.result().status_code == 200
            assert http.post("/v1/objects", json=body).status_code == 200
        assert (second.status_code, second.json()["refused"]) == (503, "overloaded")
        assert second.headers["retry-after"] == "1"


def _config(**changes: str) -> PresignerConfig:
    fields = {"blobs": "s3://b/p", "ledger": "unix:l", "genesis": GENESIS, "listen": "unix:p"}
    return PresignerConfig(**{**fields, **changes})


def test_a_folder_needs_no_presigner() -> None:
    with pytest.raises(UsageError, match="needs no presigner"):
        serve(_config(blobs="file:///store"))


def test_without_credentials_it_does_not_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    nothing = str(tmp_path_factory.mktemp("home") / "nothing")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, nothing)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(UsageError, match="AWS_ACCESS_KEY_ID"):
        Links(address_of("s3://b/p"))
