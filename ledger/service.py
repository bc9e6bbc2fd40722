"""HTTP in front of a ledger: signed commands in, receipts and readings out.

    POST /v1/commands        {"body", "signature"} -> {"receipt": {...}} or {"refused", "detail"}
    GET  /v1/read/{view}     a reading; parameters are the query's
    GET  /health             {"status": "ok", ...}, also while the queue is full
    GET  /metrics            counters for Prometheus
    GET  /openapi.json       all of this for machines

The service knows no rule and holds no key: it hands envelopes to `submit` and readings to `read`,
both given by the process that runs it, both called on the event loop's own thread, one at a time.

Everything is bounded: the body of a command, the time in which it arrives, the queue of commands,
the answer to a reading. A request beyond a bound is refused and not carried out: 413 too large, 408
too slow, 503 overloaded, 422 for a reading that is too long. `gensyn_ray.runtime` has the bounds
that all daemons share.

Not defended here: the rate of one client's requests. Rates per client belong to a proxy in front.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal

from fastapi import FastAPI, Request, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from pydantic import BaseModel, ConfigDict

from gensyn_ray.domain.signing import Envelope
from gensyn_ray.runtime.http_answers import (
    HttpRefusal,
    RequestRefused,
    answer_errors,
    answer_json,
    refuse,
)
from gensyn_ray.runtime.http_body import read_json

Answer = dict[str, Any]
SubmitBatch = Callable[[Sequence[Envelope]], list[Answer]]
Read = Callable[[str, Mapping[str, str]], Any]

BATCH_LIMIT = 64
QUEUE_LIMIT = 512
BODY_LIMIT = 256 * 1024
READING_LIMIT = 16 * 1024 * 1024


class UnknownView(LookupError):
    """No reading has that name, or what it should show does not exist. Answered with 404."""


class BadParameters(ValueError):
    """A reading's parameters make no sense. Answered with 422."""


class CommandQueue:
    """Group commit: whoever waits when the last batch is durable goes into the next one.

    No timer gathers a batch. While one is being synced the next one gathers by itself, so batches
    grow with the load, to `BATCH_LIMIT` commands; a timer could only make a lone command wait.
    """

    def __init__(self, submit: SubmitBatch) -> None:
        self._submit = submit
        self._closed = False
        self._waiting: asyncio.Queue[tuple[Envelope, asyncio.Future[Answer]]] = asyncio.Queue(
            QUEUE_LIMIT
        )

    def __len__(self) -> int:
        """Commands that wait."""
        return self._waiting.qsize()

    async def put(self, envelope: Envelope) -> Answer:
        """The answer to one envelope. Raises `asyncio.QueueFull` at once when overloaded."""
        if self._closed:
            raise asyncio.QueueFull
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((envelope, answer))
        return await answer

    async def run(self) -> None:
        """Serve the queue until cancelled."""
        while True:
            self._serve_batch(await self._waiting.get())
            # A queue that is never empty would keep the loop: let answers out and others in.
            await asyncio.sleep(0)

    def drain(self) -> None:
        """Take nothing more and answer everything that was taken. `run` must have ended."""
        self._closed = True
        while not self._waiting.empty():
            self._serve_batch(self._waiting.get_nowait())

    def _serve_batch(self, first: tuple[Envelope, asyncio.Future[Answer]]) -> None:
        batch = [first]
        while len(batch) < BATCH_LIMIT and not self._waiting.empty():
            batch.append(self._waiting.get_nowait())
        answers = self._submit([envelope for envelope, _ in batch])
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)


