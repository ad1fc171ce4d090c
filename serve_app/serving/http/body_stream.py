"""A request's body as it arrives: read within bounds of size, pause and rate, or read and forgotten.

Knows Starlette; knows no formats and no Ray.
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
"""How many bodies of the largest size are read and forgotten before an early refusal is sent."""
DRAIN_S = 10.0
DRAIN_PAUSE_S = 1.0


@dataclass(frozen=True)
class Reading:
    """How far and how long a body is read.

    Args:
        limits: its `max_body_bytes` counts here.
        serving: `body_pause_s` is the longest wait for the next bytes, `max_timeout_s` for all of them;
            `min_body_rate` is the least average rate, in bytes per second, once `body_pause_s` is over.
    """

    limits: LimitsConfig
    serving: ServingConfig


async def read_body(request: Request, reading: Reading) -> bytes:
    """Read the whole body, no further than the limit.

    Bounds: memory of twice `limits.max_body_bytes` (the chunks together, and their copy), whatever is sent. Time of
    `serving.body_pause_s` + received bytes / `serving.min_body_rate`, and never more than `serving.max_timeout_s`: a
    client that stalls or drips is not counted among the admitted requests for longer.

    Raises:
        TooLarge: by its Content-Length, or while it comes.
        InvalidRequest: its Content-Length is no number.
        DeadlineExceeded: it does not come in time.
        starlette.requests.ClientDisconnect: the client left.
    """
    limit, serving = reading.limits.max_body_bytes, reading.serving
    declared = request.headers.get("content-length")
    if declared is not None:
        if not (declared.isascii() and declared.isdigit()):
            raise InvalidRequest("Content-Length is not a number")
        # Not int(): Python refuses numbers of over 4,300 digits.
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
            text = f"nothing of the body arrived for {serving.body_pause_s:g} s"
        else:
            text = f"the body arrived too slowly: the least is {serving.min_body_rate} bytes per second"
        raise DeadlineExceeded(text) from None
    return bytes(body)


class IncomingBody:
    """Passes a request's messages on, counts its body's bytes, and remembers whether the body has come to its end.

    An answer that is sent while the client still sends is lost where the connection closes after it: the bytes that
    nobody reads make the system reset the connection, and the client sees the reset instead of the answer. So what is
    left is read and forgotten first, within bounds. Where the connection stays open, the server reads it afterwards.

    Args:
        scope: of the request.
        receive: its messages.
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
    def would_be_reset(self) -> bool:
        """Whether an answer that is sent now may be lost."""
        return self._closes and not self.ended

    async def receive(self) -> Message:
        """Return the next message."""
        message = await self._receive()
        self.bytes += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            self.ended = True
        return message

    async def drain(self, max_bytes: int, pause_s: float = DRAIN_PAUSE_S, whole_s: float = DRAIN_S) -> None:
        """Read what is left of the body and forget it.

        Bounds: the arguments, and memory of one chunk.

        Args:
            max_bytes: no more is read than this and one chunk.
            pause_s: longest wait for the next bytes.
            whole_s: longest wait for all of them.
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
