"""Around every HTTP route: request id, authentication, the one shape of errors, counting, one log line.

Plain ASGI. Knows no route and no Ray.
"""

from __future__ import annotations

import hmac
import json
import logging
import time
import uuid
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app import results
from serve_app.errors import GensegError, InternalError, Overloaded, Unauthorized

logger = logging.getLogger("ray.serve")

_OPEN_ROUTES = {"/healthz"}


class Envelope:
    """ASGI middleware.

    Args:
        app: the routes.
        tokens: accepted bearer tokens as they are now; none for no authentication.
        answered: called with route, status, seconds and error code after each answer.
        echo_request_id: put X-Request-ID into the answer; False where the proxy in front does.
    """

    def __init__(
        self,
        app: ASGIApp,
        tokens: Callable[[], tuple[str, ...]],
        answered: Callable[[str, int, float, str | None], None],
        *,
        echo_request_id: bool = True,
    ) -> None:
        self._echo = echo_request_id
        self._app = app
        self._tokens = tokens
        self._answered = answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = Headers(scope=scope).get("x-request-id") or uuid.uuid4().hex
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        answer = _Answer(send, request_id if self._echo else None)
        await self._handle(scope, receive, answer)
        seconds = time.perf_counter() - started
        route = getattr(scope.get("route"), "path", "other")
        self._answered(route, answer.status, seconds, state.get("error_code"))
        logger.info("request %s %s %d %.0f ms", request_id, route, answer.status, seconds * 1000)

    async def _handle(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        try:
            _authorize(scope, self._tokens())
            await self._app(scope, receive, answer.send)
        except Unauthorized as error:
            await error_response(scope, error)(scope, receive, answer.send)
        except Exception:
            # The routes' own handler has answered already, where an answer was still possible.
            logger.exception("request %s failed", scope["state"]["request_id"])
            if not answer.status:
                await error_response(scope, internal_error())(scope, receive, answer.send)


class _Answer:
    """Adds the request id to an answer and remembers its status; 0 while there is none."""

    def __init__(self, send: Send, request_id: str | None) -> None:
        self._send = send
        self._request_id = request_id
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            if self._request_id is not None:
                message.setdefault("headers", [])
                MutableHeaders(scope=message)["X-Request-ID"] = self._request_id
        await self._send(message)


def _authorize(scope: Scope, tokens: tuple[str, ...]) -> None:
    if not tokens or scope["path"] in _OPEN_ROUTES:
        return
    scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not given.strip():
        raise Unauthorized("a bearer token is needed (Authorization: Bearer …)")
    sent = given.strip().encode("utf-8", "replace")
    # Every token is compared, in constant time: how long it takes tells nothing.
    if not any([hmac.compare_digest(sent, token.encode()) for token in tokens]):  # noqa: C419
        raise Unauthorized("the token is not accepted")


def internal_error() -> InternalError:
    """What users read of an error that nobody foresaw."""
    return InternalError("internal error; the service's log has it under this request's id")


def error_response(scope: Scope, error: GensegError) -> Response:
    """Write an error the one way that users see it, and note its code for the counters."""
    scope["state"]["error_code"] = error.code
    headers = {}
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    body = json.dumps({"error": results.error_body(error)}, ensure_ascii=False).encode(errors="replace")
    return Response(body, error.status, headers, "application/json")
