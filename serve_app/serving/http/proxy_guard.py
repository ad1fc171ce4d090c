"""Middleware for Ray's HTTP proxy: remove harmful headers, and replace the proxy's own answers with errors in JSON.

Ray calls `middlewares` when a proxy starts, if its environment has
`RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=serve_app.serving.http.proxy_guard.middlewares`; `genseg serve` and the
container image of `cluster/` set it. Without it, Ray answers some headers that are not UTF-8 with a 500, writes request
ids of any length into its logs, lets callers change its timeouts, traces parts of a request as separate traces, and
sends its own answers in plain text. This module runs in Ray's proxy. It does not know the service's routes, and does
not import Ray.

When this middleware runs, the server has already read all headers, so it refuses large headers only after they have
arrived. Only a front proxy can stop them earlier, or limit the time to send them.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.errors import DeadlineExceeded, GensegError, InternalError, InvalidRequest, Overloaded, TooLarge
from serve_app.serving.http.middleware import MAX_REQUEST_ID, check_headers, error_response, printable, route_path
from serve_app.serving.replica.heap import give_back_free_memory, give_back_large_buffers
from serve_app.serving.replica.spans import trace_whole_requests

logger = logging.getLogger("ray.serve")

PAUSE_S = 0.25
"""Pause before the answer `100 Continue`, if the request may be refused. The ingress refuses a request within
milliseconds, and a client that gets the refusal need not send the body."""
PAUSE_OVER_BYTES = 16 * 1024 * 1024
"""Also pause before a body over this size: sending it takes longer than the pause, so the pause matters little."""

_REQUEST_ID = b"x-request-id"
_CHANGES_PROXY = frozenset(
    {b"serve_multiplexed_model_id", b"x_session_id", b"x_request_timeout_seconds", b"x_request_disconnect_disabled"}
)
"""Headers that change the proxy's behaviour, with underscores for hyphens. Source: ray.serve._private.constants,
SERVE_MULTIPLEXED_MODEL_ID and following."""
_READ_BY_RAY = _CHANGES_PROXY | {b"x_request_id", b"traceparent"}


def middlewares() -> list[Middleware]:
    """Return the middlewares for Ray's HTTP proxy. Ray calls this once, in the proxy's process."""
    give_back_large_buffers()  # every body passes through the proxy
    give_back_free_memory()
    return [Middleware(ProxyGuard)]


class ProxyGuard:
    """ASGI middleware around Ray's proxy.

    It takes time proportional to the size of the headers, and refuses headers over `middleware.MAX_HEADER_BYTES`.

    Args:
        app: Ray's proxy.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        trace_whole_requests()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            check_headers(scope)
            scope = {**scope, "headers": _without_proxy_settings(scope["headers"])}
        except (InvalidRequest, TooLarge) as error:
            await _answer_error(scope, receive, send, error)
            return
        if route_path(scope).startswith("/-/"):  # Ray's own routes, for the cluster's operators
            await self._app(scope, receive, send)
            return
        client = _Client(receive, send, delays_body=_may_be_refused(scope))
        answer = _ProxyAnswer(client.send)
        try:
            await self._app(scope, client.receive, answer.send)
        except Exception as error:  # only its class is logged, because its text may quote the request
            logger.error("the proxy failed: %s", type(error).__name__)
        if not answer.passed_on and not client.has_left:
            await _answer_error(scope, receive, client.send, await self._error_of(scope, answer), answer)

    async def _error_of(self, scope: Scope, answer: _ProxyAnswer) -> GensegError:
        """Translate the proxy's own answer into an error of this package."""
        if answer.status == 404:
            if await self._has_routes(scope):
                return InvalidRequest("not found")
            return Overloaded("the service is starting")
        if answer.status == 408:
            return DeadlineExceeded("the request did not finish within the proxy's time limit")
        if answer.status in {429, 503}:
            refusal = Overloaded("the service's queues are full, or it is starting; try again later")
            with suppress(ValueError):
                refusal.retry_after_s = float(answer.headers.get("retry-after", Overloaded.retry_after_s))
            return refusal
        return InternalError("internal error")

    async def _has_routes(self, scope: Scope) -> bool:
        """Return whether the proxy already knows the routes of any application."""
        path = f"{scope.get('root_path', '')}/-/routes"
        routes_request = {**scope, "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
        messages: list[Message] = []

        async def disconnected() -> Message:
            return {"type": "http.disconnect"}

        async def collect(message: Message) -> None:
            messages.append(message)

        await self._app(routes_request, disconnected, collect)
        body = b"".join(message.get("body", b"") for message in messages)
        return bool(messages) and messages[0].get("status") == 200 and body.strip() != b"{}"


async def _answer_error(
    scope: Scope, receive: Receive, send: Send, error: GensegError, answer: _ProxyAnswer | None = None
) -> None:
    """Answer with an error in JSON, and log the request, because the ingress did not."""
    response = error_response({**scope, "state": {}}, error)
    request_id = "-" if answer is None else answer.headers.get("x-request-id", "-")
    if answer is not None and answer.status == 404 and isinstance(error, InvalidRequest):
        response.status_code = 404
    if request_id != "-":
        response.headers["X-Request-ID"] = request_id
    logger.info(
        "request %s %s, answered by the proxy: %d", printable(request_id), scope["method"], response.status_code
    )
    await response(scope, receive, send)


class _ProxyAnswer:
    """Forwards an application's answer, and withholds an answer of the proxy itself.

    They are told apart as follows. The proxy's own answer has the status 404, 408, 429 or 503, the type text/plain, no
    Content-Length, no other headers than Retry-After and X-Request-ID, and one body message. An application that
    answers with one message of plain text sends a Content-Length.

    Attributes:
        status: status of the withheld answer; 500 if there is none.
        headers: headers of the withheld answer.
        passed_on: whether an application has answered.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._first: Message | None = None
        self.status = 500
        self.headers = Headers()
        self.passed_on = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_own_answer(message):
            self._first = message
            return
        if self._first is not None:
            first, self._first = self._first, None
            if not message.get("more_body", False):
                self.status, self.headers = int(first["status"]), Headers(raw=_pairs(first))
                return
            await self._send(first)
        self.passed_on = True
        await self._send(message)


class _Client:
    """The connection to the client.

    Args:
        receive: returns the request's messages.
        send: sends the answer's messages.
        delays_body: pause PAUSE_S before requesting the body (100 Continue). If the request is refused meanwhile, the
            client need not send the body.

    Attributes:
        has_left: whether the client disconnected.
    """

    def __init__(self, receive: Receive, send: Send, *, delays_body: bool) -> None:
        self._receive = receive
        self._send = send
        self._delays_body = delays_body
        self._answer_began = asyncio.Event()
        self.has_left = False

    async def receive(self) -> Message:
        if self._delays_body:
            with suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_S):
                    await self._answer_began.wait()
            # It stays True only if the answer began in the pause. Otherwise the next line requests the body.
            self._delays_body = self._answer_began.is_set()
        message = await self._receive()
        self.has_left = self.has_left or message["type"] == "http.disconnect"
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and self._delays_body:
            self._answer_began.set()
            # The client may send the body or not, so the next bytes on this connection could be a body or a new
            # request. Therefore the connection is closed.
            message.setdefault("headers", [])
            MutableHeaders(scope=message)["Connection"] = "close"
        await self._send(message)


def _may_be_refused(scope: Scope) -> bool:
    """Return whether the client waits for 100 Continue, and its body may be refused.

    This is a body that is over `PAUSE_OVER_BYTES`, encoded, of a type that no route reads, or of a length that is not a
    number.
    """
    headers = Headers(scope=scope)
    if headers.get("expect", "").lower() != "100-continue":
        return False
    media_type = headers.get("content-type", "").split(";")[0].strip().lower()
    length = headers.get("content-length", "0")
    is_read = media_type == "multipart/form-data" or media_type.endswith(("/json", "+json"))
    if not is_read or "content-encoding" in headers:
        return True
    # `int` takes long for long numbers, and refuses very long ones. No body has a size of more than 18 digits.
    return len(length) > 18 or not length.isdecimal() or int(length) > PAUSE_OVER_BYTES


def _is_own_answer(start: Message) -> bool:
    headers = _pairs(start)
    media_type = dict(headers).get(b"content-type", b"")
    names = {name for name, _ in headers}
    return (
        start["status"] in {404, 408, 429, 503}
        and media_type.startswith(b"text/plain")
        and names <= {b"content-type", b"retry-after", b"x-request-id"}
    )


def _pairs(message: Message) -> list[tuple[bytes, bytes]]:
    return [(bytes(name).lower(), bytes(value)) for name, value in message.get("headers", ())]


def _without_proxy_settings(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Remove the headers that change the behaviour of Ray's proxy, and shorten the request id.

    The first request id that is not empty is kept, cut to MAX_REQUEST_ID characters; others are removed.

    Raises:
        InvalidRequest: the value of a header that Ray decodes as UTF-8 is not UTF-8.
    """
    kept: list[tuple[bytes, bytes]] = []
    has_id = False
    for name, value in headers:
        plain = name.lower().replace(b"-", b"_")
        if plain in _READ_BY_RAY and not _is_utf8(value):
            raise InvalidRequest(f"the value of the header {name.decode('latin-1')} is not UTF-8")
        if plain in _CHANGES_PROXY:
            continue
        if plain == b"x_request_id":
            name, value = _REQUEST_ID, value.decode()[:MAX_REQUEST_ID].strip().encode()
            if not value or has_id:
                continue
            has_id = True
        kept.append((name, value))
    return kept


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
