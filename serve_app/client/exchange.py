"""A call of the service: when it is sent again, and which error ends it.

Without sockets: `exchange` is a generator that asks its driver to send or to wait and is told what came back, so the
sync and the async client run the same decisions. Source: HTTPX's `Auth.auth_flow` is built this way.

A call is sent again only where the server cannot have worked on it: no connection, or an "overloaded" answer. A
timeout, a 504 or a cut connection is final: the work may have been done, and doing it twice is what an overloaded
server needs least.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TypedDict

import httpx
from pydantic import JsonValue

from serve_app import errors
from serve_app.client.failures import ConnectionFailed, read_error

CONNECT_TIMEOUT_S = 5.0
GRACE_S = 1.0  # longer than the server's own deadline, so that its 504 arrives and says more than a cut would
MAX_TIMEOUT_S = 86400.0
"""A day; a call that waits longer is a slip, and the clocks of operating systems count only so far."""
BACKOFF_S = 0.25  # before the first retry; doubles with each


class HttpBody(TypedDict, total=False):
    """Keyword arguments of `httpx.Client.build_request` that make the body: a form, or JSON."""

    data: dict[str, str]
    files: list[tuple[str, tuple[str, bytes, str]]]
    json: JsonValue


class HttpArguments(HttpBody):
    """All keyword arguments of `httpx.Client.build_request`."""

    method: str
    url: str
    headers: Mapping[str, str]
    timeout: httpx.Timeout


@dataclass(frozen=True)
class Call:
    """One request, ready to be sent any number of times.

    Args:
        method: HTTP method.
        url: the whole address, without user name and password, as messages show it.
        timeout_s: how long all of it may take, retries included, in seconds.
        headers: further headers.
        body: keyword arguments of `httpx.Client.build_request` that make the body.
        stream: a 200 is read by the caller, line by line.
        expected: the statuses that are answers and no errors.
    """

    method: str
    url: str
    timeout_s: float
    headers: Mapping[str, str] = field(default_factory=dict)
    body: HttpBody = field(default_factory=HttpBody)
    stream: bool = False
    expected: frozenset[int] = frozenset({200})


@dataclass(frozen=True)
class Send:
    """Asks the driver to send the call and to wait no longer than `wait_s` seconds."""

    call: Call
    wait_s: float

    @property
    def arguments(self) -> HttpArguments:
        """Keyword arguments of `httpx.Client.build_request`; the timeout limits each single step."""
        timeout = httpx.Timeout(self.wait_s, connect=min(CONNECT_TIMEOUT_S, self.wait_s))
        return {
            "method": self.call.method,
            "url": self.call.url,
            "headers": self.call.headers,
            "timeout": timeout,
            **self.call.body,
        }


@dataclass(frozen=True)
class Wait:
    """Asks the driver to wait so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Answer:
    """What came back; `live` is the open response of a stream, whose content is then still to be read."""

    status: int
    headers: httpx.Headers
    content: bytes
    live: httpx.Response | None = None


Exchange = Generator[Send | Wait, Answer | None, Answer]


def exchange(call: Call, max_retries: int, now: Callable[[], float] = time.monotonic) -> Exchange:
    """Carry a call through to its answer.

    Yields:
        Send, to be answered with an Answer or by throwing in the exception of HTTPX; Wait, to be answered with None.

    Args:
        call: the call.
        max_retries: how many times it may be sent again.
        now: the clock, in seconds.

    Returns:
        The answer, of an expected status.

    Raises:
        GensegError: what the server says, or ConnectionFailed, InvalidAnswer or DeadlineExceeded.
    """
    deadline = now() + call.timeout_s
    retries = 0
    while True:
        cause: Exception | None = None
        try:
            answer = yield Send(call, deadline - now() + GRACE_S)
        except (httpx.HTTPError, httpx.StreamError) as failure:
            cause, error = failure, transport_error(failure, call)
            again = isinstance(failure, httpx.ConnectError | httpx.ConnectTimeout)
        else:
            assert answer is not None
            if answer.status in call.expected:
                return answer
            error = read_error(answer.status, answer.headers, answer.content, call.url)
            again = isinstance(error, errors.Overloaded)
        pause_s = pause_before(retries, error)
        if not again or retries >= max_retries or now() + pause_s >= deadline:
            raise error from cause
        retries += 1
        yield Wait(pause_s)


def pause_before(retries: int, error: errors.GensegError) -> float:
    """Say how long to wait before a retry.

    Args:
        retries: how many there were already.
        error: why there is to be another.

    Returns:
        Seconds: doubling, with up to a quarter on top so that clients turned away together do not return together;
        never less than the server's Retry-After.
    """
    backoff_s = BACKOFF_S * 2**retries
    if isinstance(error, errors.Overloaded):
        backoff_s = max(backoff_s, error.retry_after_s)
    return float(backoff_s * (1 + random.random() / 4))


def transport_error(cause: Exception, call: Call) -> errors.GensegError:
    """Turn an exception of HTTPX into one line that names the address."""
    reason = " ".join(str(cause).split()) or type(cause).__name__
    if isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout):
        return ConnectionFailed(f"{call.url}: cannot connect: {reason}")
    if isinstance(cause, httpx.TimeoutException):
        return errors.DeadlineExceeded(f"{call.url}: no answer within {call.timeout_s:g} s")
    return ConnectionFailed(f"{call.url}: the connection broke before the answer's end: {reason}")
