"""HTTP in front of a ledger: signed commands in, receipts and readings out.

    POST /v1/commands        {"body", "signature"} -> {"receipt": {...}} or {"refused", "detail"}
    GET  /v1/read/{view}     a reading; parameters are the query's

The service knows no rule and holds no key: it hands envelopes to `submit` and readings to `read`,
both given by the process that runs it. Callers wait in a bounded queue; when it is full the answer
is 503 and the command was not taken.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from gensyn_ray.domain.signing import Envelope

Answer = dict[str, Any]
SubmitBatch = Callable[[Sequence[Envelope]], list[Answer]]
Read = Callable[[str, Mapping[str, str]], Any]

BATCH_LIMIT = 64
QUEUE_LIMIT = 1024


class UnknownView(LookupError):
    """No reading has that name."""


class CommandQueue:
    """Group commit: whoever waits when the last batch is durable goes into the next one."""

    def __init__(self, submit: SubmitBatch) -> None:
        self._submit = submit
        self._waiting: asyncio.Queue[tuple[Envelope, asyncio.Future[Answer]]] = asyncio.Queue(
            QUEUE_LIMIT
        )

    async def put(self, envelope: Envelope) -> Answer:
        """The answer to one envelope. Raises `asyncio.QueueFull` at once when overloaded."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((envelope, answer))
        return await answer

    async def run(self) -> None:
        """Serve the queue until cancelled."""
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < BATCH_LIMIT and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            answers = self._submit([envelope for envelope, _ in batch])
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)


def make_app(
    submit: SubmitBatch,
    read: Read,
    tick: Callable[[], None],
    *,
    tick_ms: int,
    on_failure: Callable[[BaseException], None],
) -> FastAPI:
    """The web application. `tick` runs every `tick_ms` on the same thread as `submit`.

    An exception from `submit` or `tick` is a failed sync or a bug: `on_failure` gets it and must
    end the process.
    """
    queue = CommandQueue(submit)

    async def keep_ticking() -> None:
        while True:
            await asyncio.sleep(tick_ms / 1000)
            tick()

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            on_failure(error)

    @asynccontextmanager
    async def lifespan(_: FastAPI):
        tasks = [asyncio.create_task(queue.run()), asyncio.create_task(keep_ticking())]
        for task in tasks:
            task.add_done_callback(ended)
        yield
        for task in tasks:
            task.cancel()

    app = FastAPI(title="gensyn_ray ledger", lifespan=lifespan)

    @app.post("/v1/commands")
    async def take_command(request: Request) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        try:
            envelope = Envelope.from_json(await request.json())
        except (ValueError, RecursionError) as error:
            return JSONResponse({"refused": "malformed", "detail": str(error)}, 400)
        try:
            answer = await queue.put(envelope)
        except asyncio.QueueFull:
            detail = "the queue is full; send the same command again later"
            return JSONResponse({"refused": "overloaded", "detail": detail}, 503)
        return JSONResponse(answer, 409 if "refused" in answer else 200)

    @app.get("/v1/read/{view}")
    async def give_reading(view: str, request: Request) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        try:
            return JSONResponse(read(view, dict(request.query_params)))
        except UnknownView as error:
            return JSONResponse({"refused": "unknown view", "detail": str(error)}, 404)

    return app