class Meters:
    """What Prometheus may see of one application; its registry is its own."""

    def __init__(self, *, queued: Callable[[], int], entries: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        self._commands = Counter(
            "gensyn_ledger_commands",
            "Commands by answer: accepted, or refused and why",
            ["answer", "reason"],
            registry=registry,
        )
        self._sizes = Histogram(
            "gensyn_ledger_batch_commands",
            "Commands decided and made durable together",
            buckets=[2**power for power in range(7)],
            registry=registry,
        )
        self._seconds = Histogram(
            "gensyn_ledger_batch_duration_seconds",
            "Time to decide a batch and make it durable",
            buckets=[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5],
            registry=registry,
        )
        waiting = Gauge(
            "gensyn_ledger_queued_commands", "Commands that wait for a batch", registry=registry
        )
        journal = Gauge("gensyn_ledger_entries", "Entries in the journal", registry=registry)
        waiting.set_function(queued)
        journal.set_function(entries)

    def around(self, submit: SubmitBatch) -> SubmitBatch:
        """`submit`, measured."""

        def measured(envelopes: Sequence[Envelope]) -> list[Answer]:
            started_s = time.perf_counter()
            answers = submit(envelopes)
            self._seconds.observe(time.perf_counter() - started_s)
            self._sizes.observe(len(envelopes))
            for answer in answers:
                if "refused" in answer:
                    self.count_refusal(answer["refused"])
                else:
                    self._commands.labels("accepted", "").inc()
            return answers

        return measured

    def count_refusal(self, reason: str) -> None:
        """One more command that was refused."""
        self._commands.labels("refused", reason).inc()

    def as_text(self) -> bytes:
        """Prometheus's exposition format."""
        return generate_latest(self._registry)


class Service:
    """The routes' handlers."""

    def __init__(self, submit: SubmitBatch, read: Read) -> None:
        self._meters = Meters(
            queued=lambda: len(self.queue), entries=lambda: read("health", {})["entries"]
        )
        self._read = read
        self.queue = CommandQueue(self._meters.around(submit))

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
        """Something of the ledger's state; the query's parameters say of what."""
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
        """That the ledger answers, and how long its journal is."""
        return answer_json(200, {"status": "ok", **self._read("health", {})})

    async def show_metrics(self) -> Response:
        """Counters in Prometheus's text format."""
        return Response(self._meters.as_text(), media_type=CONTENT_TYPE_LATEST)

    def _refuse(self, refused: RequestRefused) -> Response:
        self._meters.count_refusal(refused.reason)
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
    When the application is shut down it first answers what waits; then nothing is called any more.
    """
    service = Service(submit, read)

    def lifespan(_: FastAPI) -> AbstractAsyncContextManager[None]:
        return _at_work(service.queue, tick, tick_ms=tick_ms, on_failure=on_failure)

    app = FastAPI(
        title="gensyn_ray ledger", lifespan=lifespan, docs_url=None, redoc_url=None, version="1"
    )
    answer_errors(app)
    app.add_api_route(
        "/v1/commands",
        service.take_command,
        methods=["POST"],
        openapi_extra={"requestBody": _json_content(EnvelopeText)},
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
            404: {"model": Refusal, "description": "Nothing of that name"},
            422: {"model": Refusal, "description": "Parameters without sense, or too long a list"},
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
async def _at_work(
    queue: CommandQueue,
    tick: Callable[[], None],
    *,
    tick_ms: int,
    on_failure: Callable[[BaseException], None],
) -> AsyncIterator[None]:
    """Queue and clock run inside; on leaving, what waits is answered."""

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


# -- what /openapi.json says; nothing below is used to parse or check ---------------------------


class EnvelopeText(BaseModel):
    """A signed body: RFC 8785 JSON as text, and an Ed25519 signature in base64."""

    model_config = ConfigDict(extra="forbid")
    body: str
    signature: str


class Accepted(BaseModel):
    """The network's signature under what the command did."""

    receipt: EnvelopeText


class Refusal(BaseModel):
    """Why not. `refused` is one of the documented reasons; `detail` is for people."""

    refused: str
    detail: str


class Health(BaseModel):
    """`entries`: the journal's length."""

    status: Literal["ok"]
    entries: int


OVERLOADED: dict[str, Any] = {
    "model": Refusal,
    "description": "Not taken: too many wait. Send the same bytes again later",
    "headers": {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}},
}
ANY_QUERY: dict[str, Any] = {
    "name": "parameters",
    "in": "query",
    "description": "What the view is asked about; each view has its own names",
    "style": "form",
    "explode": True,
    "schema": {"type": "object", "additionalProperties": {"type": "string"}},
}


def _json_content(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema()
    return {"required": True, "content": {"application/json": {"schema": schema}}}
