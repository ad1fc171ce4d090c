"""Decides when a call is sent again, and which error ends it.

`exchange` is a generator without sockets. It yields the next step, Send or Wait. The client does the step, and sends
the answer back into the generator. So the sync and the async client make the same decisions. Source: HTTPX's
`Auth.auth_flow` has this form.

A call is sent again only if the server cannot have worked on it: if no connection was made, or if the answer is the
error `overloaded`. After a timeout, a 504 or a broken connection it is not sent again, because the server may have done
the work, and doing it twice would add to the server's load.
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
GRACE_S = 1.0  # the client waits so much longer than the server, so that the server's 504 arrives, which says more
MAX_TIMEOUT_S = 86400.0
"""A day. A longer timeout is a mistake, and a much longer one overflows the timers of operating systems."""
BACKOFF_S = 0.25  # before the first retry; doubles with each


class HttpBody(TypedDict, total=False):
    """Arguments of `httpx.Client.build_request` for the body: a form, or JSON."""

    data: dict[str, str]
    files: list[tuple[str, tuple[str, bytes, str]]]
    json: JsonValue


class HttpArguments(HttpBody):
    """All arguments of `httpx.Client.build_request`."""

    method: str
    url: str
    headers: Mapping[str, str]
    timeout: httpx.Timeout


@dataclass(frozen=True)
class Call:
    """One HTTP request to make, which may be sent several times.

    Args:
        method: HTTP method.
        url: the whole address, without user name and password, because messages show it.
        timeout_s: how long the call may take with its retries, in seconds.
        headers: headers besides those of every call.
        body: the arguments of `httpx.Client.build_request` for the body.
        stream: whether the body of a 200 is read line by line as it arrives, and not at once.
        expected: the statuses that are not errors.
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
    """The step to send the call and wait at most `wait_s` seconds for the answer."""

    call: Call
    wait_s: float

    @property
    def arguments(self) -> HttpArguments:
        """Arguments of `httpx.Client.build_request`. The timeout limits each connect, read and write by itself."""
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
    """The step to wait this many seconds."""

    seconds: float


@dataclass(frozen=True)
class Answer:
    """The server's answer. For a stream, `content` is empty, and `live` is the open response with the stream."""

    status: int
    headers: httpx.Headers
    content: bytes
    live: httpx.Response | None = None


Exchange = Generator[Send | Wait, Answer | None, Answer]


def exchange(call: Call, max_retries: int, now: Callable[[], float] = time.monotonic) -> Exchange:
    """Make a call, with retries.

    Yields:
        Send, for which the client sends an Answer back, or throws HTTPX's exception; or Wait, for which it sends None.

    Args:
        call: the call.
        max_retries: how many times it may be sent again.
        now: the clock, in seconds.

    Returns:
        The answer, whose status is one of `call.expected`.

    Raises:
        GensegError: the server's error, or ConnectionFailed, InvalidAnswer or DeadlineExceeded.
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
    """Return how long to wait before a retry.

    Args:
        retries: how many retries there were before.
        error: the error that leads to this retry.

    Returns:
        Seconds. The pause doubles with each retry, and is at least the server's Retry-After. Up to a quarter is added
        at random, so that clients that were refused together do not come back together.
    """
    backoff_s = BACKOFF_S * 2**retries
    if isinstance(error, errors.Overloaded):
        backoff_s = max(backoff_s, error.retry_after_s)
    return float(backoff_s * (1 + random.random() / 4))


def transport_error(cause: Exception, call: Call) -> errors.GensegError:
    """Translate an exception of HTTPX into an error, whose message is one line that begins with the address."""
    reason = " ".join(str(cause).split()) or type(cause).__name__
    if isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout):
        return ConnectionFailed(f"{call.url}: cannot connect: {reason}")
    if isinstance(cause, httpx.TimeoutException):
        return errors.DeadlineExceeded(f"{call.url}: no answer within {call.timeout_s:g} s")
    return ConnectionFailed(f"{call.url}: the connection broke before the answer was complete: {reason}")
