"""The ledger's HTTP service around a backend without rules."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI

from gensyn_ray.domain.signing import COMMAND, Envelope, SigningKey, seal
from ledger.service.app import BadParameters, UnknownView, make_app
from ledger.service.command_queue import Answer

KEY = SigningKey(b"k" * 32)


def envelope(number: int = 0, **body: Any) -> Envelope:
    return seal(KEY, COMMAND, {"number": number, **body})


class ScriptedBackend:
    """Accepts every command except `"no"`, and records its calls."""

    def __init__(self) -> None:
        self.batches: list[list[Envelope]] = []
        self.batch_s = 0.0
        self.ticks = 0
        self.fails_with: Exception | None = None
        self.failures: list[BaseException] = []
        self.failed = asyncio.Event()

    def submit(self, envelopes: Sequence[Envelope]) -> list[Answer]:
        self.batches.append(list(envelopes))
        if self.fails_with is not None:
            raise self.fails_with
        time.sleep(self.batch_s)
        return [self.answer(one) for one in envelopes]

    def answer(self, one: Envelope) -> Answer:
        if b'"no"' in one.body:
            return {"refused": "insufficient funds", "detail": "available 0"}
        return {"receipt": one.body_hash}

    def read(self, view: str, parameters: Mapping[str, str]) -> Any:
        match view:
            case "echo":
                return dict(parameters)
            case "health":
                return {"entries": len(self.taken), "root": "00"}
            case "count":
                if not parameters.get("to", "").isdecimal():
                    raise BadParameters("`to` is a number")
                return list(range(int(parameters["to"])))
        raise UnknownView(f"there is no view {view!r}")

    @property
    def taken(self) -> list[Envelope]:
        """All received commands, in order."""
        return [one for batch in self.batches for one in batch]

    def tick(self) -> None:
        self.ticks += 1

    def tick_badly(self) -> None:
        raise OSError("the disk is gone")

    def fail(self, error: BaseException) -> None:
        self.failures.append(error)
        self.failed.set()

    def app(self, *, tick: Callable[[], None] | None = None, tick_ms: int = 3_600_000) -> FastAPI:
        return make_app(
            self.submit, self.read, tick or self.tick, tick_ms=tick_ms, on_failure=self.fail
        )
