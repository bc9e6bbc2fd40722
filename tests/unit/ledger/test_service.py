"""The HTTP service around fakes of `submit` and `read`: status codes, bounds, batches, ends.

Simple requests use Starlette's client. Tests of concurrency call the application on one event loop.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from gensyn_ray.domain.signing import Envelope
from gensyn_ray.runtime import http_body
from ledger.service import command_queue
from ledger.service.app import BODY_LIMIT, make_app
from ledger.service.command_queue import BATCH_LIMIT, CommandQueue
from tests.kits.service_kit import ScriptedBackend, envelope

PATIENCE_S = 30.0


@pytest.fixture
def fake() -> ScriptedBackend:
    return ScriptedBackend()


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """The application on this event loop, and a client of it."""
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://ledger") as client,
    ):
        yield client


def soon(work: Callable[[], Awaitable[None]]) -> None:
    """Run a coroutine to its end, with a time limit."""

    async def bounded() -> None:
        await asyncio.wait_for(work(), PATIENCE_S)

    asyncio.run(bounded())


async def post(client: httpx.AsyncClient, one: Envelope) -> httpx.Response:
    return await client.post("/v1/commands", json=one.to_json())


# -- status codes ----------------------------------------------------------------------------


def test_an_accepted_command_is_answered_with_its_receipt(fake: ScriptedBackend) -> None:
    with TestClient(fake.app()) as client:
        response = client.post("/v1/commands", json=envelope().to_json())
    assert response.status_code == 200
    assert response.json() == {"receipt": envelope().body_hash}
    assert fake.batches == [[envelope()]]


def test_a_refused_command_is_answered_with_its_reason(fake: ScriptedBackend) -> None:
    with TestClient(fake.app()) as client:
        response = client.post("/v1/commands", json=envelope(say="no").to_json())
    assert response.status_code == 409
    assert response.json() == {"refused": "insufficient funds", "detail": "available 0"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b'{"body": "{}"}',
        b'{"body": "{}", "signature": "not base64"}',
        b'{"body": "{}", "signature": "AB=="}',
        b'{"body": 5, "signature": "AA=="}',
        b'{"body": "\\ud800", "signature": "AA=="}',
        b'{"body": "{}", "signature": "AA==", "more": 1}',
    ],
)
def test_a_malformed_body_never_reaches_the_ledger(fake: ScriptedBackend, content: bytes) -> None:
    with TestClient(fake.app()) as client:
        response = client.post("/v1/commands", content=content)
    assert response.status_code == 400
    assert response.json()["refused"] == "malformed"
    assert response.json()["detail"]
    assert fake.batches == []


def test_a_reading_gets_the_querys_parameters(fake: ScriptedBackend) -> None:
    with TestClient(fake.app()) as client:
        response = client.get("/v1/read/echo", params={"job": "job-1", "from": "5"})
    assert response.status_code == 200
    assert response.json() == {"job": "job-1", "from": "5"}


def test_an_unknown_view_is_refused(fake: ScriptedBackend) -> None:
    with TestClient(fake.app()) as client:
        response = client.get("/v1/read/nothing")
    assert response.status_code == 404
    assert response.json() == {"refused": "unknown view", "detail": "there is no view 'nothing'"}


def test_unknown_paths_and_methods_are_refused(fake: ScriptedBackend) -> None:
    with TestClient(fake.app()) as client:
        assert client.get("/v1/commands").status_code == 405
        assert client.get("/v1/other").status_code == 404
        assert client.post("/v1/read/echo").status_code == 405
        assert client.get("/docs").status_code == 404
        assert client.get("/v1/other").json()["refused"] == "unknown request"
        assert client.get("/v1/commands").json()["refused"] == "wrong method"


def test_bad_parameters_are_refused(fake: ScriptedBackend) -> None:
    with TestClient(fake.app()) as client:
        response = client.get("/v1/read/count", params={"to": "many"})
    assert response.status_code == 422
    assert response.json() == {"refused": "bad parameters", "detail": "`to` is a number"}


def test_an_answer_may_quote_text_that_has_no_utf8(fake: ScriptedBackend) -> None:
    fake.answer = lambda one: {"refused": "unknown operation", "detail": "\ud800"}
    with TestClient(fake.app()) as client:
        response = client.post("/v1/commands", json=envelope().to_json())
    assert response.status_code == 409
    assert response.json()["detail"] == "\ud800"


# -- bounds ----------------------------------------------------------------------------------


def test_a_body_that_says_it_is_too_large_is_not_read(fake: ScriptedBackend) -> None:
    parts = Parts(count=1, size=1)

    async def work() -> None:
        async with running(fake.app()) as client:
            headers = {"content-length": str(BODY_LIMIT + 1)}
            response = await client.post("/v1/commands", content=parts, headers=headers)
        assert_too_large(response)
        assert parts.read == 0
        assert fake.batches == []

    soon(work)


def test_a_body_without_a_length_is_read_up_to_the_limit(
    fake: ScriptedBackend,
) -> None:
    parts = Parts(count=1_000, size=BODY_LIMIT // 4)

    async def work() -> None:
        async with running(fake.app()) as client:
            response = await client.post("/v1/commands", content=parts)
        assert_too_large(response)
        assert parts.read <= 5
        assert fake.batches == []

    soon(work)


@pytest.mark.parametrize("declared", ["-1", "9" * 5_000, "²", "", "1e9"])
def test_a_malformed_content_length_is_refused(fake: ScriptedBackend, declared: str) -> None:
    async def work() -> None:
        async with running(fake.app()) as client:
            headers = [(b"content-length", declared.encode("latin-1"))]
            request = client.build_request("POST", "/v1/commands", content=b"{}", headers=headers)
            assert (await client.send(request)).status_code in (400, 413)

    soon(work)


def test_the_largest_body_is_taken(fake: ScriptedBackend) -> None:
    spare = BODY_LIMIT - len(json.dumps(envelope(filler="").to_json()))
    content = json.dumps(envelope(filler="x" * spare).to_json())
    assert len(content) == BODY_LIMIT
    with TestClient(fake.app()) as client:
        assert client.post("/v1/commands", content=content).status_code == 200
        assert_too_large(client.post("/v1/commands", content=content + " "))


def test_a_body_that_does_not_arrive_is_given_up(
    fake: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_body, "BODY_S", 0.02)

    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(PATIENCE_S)

    async def work() -> None:
        async with running(fake.app()) as client:
            response = await client.post("/v1/commands", content=never())
        assert response.status_code == 408
        assert response.json()["refused"] == "too slow"
        assert response.headers["connection"] == "close"

    soon(work)


def test_a_reading_that_is_too_long_is_not_given(
    fake: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.service.app.READING_LIMIT", 11)
    with TestClient(fake.app()) as client:
        assert client.get("/v1/read/count", params={"to": 5}).json() == [0, 1, 2, 3, 4]
        response = client.get("/v1/read/count", params={"to": 6})
    assert response.status_code == 422
    assert response.json()["refused"] == "too large"


class Parts:
    """A body of unknown length that counts its read parts."""

    def __init__(self, *, count: int, size: int) -> None:
        self._count = count
        self._size = size
        self.read = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(self._count):
            self.read += 1
            yield b" " * self._size


def assert_too_large(response: Any) -> None:
    assert response.status_code == 413
    assert response.json()["refused"] == "too large"
    assert response.headers["connection"] == "close"


# -- health, metrics, documentation ------------------------------------------------------------


def test_health_says_how_long_the_journal_is(fake: ScriptedBackend) -> None:
    with TestClient(fake.app()) as client:
        client.post("/v1/commands", json=envelope().to_json())
        response = client.get("/health")
    assert response.status_code == 200
    assert response.json() == {"status": "ok", "entries": 1, "root": "00"}


def test_health_is_answered_while_the_queue_is_full(
    fake: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_queue, "QUEUE_LIMIT", 200)
    monkeypatch.setattr(command_queue, "BATCH_LIMIT", 1)
    fake.batch_s = 0.001

    async def work() -> None:
        async with running(fake.app()) as client:
            posts = [asyncio.create_task(post(client, envelope(n))) for n in range(250)]
            while len(fake.batches) < 2:
                await asyncio.sleep(0)
            response = await client.get("/health")
            assert response.status_code == 200
            assert len(fake.batches) < 100
            assert sorted({(await one).status_code for one in posts}) == [200, 503]

    soon(work)


def test_metrics_count_what_was_answered(fake: ScriptedBackend) -> None:
    with TestClient(fake.app()) as client:
        client.post("/v1/commands", json=envelope(1).to_json())
        client.post("/v1/commands", json=envelope(2).to_json())
        client.post("/v1/commands", json=envelope(say="no").to_json())
        client.post("/v1/commands", content=b"{")
        client.post("/v1/commands", content=b" " * (BODY_LIMIT + 1))
        found = metrics(client)
    assert found['commands_total{answer="accepted",reason=""}'] == 2
    assert found['commands_total{answer="refused",reason="insufficient funds"}'] == 1
    assert found['commands_total{answer="refused",reason="malformed"}'] == 1
    assert found['commands_total{answer="refused",reason="too large"}'] == 1
    assert found["batch_commands_count{}"] == 3
    assert found["batch_commands_sum{}"] == 3
    assert found["batch_duration_seconds_count{}"] == 3
    assert found["queued_commands{}"] == 0
    assert found["entries{}"] == 3


def test_two_applications_count_apart(fake: ScriptedBackend) -> None:
    other = ScriptedBackend()
    with TestClient(fake.app()) as client, TestClient(other.app()) as elsewhere:
        client.post("/v1/commands", json=envelope().to_json())
        assert metrics(client)["entries{}"] == 1
        assert metrics(elsewhere)["entries{}"] == 0
        assert 'commands_total{answer="accepted",reason=""}' not in metrics(elsewhere)


def test_every_route_says_what_it_may_answer(fake: ScriptedBackend) -> None:
    with TestClient(fake.app()) as client:
        document = client.get("/openapi.json").json()
    told = {
        f"{method} {path}": set(operation["responses"])
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert told == {
        "post /v1/commands": {"200", "400", "408", "409", "413", "503"},
        "get /v1/read/{view}": {"200", "404", "422", "503"},
        "get /health": {"200", "503"},
        "get /metrics": {"200", "503"},
    }
    for methods in document["paths"].values():
        for operation in methods.values():
            for response in operation["responses"].values():
                assert all("schema" in content for content in response["content"].values())
    assert "requestBody" in document["paths"]["/v1/commands"]["post"]


def metrics(client: TestClient) -> dict[str, float]:
    """Name without the common prefix -> value, from `/metrics`."""
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            assert sample.name.startswith("gensyn_ledger_")
            found[f"{sample.name.removeprefix('gensyn_ledger_')}{{{labels}}}"] = sample.value
    return found


# -- batches and overload --------------------------------------------------------------------


def test_waiting_commands_go_into_one_batch_and_each_gets_its_own_answer(
    fake: ScriptedBackend,
) -> None:
    async def work() -> None:
        async with running(fake.app()) as client:
            sent = [envelope(number) for number in range(10)]
            responses = await asyncio.gather(*(post(client, one) for one in sent))
        assert [one.json()["receipt"] for one in responses] == [one.body_hash for one in sent]
        assert sum(len(batch) for batch in fake.batches) == 10
        assert len(fake.batches) < 10

    soon(work)


def test_no_batch_is_larger_than_its_limit(fake: ScriptedBackend) -> None:
    async def work() -> None:
        queue = CommandQueue(fake.submit)
        sent = [envelope(number) for number in range(2 * BATCH_LIMIT + 5)]
        waiting = [asyncio.create_task(queue.put(one)) for one in sent]
        await asyncio.sleep(0)
        server = asyncio.create_task(queue.run())
        answers = await asyncio.gather(*waiting)
        server.cancel()
        assert [len(batch) for batch in fake.batches] == [BATCH_LIMIT, BATCH_LIMIT, 5]
        assert [one for batch in fake.batches for one in batch] == sent
        assert answers == [{"receipt": one.body_hash} for one in sent]

    soon(work)


def test_a_lone_command_does_not_wait_for_others(fake: ScriptedBackend) -> None:
    async def work() -> None:
        async with running(fake.app()) as client:
            for number in range(3):
                assert (await post(client, envelope(number))).status_code == 200
        assert [len(batch) for batch in fake.batches] == [1, 1, 1]

    soon(work)


def test_a_client_that_stops_waiting_does_not_delay_others(fake: ScriptedBackend) -> None:
    async def work() -> None:
        queue = CommandQueue(fake.submit)
        gone = asyncio.create_task(queue.put(envelope(0)))
        stays = asyncio.create_task(queue.put(envelope(1)))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        server = asyncio.create_task(queue.run())
        assert await stays == {"receipt": envelope(1).body_hash}
        server.cancel()
        assert fake.batches == [[envelope(0), envelope(1)]]

    soon(work)


def test_commands_beyond_the_queue_are_refused_as_overloaded(
    fake: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_queue, "QUEUE_LIMIT", 3)

    async def work() -> None:
        async with running(fake.app()) as client:
            sent = [envelope(number) for number in range(8)]
            responses = await asyncio.gather(*(post(client, one) for one in sent))
            overloaded = [one for one in responses if one.status_code == 503]
            accepted = [one for one in responses if one.status_code == 200]
            assert len(overloaded) + len(accepted) == 8
            assert overloaded
            assert accepted
            for one in overloaded:
                assert one.json()["refused"] == "overloaded"
                assert int(one.headers["retry-after"]) > 0
            taken = [one for batch in fake.batches for one in batch]
            assert len(taken) == len(accepted)
            again = next(one for one in sent if one not in taken)
            assert (await post(client, again)).status_code == 200

    soon(work)


def test_a_full_queue_refuses_at_once(
    fake: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_queue, "QUEUE_LIMIT", 2)

    async def work() -> None:
        queue = CommandQueue(fake.submit)
        waiting = [asyncio.create_task(queue.put(envelope(number))) for number in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(asyncio.QueueFull):
            await queue.put(envelope(2))
        for one in waiting:
            one.cancel()

    soon(work)


# -- ticks and ends --------------------------------------------------------------------------


def test_ticks_continue_without_commands(fake: ScriptedBackend) -> None:
    async def work() -> None:
        async with running(fake.app(tick_ms=1)):
            while fake.ticks < 3:
                await asyncio.sleep(0.001)
        after = fake.ticks
        await asyncio.sleep(0.02)
        assert fake.ticks == after
        assert fake.failures == []

    soon(work)


def test_a_submit_that_fails_ends_the_process_and_is_never_tried_again(
    fake: ScriptedBackend,
) -> None:
    fake.fails_with = OSError("the disk is gone")

    async def work() -> None:
        async with running(fake.app()) as client:
            unanswered = asyncio.create_task(post(client, envelope(0)))
            await fake.failed.wait()
            assert fake.failures == [fake.fails_with]
            later = asyncio.create_task(post(client, envelope(1)))
            await asyncio.sleep(0.01)
            unanswered.cancel()
            later.cancel()
        assert fake.batches == [[envelope(0)]]

    soon(work)


def test_a_submit_that_answers_too_little_ends_the_process(fake: ScriptedBackend) -> None:
    app = make_app(
        lambda envelopes: [], fake.read, fake.tick, tick_ms=3_600_000, on_failure=fake.fail
    )

    async def work() -> None:
        async with running(app) as client:
            unanswered = asyncio.create_task(post(client, envelope()))
            await fake.failed.wait()
            unanswered.cancel()
        assert [type(error) for error in fake.failures] == [ValueError]

    soon(work)


def test_a_tick_that_fails_ends_the_process(fake: ScriptedBackend) -> None:
    async def work() -> None:
        async with running(fake.app(tick=fake.tick_badly, tick_ms=1)):
            await fake.failed.wait()
        assert [str(error) for error in fake.failures] == ["the disk is gone"]

    soon(work)


def test_an_orderly_end_is_no_failure(fake: ScriptedBackend) -> None:
    with TestClient(fake.app(tick_ms=1)) as client:
        assert client.post("/v1/commands", json=envelope().to_json()).status_code == 200
    assert fake.failures == []


def test_what_was_taken_is_answered_before_the_end(fake: ScriptedBackend) -> None:
    async def work() -> None:
        async with running(fake.app()) as client:
            posts = [asyncio.create_task(post(client, envelope(n))) for n in range(2 * BATCH_LIMIT)]
            while not fake.batches:
                await asyncio.sleep(0)
            assert len(fake.taken) < len(posts)
        responses = await asyncio.gather(*posts)
        assert {one.status_code for one in responses} == {200}
        assert len(fake.taken) == len(posts)

    soon(work)


def test_a_queue_that_has_ended_takes_nothing(fake: ScriptedBackend) -> None:
    async def work() -> None:
        queue = CommandQueue(fake.submit)
        waiting = asyncio.create_task(queue.put(envelope(0)))
        await asyncio.sleep(0)
        queue.drain()
        assert await waiting == {"receipt": envelope(0).body_hash}
        with pytest.raises(asyncio.QueueFull):
            await queue.put(envelope(1))

    soon(work)


def test_a_failure_at_the_very_end_is_a_failure_too(fake: ScriptedBackend) -> None:
    async def work() -> None:
        async with running(fake.app()) as client:
            posts = [asyncio.create_task(post(client, envelope(n))) for n in range(2 * BATCH_LIMIT)]
            while not fake.batches:
                await asyncio.sleep(0)
            fake.fails_with = OSError("the disk is gone")
        assert fake.failures == [fake.fails_with]
        for one in posts:
            one.cancel()

    soon(work)
