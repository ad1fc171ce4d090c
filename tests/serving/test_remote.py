"""Calls whose end is known before their answer: what Ray raises becomes the typed error, wherever it shows first."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError

from serve_app.errors import Overloaded, ReplicaDied
from serve_app.serving.remote import Caller, ParseCall


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
        (BackPressureError(num_queued_requests=9, max_queued_requests=8), Overloaded),
        (RayActorError(), ReplicaDied),
    ],
    ids=["full", "dead"],
)
async def test_entities_raise_what_the_call_came_to(error: Exception, expected: type[Exception]) -> None:
    caller = Caller(object(), "parser", 0, lambda _: None)  # type: ignore[arg-type]
    caller.retry_after_s = 7.0
    call = ParseCall(caller, lambda _: FailingResponse(error))
    with pytest.raises(expected) as raised:
        await call.entities()
    if isinstance(raised.value, Overloaded):
        assert raised.value.retry_after_s == 7.0
