"""A worker gets a link: agent, signature and presigner, over unreliable HTTP."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from gensyn_ray.domain import records, signing
from gensyn_ray.domain.errors import OperationError, Refused, Unreachable
from gensyn_ray.domain.signing import Envelope
from gensyn_ray.object_store.grants import REQUEST_LIFE_MS, TAG, GrantClient, ObjectRequest
from gensyn_ray.object_store.retry import RetryPolicy
from gensyn_ray.operators.agent import Agent
from gensyn_ray.operators.agent_requests import LinkRequest
from tests.kits.agent_kit import OPERATOR, make_agent
from tests.kits.fake_ledger import GENESIS, FakeLedger
from tests.kits.faulty_proxy import Fault, FaultyProxy

DIGEST, NOW_MS = "a1" * 32, 5_000
LINK = {"url": "http://store/x", "headers": {"If-None-Match": "*"}}


class FakePresigner(ThreadingHTTPServer):
    """A fake presigner. It gives planned answers and records requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[dict[str, Any]] = []
        self.answer: tuple[int, dict[str, Any]] = (200, LINK)


class _Handler(BaseHTTPRequestHandler):
    server: FakePresigner

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append(json.loads(body))
        status, answer = self.server.answer
        content = json.dumps(answer).encode()
        self.send_response_only(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def presigner() -> Iterator[FakePresigner]:
    server = FakePresigner()
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def proxy(presigner: FakePresigner) -> Iterator[FaultyProxy]:
    with FaultyProxy(presigner.server_address[1]) as running:
        yield running


@pytest.fixture
def agent(proxy: FaultyProxy) -> Agent:
    retry = RetryPolicy(attempts=3, timeout_s=1.0, sleep=lambda seconds: None)
    return make_agent(
        FakeLedger(),
        presigner=GrantClient(f"http://127.0.0.1:{proxy.port}", retry),
        clock=lambda: NOW_MS,
    )


def link(agent: Agent) -> dict[str, Any]:
    request = LinkRequest(job="job", trial="trial", method="put", kind="states", digest=DIGEST)
    return records.to_json(agent.link(request))


def test_the_request_is_the_operators(agent: Agent, presigner: FakePresigner) -> None:
    assert link(agent) == LINK
    (asked,) = presigner.asked
    body = signing.unseal(Envelope.from_json(asked), TAG, expected_key=OPERATOR.public)
    assert body.pop("key") == OPERATOR.public.hex()
    expected = ObjectRequest(
        genesis=GENESIS,
        job="job",
        trial="trial",
        method="put",
        kind="states",
        digest=DIGEST,
        expires_ms=NOW_MS + REQUEST_LIFE_MS,
    )
    assert ObjectRequest(**body) == expected


@pytest.mark.parametrize(
    "fault", [Fault.RESET, Fault.SLOW_DOWN, Fault.LOST_ANSWER, Fault.TRUNCATED]
)
def test_a_broken_connection_is_retried(agent: Agent, proxy: FaultyProxy, fault: Fault) -> None:
    proxy.plan("POST", fault, fault)
    assert link(agent) == LINK
    assert len(proxy.seen) == 3


def test_an_unreachable_presigner_is_an_error(agent: Agent, proxy: FaultyProxy) -> None:
    proxy.always("POST", Fault.RESET)
    with pytest.raises(Unreachable, match="presigner"):
        link(agent)


def test_an_unreachable_authority_is_asked_again(agent: Agent, presigner: FakePresigner) -> None:
    presigner.answer = (503, {"detail": "no ledger answers"})
    with pytest.raises(Unreachable, match="no ledger answers"):
        link(agent)
    assert len(presigner.asked) == 3


def test_a_refusal_is_final(agent: Agent, presigner: FakePresigner) -> None:
    presigner.answer = (409, {"refused": "slot is not open", "detail": "why"})
    with pytest.raises(Refused, match="slot is not open"):
        link(agent)
    assert len(presigner.asked) == 1


def test_an_agent_without_a_presigner_names_the_missing_setting() -> None:
    with pytest.raises(OperationError, match="set `store`"):
        link(make_agent(FakeLedger()))
