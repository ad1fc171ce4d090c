"""ASGI middleware around all routes: request id, authentication, origin check, errors as JSON, metrics, one log line.

It imports neither the routes nor Ray.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.config.schema import AppConfig
from serve_app.errors import ForeignOrigin, GensegError, InternalError, Overloaded, TooLarge, Unauthorized
from serve_app.schemas.dicts import ErrorAnswerDict, error_body
from serve_app.schemas.retry_after import write_retry_after
from serve_app.serving.http.body_stream import DRAIN_BODIES, IncomingBody
from serve_app.serving.http.origin import foreign_origin

logger = logging.getLogger("ray.serve")

CLIENT_LEFT = 499
"""Status in logs and metrics if the client disconnected before the answer. Source: nginx."""
MAX_REQUEST_ID = 128
"""Request ids are cut to this many characters."""
MAX_HEADER_BYTES = 64 * 1024
"""Limit for the sum of all headers. For certain headers, parsing time grows with the square of the length."""
DRAINS = 3
"""At most DRAINS * `max_concurrent_requests` refused requests drain at the same time. To drain is to read and discard
the rest of the body."""


class RequestChecks:
    """Checks each request before its route runs, and logs and counts its answer.

    Before a route runs, the work is proportional to the size of the headers, at most MAX_HEADER_BYTES. If an answer is
    ready before the body has arrived, the rest of the body is drained first (see `IncomingBody.drain`), for at most
    DRAINS * `serving.max_concurrent_requests` requests at the same time. Further requests are answered without that.

    Args:
        app: the routes.
        config: returns the current configuration.
        tokens: returns the currently accepted bearer tokens; empty for no authentication.
        on_answer: called with route, status, seconds and error code after each answer.
        open_routes: paths without private data. They need no token, and pages of other sites may call
            them.
        echo_request_id: put X-Request-ID into the answer; False if Ray's proxy adds it.
    """

    def __init__(
        self,
        app: ASGIApp,
        config: Callable[[], AppConfig],
        tokens: Callable[[], tuple[str, ...]],
        on_answer: Callable[[str, int, float, str | None], None],
        *,
        open_routes: Collection[str],
        echo_request_id: bool = True,
    ) -> None:
        self._echo = echo_request_id
        self._app = app
        self._config = config
        self._draining = 0
        self._tokens = tokens
        self._on_answer = on_answer
        self._open_routes = frozenset(open_routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        incoming = state["incoming"] = IncomingBody(scope, receive)
        answer = _Answer(send, request_id if self._echo else None, lambda: self._drain(incoming))
        try:
            await self._handle(scope, incoming.receive, answer)
        except asyncio.CancelledError:  # Ray cancels a request if its client disconnects
            answer.status = CLIENT_LEFT
            raise
        finally:
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "other")
            self._on_answer(route, answer.status, seconds, state.get("error_code"))
            sizes = f"{incoming.bytes} bytes in, {answer.bytes} out"
            notes = ", ".join([f"{seconds * 1000:.0f} ms", sizes, *state.get("notes", ())])
            logger.info("request %s %s %s %d: %s", printable(request_id), scope["method"], route, answer.status, notes)

    async def _drain(self, incoming: IncomingBody) -> None:
        config = self._config()
        if not incoming.connection_would_be_reset or self._draining >= DRAINS * config.serving.max_concurrent_requests:
            return
        self._draining += 1
        try:
            await incoming.drain(DRAIN_BODIES * config.limits.max_body_bytes)
        finally:
            self._draining -= 1

    async def _handle(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        try:
            check_headers(scope)
            if route_path(scope) not in self._open_routes:
                _authorize(scope, self._tokens())
            await self._app(scope, receive, answer.send)
        except (TooLarge, Unauthorized, ForeignOrigin) as error:
            await error_response(scope, error)(scope, receive, answer.send)
        except Exception:
            # Starlette raises an exception again after the routes' handler has answered it. Answer here only if no
            # answer has begun.
            logger.exception("request %s failed", printable(scope["state"]["request_id"]))
            if not answer.status:
                await error_response(scope, internal_error())(scope, receive, answer.send)


class _Answer:
    """Sends an answer: adds the request id, and records the status and the body's bytes.

    Args:
        send: sends the answer's messages.
        request_id: the id to add; None adds none.
        before_start: called before the first message.

    Attributes:
        status: the answer's status; 0 until it begins.
        bytes: the body's bytes so far.
    """

    def __init__(self, send: Send, request_id: str | None, before_start: Callable[[], Awaitable[None]]) -> None:
        self._send = send
        self._request_id = request_id
        self._before_start = before_start
        self.status = 0
        self.bytes = 0

    async def send(self, message: Message) -> None:
        self.bytes += len(message.get("body", b""))
        if message["type"] == "http.response.start":
            await self._before_start()
            self.status = int(message["status"])
            if self._request_id is not None:
                message.setdefault("headers", [])
                headers = MutableHeaders(scope=message)
                del headers["X-Request-ID"]
                headers.raw.append((b"x-request-id", self._request_id.encode()))
        await self._send(message)


def _request_id(scope: Scope) -> str:
    """Return the caller's request id without bytes that are not UTF-8, cut to MAX_REQUEST_ID characters.

    If nothing is left, return a new id.
    """
    given = Headers(scope=scope).get("x-request-id", "").encode("latin-1")
    return given.decode(errors="ignore")[:MAX_REQUEST_ID].strip() or uuid.uuid4().hex


def printable(text: str) -> str:
    """Escape a caller's text for a log line, if it has characters that cannot be printed."""
    return text if text.isprintable() else repr(text)[1:-1]


