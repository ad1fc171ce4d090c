"""Read a request's body within limits of size, pause and rate, or read and discard it.

This module does not parse bodies.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from serve_app.config.schema import LimitsConfig, ServingConfig
from serve_app.errors import DeadlineExceeded, InvalidRequest, TooLarge

DRAIN_BODIES = 4
"""At most this many times `limits.max_body_bytes` are read and discarded before an early refusal is sent."""
DRAIN_S = 10.0
DRAIN_PAUSE_S = 1.0


@dataclass(frozen=True)
class Reading:
    """The limits for reading a body.

    Attributes:
        limits: `max_body_bytes` is the largest body.
        serving: `body_pause_s` is the longest wait for the next bytes, `max_timeout_s` the longest for the whole body,
            and `min_body_rate` the lowest average rate after `body_pause_s`, in bytes per second.
    """

    limits: LimitsConfig
    serving: ServingConfig


async def read_body(request: Request, reading: Reading) -> bytes:
    """Read the whole body within the limits.

    It takes memory of at most twice `limits.max_body_bytes`, for the received chunks and their copy. It takes at most
    `serving.body_pause_s` + received bytes / `serving.min_body_rate` seconds, and never more than
    `serving.max_timeout_s`, so that a stalled or slow client does not occupy an admitted request for longer.

    Raises:
        TooLarge: the body or its Content-Length is over the limit.
        InvalidRequest: the Content-Length is not a number.
        DeadlineExceeded: the body does not arrive in time.
        starlette.requests.ClientDisconnect: the client disconnected.
    """
    limit, serving = reading.limits.max_body_bytes, reading.serving
    declared = request.headers.get("content-length")
    if declared is not None:
        if not (declared.isascii() and declared.isdigit()):
            raise InvalidRequest("Content-Length is not a number")
        # The length is compared first, because int() refuses more than 4,300 digits.
        if len(declared.lstrip("0")) > len(str(limit)) or int(declared.lstrip("0") or "0") > limit:
            raise TooLarge(f"the body's {declared[:20]} bytes are over the limit of {limit}")
    body = bytearray()
    clock = asyncio.get_running_loop().time
    start = latest = clock()
    end = start + serving.max_timeout_s
    try:
        async with asyncio.timeout_at(min(end, start + serving.body_pause_s)) as wait:
            async for chunk in request.stream():
                latest = clock()
                body += chunk
                if len(body) > limit:
                    raise TooLarge(f"the body is over the limit of {limit} bytes")
                slowest = start + serving.body_pause_s + len(body) / serving.min_body_rate
                wait.reschedule(min(end, slowest, latest + serving.body_pause_s))
    except TimeoutError:
        if clock() >= end:
            text = f"the body did not arrive within {serving.max_timeout_s:g} s"
        elif clock() >= latest + serving.body_pause_s:
            text = f"no bytes of the body arrived for {serving.body_pause_s:g} s"
        else:
            text = f"the body arrived too slowly; the minimum is {serving.min_body_rate} bytes per second"
        raise DeadlineExceeded(text) from None
    return bytes(body)


class IncomingBody:
    """Receives a request's messages, counts the body's bytes, and records whether the body has ended.

    If the connection closes after an answer while the client still sends, the client may never see the answer: the
    unread bytes make the system reset the connection. So the rest of the body is read and discarded first, within
    limits. If the connection stays open, the server reads the rest afterwards.

    Args:
        scope: the request's ASGI scope.
        receive: returns the request's messages.

    Attributes:
        bytes: the body's bytes so far.
        ended: whether the whole body has arrived.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        headers = Headers(scope=scope)
        self._receive = receive
        self.bytes = 0
        self.ended = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        connection = {option.strip().lower() for option in headers.get("connection", "").split(",")}
        stays_open = "keep-alive" in connection if scope.get("http_version") == "1.0" else "close" not in connection
        self._closes = not stays_open

    @property
    def connection_would_be_reset(self) -> bool:
        """Whether an answer that is sent now may be lost because the connection is reset."""
        return self._closes and not self.ended

    async def receive(self) -> Message:
        """Return the next message."""
        message = await self._receive()
        self.bytes += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            self.ended = True
        return message

    async def drain(self, max_bytes: int, pause_s: float = DRAIN_PAUSE_S, whole_s: float = DRAIN_S) -> None:
        """Read and discard the rest of the body.

        It takes memory of one chunk; the arguments limit its time.

        Args:
            max_bytes: stop after this many bytes, at the end of a chunk.
            pause_s: longest wait for the next bytes, in seconds.
            whole_s: longest wait for the whole rest, in seconds.
        """
        clock = asyncio.get_running_loop().time
        end = clock() + whole_s
        try:
            async with asyncio.timeout_at(min(end, clock() + pause_s)) as wait:
                while not self.ended and max_bytes > 0:
                    max_bytes -= len((await self.receive()).get("body", b""))
                    wait.reschedule(min(end, clock() + pause_s))
        except TimeoutError:
            return
