"""Errors of remote calls: whatever Ray raises becomes a typed error, wherever it appears first."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ray.exceptions import RayActorError
from ray.serve._private.common import DeploymentID
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from serve_app.errors import (
    DeadlineExceeded,
    DeploymentUnavailable,
    GensegError,
    InternalError,
    Overloaded,
    ReplicaDied,
)
from serve_app.serving.remote import Caller, ParseCall, SegmenterCalls


class FailingResponse:
    """A response that fails after a moment, both for who waits for its answer and for who asks for its reference."""

    def __init__(self, error: Exception) -> None:
        self._failure = asyncio.ensure_future(self._fail(error))

    async def _fail(self, error: Exception) -> None:
        await asyncio.sleep(0.01)
        raise error

    def __await__(self) -> Any:
        return asyncio.shield(self._failure).__await__()

    async def _to_object_ref(self) -> Any:
        await asyncio.shield(self._failure)

    def cancel(self) -> None:
        self._failure.cancel()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (BackPressureError(num_queued_requests=9, max_queued_requests=8), Overloaded("the parser's queues are full")),
        (
            DeploymentUnavailableError(DeploymentID("ParserDeployment")),
            DeploymentUnavailable("the parser is not available; try again later"),
        ),
        (RayActorError(), ReplicaDied("a replica of the parser died in every attempt (attempts: 1)")),
    ],
    ids=["full", "failed to deploy", "dead"],
)
async def test_entities_raise_what_the_call_came_to(error: Exception, expected: GensegError) -> None:
    caller = Caller(object(), "parser", 0, lambda _: None)  # type: ignore[arg-type]
    caller.retry_after_s = 7.0
    call = ParseCall(caller, lambda _: FailingResponse(error))
    with pytest.raises(type(expected)) as raised:
        await call.reference()
    assert (type(raised.value), raised.value.message) == (type(expected), expected.message)
    if isinstance(raised.value, Overloaded):
        assert raised.value.retry_after_s == 7.0


class Checking:
    """A segmenter's handle that cannot read "long" and notes what it is asked; slow, or failing, where told to be."""

    def __init__(self, seconds: float = 0, failure: Exception | None = None) -> None:
        self.asked: list[list[str]] = []
        self._seconds, self._failure = seconds, failure
        self.check_phrases = self

    def remote(self, phrases: list[str], *_: object) -> Any:
        self.asked.append(phrases)
        return Answering(self._answer(phrases))

    async def _answer(self, phrases: list[str]) -> Any:
        await asyncio.sleep(self._seconds)
        return self._failure or {phrase: "too long" for phrase in phrases if phrase == "long"}


class Answering:
    def __init__(self, work: Any) -> None:
        self._task = asyncio.ensure_future(work)

    def __await__(self) -> Any:
        return self._task.__await__()

    def cancel(self) -> None:
        self._task.cancel()


async def test_phrases_that_the_segmenter_can_read_are_asked_about_once() -> None:
    handle: Any = Checking()
    calls = SegmenterCalls(handle, 0, lambda _: None)
    assert await calls.unreadable(["dog", "long"], "request", 10) == {"long": "too long"}
    assert await calls.unreadable(["cat", "dog", "long"], "request", 10) == {"long": "too long"}
    assert await calls.unreadable(["cat", "dog"], "request", 10) == {}
    assert await calls.unreadable([], "request", 10) == {}
    assert handle.asked == [["dog", "long"], ["cat", "long"]]


@pytest.mark.parametrize(
    ("handle", "expected"),
    [(Checking(seconds=9), DeadlineExceeded), (Checking(failure=InternalError("broken")), InternalError)],
    ids=["slow", "failing"],
)
async def test_what_the_segmenter_could_not_tell_is_an_error_and_is_asked_again(
    handle: Any, expected: type[Exception]
) -> None:
    calls = SegmenterCalls(handle, 0, lambda _: None)
    for _ in range(2):
        with pytest.raises(expected):
            await calls.unreadable(["dog"], "request", 0.01)
    assert len(handle.asked) == 2
