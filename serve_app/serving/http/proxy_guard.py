"""A guard in front of Ray's HTTP proxy: headers that would break it, or steer it, do not reach it.

Ray calls `middlewares` when a proxy starts whose environment has
`RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=serve_app.serving.http.proxy_guard.middlewares`; `genseg serve` and the image
in `cluster/` set it. Without it Ray answers some headers that are not UTF-8 with a 500 in plain text, takes request ids
of any length into its logs, and lets callers change its time-outs. Runs in Ray's proxy; knows no route and no Ray.

The headers have been read by then: their size, and the time that a client takes for them, are bounded by a front proxy
only.
"""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.errors import InvalidRequest, TooLarge
from serve_app.serving.http.middleware import MAX_REQUEST_ID, check_headers, error_response
from serve_app.serving.replica.heap import give_back_free_memory, give_back_large_buffers

_REQUEST_ID = b"x-request-id"
_STEERING = frozenset(
    {b"serve_multiplexed_model_id", b"x_session_id", b"x_request_timeout_seconds", b"x_request_disconnect_disabled"}
)
"""With underscores for hyphens. Source: ray.serve._private.constants, SERVE_MULTIPLEXED_MODEL_ID and following."""
_READ_BY_RAY = _STEERING | {b"x_request_id", b"traceparent"}


def middlewares() -> list[Middleware]:
    """Return what Ray's HTTP proxy puts in front of itself. Called once, in the proxy's process."""
    give_back_large_buffers()  # every body passes through it
    give_back_free_memory()
    return [Middleware(ProxyGuard)]


class ProxyGuard:
    """ASGI middleware.

    Bounds: O(header bytes); headers over `middleware.MAX_HEADER_BYTES` go no further.

    Args:
        app: Ray's proxy.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "http":
            try:
                check_headers(scope)
                scope = {**scope, "headers": _without_steering(scope["headers"])}
            except (InvalidRequest, TooLarge) as error:
                await error_response({**scope, "state": {}}, error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _without_steering(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Drop what steers Ray's proxy, and cut the request id; an empty one is dropped, so that one is made.

    Raises:
        InvalidRequest: a header that Ray reads as UTF-8 is not UTF-8.
    """
    kept = []
    for name, value in headers:
        plain = name.lower().replace(b"-", b"_")
        if plain in _READ_BY_RAY and not _is_utf8(value):
            raise InvalidRequest(f"the header {name.decode('latin-1')} is not UTF-8")
        if plain in _STEERING:
            continue
        if plain == b"x_request_id":
            name, value = _REQUEST_ID, value.decode()[:MAX_REQUEST_ID].strip().encode()
            if not value:
                continue
        kept.append((name, value))
    return kept


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
