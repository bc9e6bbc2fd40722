"""HTTP in front of a ledger: signed commands in, receipts and readings out.

    POST /v1/commands        {"body", "signature"} -> {"receipt": {...}} or {"refused", "detail"}
    GET  /v1/read/{view}     a reading; parameters are the query's
    GET  /health             {"status": "ok", ...}, also while the queue is full
    GET  /metrics            counters for Prometheus
    GET  /openapi.json       this list for machines

The service knows no rule and holds no key. It calls `submit` and `read`, which its process passes
in, on the event loop's own thread, one call at a time.

Everything is bounded: the body of a command, the time in which it arrives, the queue of commands,
the answer to a reading. A request beyond a bound is refused and not carried out: 413 too large, 408
too slow, 503 overloaded, 422 for a reading that is too long. `gensyn_ray.runtime` has the bounds
that all daemons share.

Not defended here: the rate of one client's requests. Rates per client belong to a proxy in front.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from gensyn_ray.domain.signing import Envelope
from gensyn_ray.runtime.http_answers import (
    HttpRefusal,
    RequestRefused,
    answer_errors,
    answer_json,
    refuse,
)
from gensyn_ray.runtime.http_body import read_json
from ledger.service.command_queue import CommandQueue, SubmitBatch
from ledger.service.metrics import LedgerMetrics
from ledger.service.openapi import (
    ANY_QUERY,
    OVERLOADED,
    Accepted,
    EnvelopeText,
    Health,
    Refusal,
    json_content,
)

Read = Callable[[str, Mapping[str, str]], Any]

BODY_LIMIT = 256 * 1024
READING_LIMIT = 16 * 1024 * 1024


class UnknownView(LookupError):
    """The view, or the thing that it should show, does not exist. Answered with 404."""


class BadParameters(ValueError):
    """A reading's parameters are invalid. Answered with 422."""


class Service:
    """The routes' handlers."""

    def __init__(self, submit: SubmitBatch, read: Read) -> None:
        self._metrics = LedgerMetrics(
            queued=lambda: len(self.queue), entries=lambda: read("health", {})["entries"]
        )
        self._read = read
        self.queue = CommandQueue(self._metrics.around(submit))

    async def take_command(self, request: Request) -> Response:
        """Carry out a signed command, durably. Sending the same bytes again changes nothing."""
        try:
            envelope = Envelope.from_json(await read_json(request, limit_bytes=BODY_LIMIT))
            answer = await self.queue.put(envelope)
        except RequestRefused as refused:
            return self._refuse(refused)
        except asyncio.QueueFull:
            detail = "the queue is full; send the same command again later"
            return self._refuse(RequestRefused(HttpRefusal.OVERLOADED, detail))
        except ValueError as error:
            return self._refuse(RequestRefused(HttpRefusal.MALFORMED, str(error)))
        return answer_json(409 if "refused" in answer else 200, answer)

    async def give_reading(self, view: str, request: Request) -> Response:
        """A view of the ledger's state; the query has its parameters."""
        try:
            response = answer_json(200, self._read(view, dict(request.query_params)))
        except UnknownView as error:
            return refuse(404, "unknown view", str(error))
        except BadParameters as error:
            return refuse(422, "bad parameters", str(error))
        if len(response.body) > READING_LIMIT:
            detail = f"the answer has more than {READING_LIMIT} bytes; ask for a part of it"
            return refuse(422, HttpRefusal.TOO_LARGE, detail)
        return response

    async def say_health(self) -> Response:
        """The ledger's health and the length of its journal."""
        return answer_json(200, {"status": "ok", **self._read("health", {})})

    async def show_metrics(self) -> Response:
        """Counters in Prometheus's text format."""
        return Response(self._metrics.as_text(), media_type=CONTENT_TYPE_LATEST)

    def _refuse(self, refused: RequestRefused) -> Response:
        self._metrics.count_refusal(refused.reason)
        return refused.answer()


def make_app(
    submit: SubmitBatch,
    read: Read,
    tick: Callable[[], None],
    *,
    tick_ms: int,
    on_failure: Callable[[BaseException], None],
) -> FastAPI:
    """The web application. `tick` runs every `tick_ms` on the same thread as `submit`.

    `read("health", {})` is a mapping with the journal's length under `"entries"`. An exception from
    `submit` or `tick` is a failed sync or a bug: `on_failure` gets it and must end the process.
    On shutdown the application first answers the waiting commands, and then calls nothing more.
    """
    service = Service(submit, read)

    def lifespan(_: FastAPI) -> AbstractAsyncContextManager[None]:
        return _running(service.queue, tick, tick_ms=tick_ms, on_failure=on_failure)

    app = FastAPI(
        title="gensyn_ray ledger", lifespan=lifespan, docs_url=None, redoc_url=None, version="1"
    )
    answer_errors(app)
    app.add_api_route(
        "/v1/commands",
        service.take_command,
        methods=["POST"],
        openapi_extra={"requestBody": json_content(EnvelopeText)},
        responses={
            200: {"model": Accepted, "description": "Carried out and durable"},
            400: {"model": Refusal, "description": "Not an envelope"},
            408: {"model": Refusal, "description": "The body took too long"},
            409: {"model": Refusal, "description": "Refused, and why; nothing changed"},
            413: {"model": Refusal, "description": "The body is too large"},
            503: OVERLOADED,
        },
    )
    app.add_api_route(
        "/v1/read/{view}",
        service.give_reading,
        methods=["GET"],
        openapi_extra={"parameters": [ANY_QUERY]},
        responses={
            200: {"description": "The reading", "content": {"application/json": {"schema": {}}}},
            404: {"model": Refusal, "description": "The view or the thing does not exist"},
            422: {"model": Refusal, "description": "Invalid parameters, or too long an answer"},
            503: OVERLOADED,
        },
    )
    app.add_api_route(
        "/health", service.say_health, responses={200: {"model": Health}, 503: OVERLOADED}
    )
    app.add_api_route(
        "/metrics",
        service.show_metrics,
        response_class=Response,
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
            503: OVERLOADED,
        },
    )
    return app


@asynccontextmanager
async def _running(
    queue: CommandQueue,
    tick: Callable[[], None],
    *,
    tick_ms: int,
    on_failure: Callable[[BaseException], None],
) -> AsyncIterator[None]:
    """Run queue and ticks inside the context; on exit, answer the waiting commands."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            on_failure(error)

    async def keep_ticking() -> None:
        while True:
            await asyncio.sleep(tick_ms / 1000)
            tick()

    tasks = [asyncio.create_task(queue.run()), asyncio.create_task(keep_ticking())]
    for task in tasks:
        task.add_done_callback(ended)
    yield
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    if all(task.cancelled() for task in tasks):
        try:
            queue.drain()
        except Exception as error:
            on_failure(error)
