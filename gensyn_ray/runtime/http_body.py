"""Bodies of requests, bounded in bytes and in time."""

import asyncio
import json
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from gensyn_ray.runtime.http_answers import HttpRefusal, RequestRefused

BODY_S = 10.0
"""How long a body may take to arrive."""


async def read_json(request: Request, *, limit_bytes: int) -> Any:
    """The JSON value of a request's body, whatever the request says of its type.

    Reads little beyond `limit_bytes`. Raises `RequestRefused`: too large, too slow (`BODY_S`), or
    malformed (no JSON, NaN or an infinity, nested too deeply, cut off).
    """
    body = await _read(request, limit_bytes)
    try:
        return json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise RequestRefused(HttpRefusal.MALFORMED, f"the body is no JSON: {error}") from None


async def _read(request: Request, limit_bytes: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > limit_bytes:
        raise _too_large(limit_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                body += part
                if len(body) > limit_bytes:
                    raise _too_large(limit_bytes)
    except TimeoutError:
        detail = f"the body did not arrive within {BODY_S:g} s"
        raise RequestRefused(HttpRefusal.TOO_SLOW, detail) from None
    except ClientDisconnect:
        raise RequestRefused(HttpRefusal.MALFORMED, "the body was cut off") from None
    return bytes(body)


def _too_large(limit_bytes: int) -> RequestRefused:
    return RequestRefused(HttpRefusal.TOO_LARGE, f"a body has at most {limit_bytes} bytes")


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")
