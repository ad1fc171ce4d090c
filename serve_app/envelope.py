"""Around every HTTP route: request id, authentication, the one shape of errors, counting, one log line.

Plain ASGI. Knows no route and no Ray.
"""

from __future__ import annotations

import hmac
import json
import logging
import re
import time
import uuid
from collections.abc import Callable, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app import results
from serve_app.errors import GensegError, InternalError, Overloaded, Unauthorized

logger = logging.getLogger("ray.serve")

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_OPEN_ROUTES = {"/healthz"}


class Envelope:
    """ASGI middleware.

    Args:
        app: the routes.
        tokens: accepted bearer tokens as they are now; none for no authentication.
        answered: called with route, status, seconds and error code after each answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        tokens: Callable[[], tuple[str, ...]],
        answered: Callable[[str, int, float, str | None], None],
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._answered = answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(Headers(scope=scope))
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _Answer(send, request_id)
        code = await self._handle(scope, receive, answer)
        seconds = time.perf_counter() - started
        route = getattr(scope.get("route"), "path", "other")
        self._answered(route, answer.status, seconds, code)
        logger.info("request %s %s %d %.0f ms", request_id, route, answer.status, seconds * 1000)

    async def _handle(self, scope: Scope, receive: Receive, answer: _Answer) -> str | None:
        try:
            _authorize(scope, self._tokens())
            await self._app(scope, receive, answer.send)
            return None
        except GensegError as error:
            failure = error
        except Exception:
            logger.exception("request %s failed", answer.request_id)
            failure = InternalError("internal error; the service's log has it under this request's id")
        if not answer.status:
            await error_response(failure)(scope, receive, answer.send)
        return failure.code


class _Answer:
    """Adds the request id to an answer and remembers its status; 0 while there is none."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            MutableHeaders(scope=_mutable(message))["X-Request-ID"] = self.request_id
        await self._send(message)


def _mutable(message: Message) -> MutableMapping[str, Any]:
    message.setdefault("headers", [])
    return message


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _authorize(scope: Scope, tokens: tuple[str, ...]) -> None:
    if not tokens or scope["path"] in _OPEN_ROUTES:
        return
    scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not given.strip():
        raise Unauthorized("a bearer token is needed (Authorization: Bearer …)")
    sent = given.strip().encode("utf-8", "replace")
    # Every token is compared, in constant time: how long it takes tells nothing.
    if not any([hmac.compare_digest(sent, token.encode()) for token in tokens]):
        raise Unauthorized("the token is not accepted")


def error_response(error: GensegError) -> Response:
    """Write an error the one way that users see it."""
    headers = {}
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    body = json.dumps({"error": results.error_body(error)}, ensure_ascii=False).encode(errors="replace")
    return Response(body, error.status, headers, "application/json")