def route_path(scope: Scope) -> str:
    """Return the path below the application's own prefix (`http_options.root_path`, `route_prefix`)."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(root) :] if path == root or path.startswith(f"{root}/") else path


def check_headers(scope: Scope) -> None:
    """Check the size of all headers.

    Raises:
        TooLarge: they are over MAX_HEADER_BYTES.
    """
    size = sum(len(name) + len(value) for name, value in scope["headers"])
    if size > MAX_HEADER_BYTES:
        raise TooLarge(f"the headers' {size} bytes are over the limit of {MAX_HEADER_BYTES}")


def _authorize(scope: Scope, tokens: tuple[str, ...]) -> None:
    # Without tokens, everyone who can connect may use the service. But a page of another site that such a user opens
    # must not use the service through the user's browser.
    if not tokens:
        origin = foreign_origin(Headers(scope=scope))
        if origin is not None:
            raise ForeignOrigin(f"a page of another origin ({printable(origin[:80])}) may not use this service")
        return
    scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
    given = given.strip(" \t")
    if scheme.lower() != "bearer" or not given:
        raise Unauthorized("a bearer token is needed (Authorization: Bearer …)")
    sent = given.encode("utf-8", "replace")
    # A list and not a generator: every token is compared, each in constant time, so that the response time reveals
    # nothing about them.
    if not any([hmac.compare_digest(sent, token.encode()) for token in tokens]):  # noqa: C419
        raise Unauthorized("the token is not accepted")


def internal_error() -> InternalError:
    """Return the error that users see for an unexpected exception."""
    return InternalError("internal error; the service's log has the details under this request's id")


def error_response(scope: Scope, error: GensegError) -> Response:
    """Make the response for an error, and record its code in the scope for the metrics."""
    scope["state"]["error_code"] = error.code
    headers = {}
    if isinstance(error, Overloaded):
        headers["Retry-After"] = write_retry_after(error.retry_after_s)
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    answer: ErrorAnswerDict = {"error": error_body(error)}
    body = json.dumps(answer, ensure_ascii=False).encode(errors="replace")
    return Response(body, error.status, headers, "application/json")


def with_disconnect_message(app: ASGIApp, disconnect_errors: tuple[type[Exception], ...]) -> ASGIApp:
    """Wrap an app for a server that raises an exception if the client disconnects in the middle of the body.

    Args:
        app: gets ASGI's `http.disconnect` message instead of the exception.
        disconnect_errors: the exceptions that the server raises.
    """

    async def translated(scope: Scope, receive: Receive, send: Send) -> None:
        async def next_message() -> Message:
            try:
                return await receive()
            except disconnect_errors:
                return {"type": "http.disconnect"}

        await app(scope, next_message, send)

    return translated
