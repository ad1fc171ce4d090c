"""Around every HTTP route: request id, authentication, foreign pages, the one shape of errors, unread bodies, counting,
one log line.

Plain ASGI. Knows no route and no Ray.
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
"""Status in logs and counters of a request whose client left before the answer. Source: nginx."""
MAX_REQUEST_ID = 128
"""Characters of a request id; what is longer is cut off."""
MAX_HEADER_BYTES = 64 * 1024
"""Of all headers together: reading some of them takes time with the square of their length."""
DRAINS = 3
"""Refused requests whose bodies are read to their end at the same time, as a multiple of `max_concurrent_requests`."""


class Envelope:
    """ASGI middleware.

    Bounds: before any route runs, O(header bytes), of which MAX_HEADER_BYTES are taken. After an early answer, see
    `IncomingBody.drain`, for DRAINS * `serving.max_concurrent_requests` requests at a time; others are answered at
    once.

    Args:
        app: the routes.
        config: the configuration as it is now.
        tokens: accepted bearer tokens as they are now; none for no authentication.
        answered: called with route, status, seconds and error code after each answer.
        open_routes: paths that need no token and answer the pages of other sites, too: they hold no data.
        echo_request_id: put X-Request-ID into the answer; False where the proxy in front does.
    """

    def __init__(
        self,
        app: ASGIApp,
        config: Callable[[], AppConfig],
        tokens: Callable[[], tuple[str, ...]],
        answered: Callable[[str, int, float, str | None], None],
        *,
        open_routes: Collection[str],
        echo_request_id: bool = True,
    ) -> None:
        self._echo = echo_request_id
        self._app = app
        self._config = config
        self._draining = 0
        self._tokens = tokens
        self._answered = answered
        self._open_routes = frozenset(open_routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
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
        except asyncio.CancelledError:  # Ray cancels a request whose client has left
            answer.status = CLIENT_LEFT
            raise
        finally:
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "other")
            self._answered(route, answer.status, seconds, state.get("error_code"))
            sizes = f"{incoming.bytes} bytes in, {answer.bytes} out"
            notes = ", ".join([f"{seconds * 1000:.0f} ms", sizes, *state.get("notes", ())])
            logger.info("request %s %s %s %d: %s", printable(request_id), scope["method"], route, answer.status, notes)

    async def _drain(self, incoming: IncomingBody) -> None:
        config = self._config()
        if not incoming.would_be_reset or self._draining >= DRAINS * config.serving.max_concurrent_requests:
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
            # The routes' own handler has answered already, where an answer was still possible.
            logger.exception("request %s failed", printable(scope["state"]["request_id"]))
            if not answer.status:
                await error_response(scope, internal_error())(scope, receive, answer.send)


class _Answer:
    """Adds the request id to an answer, remembers its status (0 while there is none) and counts its body's bytes.

    Args:
        send: takes the answer's messages.
        request_id: to add; None for none.
        before: called before the first message: whatever has to be done before an answer.
    """

    def __init__(self, send: Send, request_id: str | None, before: Callable[[], Awaitable[None]]) -> None:
        self._send = send
        self._request_id = request_id
        self._before = before
        self.status = 0
        self.bytes = 0

    async def send(self, message: Message) -> None:
        self.bytes += len(message.get("body", b""))
        if message["type"] == "http.response.start":
            await self._before()
            self.status = int(message["status"])
            if self._request_id is not None:
                message.setdefault("headers", [])
                headers = MutableHeaders(scope=message)
                del headers["X-Request-ID"]
                headers.raw.append((b"x-request-id", self._request_id.encode()))
        await self._send(message)


def _request_id(scope: Scope) -> str:
    """The caller's id, cut; a new one where there is none, or none that is text."""
    given = Headers(scope=scope).get("x-request-id", "").encode("latin-1")
    return given.decode(errors="ignore")[:MAX_REQUEST_ID].strip() or uuid.uuid4().hex


def printable(text: str) -> str:
    """Text of a caller as it may stand in a line of the log."""
    return text if text.isprintable() else repr(text)[1:-1]


def route_path(scope: Scope) -> str:
    """The path as the routes see it: without the application's own (`http_options.root_path`, `route_prefix`)."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(root) :] if path == root or path.startswith(f"{root}/") else path


def check_headers(scope: Scope) -> None:
    size = sum(len(name) + len(value) for name, value in scope["headers"])
    if size > MAX_HEADER_BYTES:
        raise TooLarge(f"the headers' {size} bytes are over the limit of {MAX_HEADER_BYTES}")


def _authorize(scope: Scope, tokens: tuple[str, ...]) -> None:
    if not tokens:  # then whoever can open a connection may ask, but not the pages that they happen to look at
        origin = foreign_origin(Headers(scope=scope))
        if origin is not None:
            raise ForeignOrigin(f"a page of another origin ({printable(origin[:80])}) may not use this service")
        return
    scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
    given = given.strip(" \t")
    if scheme.lower() != "bearer" or not given:
        raise Unauthorized("a bearer token is needed (Authorization: Bearer …)")
    sent = given.encode("utf-8", "replace")
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
        headers["Retry-After"] = write_retry_after(error.retry_after_s)
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    answer: ErrorAnswerDict = {"error": error_body(error)}
    body = json.dumps(answer, ensure_ascii=False).encode(errors="replace")
    return Response(body, error.status, headers, "application/json")


def told_of_leaving(app: ASGIApp, leaving: tuple[type[Exception], ...]) -> ASGIApp:
    """Tell an app that its client has left where the server raises instead of saying so.

    Args:
        app: the app.
        leaving: what the server raises while a body arrives from a client that leaves.
    """

    async def translated(scope: Scope, receive: Receive, send: Send) -> None:
        async def next_message() -> Message:
            try:
                return await receive()
            except leaving:
                return {"type": "http.disconnect"}

        await app(scope, next_message, send)

    return translated
