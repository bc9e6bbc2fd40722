"""The queue of signed commands: several share one sync."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from gensyn_ray.domain.signing import Envelope

Answer = dict[str, Any]
"""`{"receipt": {...}}`, or `{"refused": reason, "detail": text}`."""
SubmitBatch = Callable[[Sequence[Envelope]], list[Answer]]
"""Decides envelopes and makes them durable; one answer for each, in order."""

BATCH_LIMIT = 64
QUEUE_LIMIT = 512


class CommandQueue:
    """Group commit: commands that arrive during one sync form the next batch.

    A batch grows with the load, to `BATCH_LIMIT` commands. There is no timer, because it would
    delay a single command.
    """

    def __init__(self, submit: SubmitBatch) -> None:
        self._submit = submit
        self._closed = False
        self._waiting: asyncio.Queue[tuple[Envelope, asyncio.Future[Answer]]] = asyncio.Queue(
            QUEUE_LIMIT
        )

    def __len__(self) -> int:
        """Number of waiting commands."""
        return self._waiting.qsize()

    async def put(self, envelope: Envelope) -> Answer:
        """The answer to one envelope. Raises `asyncio.QueueFull` if the queue is full or closed."""
        if self._closed:
            raise asyncio.QueueFull
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((envelope, answer))
        return await answer

    async def run(self) -> None:
        """Serve the queue until cancelled."""
        while True:
            self._serve_batch(await self._waiting.get())
            # Yield to the event loop: a queue that is never empty would block it.
            await asyncio.sleep(0)

    def drain(self) -> None:
        """Close the queue and answer what is in it. `run` must have ended."""
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
