"""Blocking calls of a service that runs on an event loop."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from starlette.concurrency import run_in_threadpool

from gensyn_ray.runtime.http_answers import HttpRefusal, RequestRefused

P = ParamSpec("P")
T = TypeVar("T")

CALL_LIMIT = 128
"""Calls that run or wait for a thread. anyio runs 40 of them at a time."""


class BlockingCalls:
    """Runs functions in threads, a bounded number at a time. For one event loop."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._begun = 0

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The function's result. Raises `RequestRefused` at once when overloaded."""
        if self._begun >= self._limit:
            detail = "too many requests at once; send the same request again later"
            raise RequestRefused(HttpRefusal.OVERLOADED, detail)
        self._begun += 1
        try:
            return await run_in_threadpool(function, *args, **kwargs)
        finally:
            self._begun -= 1
