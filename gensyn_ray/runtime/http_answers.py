"""Answers of the daemons: JSON values, refusals, failures.

    {"refused": REASON, "detail": TEXT}   the request was not carried out; REASON is documented
    {"detail": TEXT}                      the service failed: 503 if what it depends on does not
                                          answer, 500 for a bug, whose traceback goes to the log

Refusals by a rule of the network have status 409 and the rule's reason. `HttpRefusal` has the
reasons of the kit itself.
"""

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gensyn_ray.domain.errors import OperationError, Refused

RETRY_AFTER_S = 1
DETAIL_LIMIT = 500
"""Characters: a detail may quote what a client sent."""


class HttpRefusal(StrEnum):
    """Why a request is refused before any rule is asked. None of these requests was carried out."""

    MALFORMED = "malformed"
    UNKNOWN_REQUEST = "unknown request"
    WRONG_METHOD = "wrong method"
    TOO_SLOW = "too slow"
    TOO_LARGE = "too large"
    OVERLOADED = "overloaded"


STATUS: Mapping[HttpRefusal, int] = {
    HttpRefusal.MALFORMED: 400,
    HttpRefusal.UNKNOWN_REQUEST: 404,
    HttpRefusal.WRONG_METHOD: 405,
    HttpRefusal.TOO_SLOW: 408,
    HttpRefusal.TOO_LARGE: 413,
    HttpRefusal.OVERLOADED: 503,
}
CLOSE: Mapping[str, str] = {"connection": "close"}
HEADERS: Mapping[HttpRefusal, Mapping[str, str]] = {
    HttpRefusal.TOO_SLOW: CLOSE,
    HttpRefusal.TOO_LARGE: CLOSE,
    HttpRefusal.OVERLOADED: {"retry-after": str(RETRY_AFTER_S)},
}


class RequestRefused(Exception):
    """Raised by a request's handler; answered by `answer_errors`."""

    def __init__(self, reason: HttpRefusal, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def answer(self) -> Response:
        return refuse(
            STATUS[self.reason], self.reason, self.detail, headers=HEADERS.get(self.reason)
        )


def answer_json(status: int, value: Any, *, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON value in plain ASCII: an answer may quote text that has no UTF-8."""
    content = json.dumps(value, separators=(",", ":"))
    return Response(content, status, headers, media_type="application/json")


def refuse(
    status: int, reason: str, detail: str, *, headers: Mapping[str, str] | None = None
) -> Response:
    """A refusal. A long detail is cut."""
    value = {"refused": reason, "detail": detail[:DETAIL_LIMIT]}
    return answer_json(status, value, headers=headers)


def answer_errors(app: Starlette) -> None:
    """Have an application answer what its handlers raise, in the shapes of this module."""

    async def refused_request(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestRefused)
        return error.answer()

    async def refused_by_rule(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return refuse(409, error.reason, error.detail)

    async def failed(request: Request, error: Exception) -> Response:
        return answer_json(503, {"detail": str(error)[:DETAIL_LIMIT]})

    async def not_routed(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            return RequestRefused(HttpRefusal.WRONG_METHOD, request.method).answer()
        return RequestRefused(HttpRefusal.UNKNOWN_REQUEST, request.url.path).answer()

    async def bug(request: Request, error: Exception) -> Response:
        return answer_json(500, {"detail": "the service failed; its log says why"}, headers=CLOSE)

    # A redirect would quote the Host header, which the client chooses.
    app.router.redirect_slashes = False
    app.add_exception_handler(RequestRefused, refused_request)
    app.add_exception_handler(Refused, refused_by_rule)
    app.add_exception_handler(OperationError, failed)
    app.add_exception_handler(HTTPException, not_routed)
    app.add_exception_handler(Exception, bug)
