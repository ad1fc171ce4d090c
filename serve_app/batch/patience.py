"""Repeats calls of a service that is full or does not answer, with pauses.

Knows no Ray: `service` translates the loss of a replica into `ServiceAway`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from serve_app.errors import GensegError, InternalError, ModelUnavailable, Overloaded
from serve_app.schemas.dicts import ResultDict
from serve_app.schemas.requests import SegmentRequest

Segment = Callable[[SegmentRequest], Awaitable[ResultDict]]
"""A function that segments one row: takes a request, returns the result document, raises GensegError."""

FULL_FOR_S = 600.0
AWAY_FOR_S = 120.0
_LONGEST_PAUSE_S = 15.0


class ServiceAway(InternalError):
    """The service does not answer at the moment: a replica died, or none runs yet."""


class ServiceLost(GensegError):
    """The service did not answer for too long: the whole batch ends, and no row counts as failed because of this."""


class Patient:
    """Calls a `Segment` function again after a pause, as long as that may help.

    A row that waits still counts as in progress, so a full service gets fewer new requests.

    Args:
        segment: the function to call.
        full_for_s: how long one row waits while the service is full; then the row fails as `overloaded`.
        away_for_s: how long one row waits while the service does not answer; then the whole batch ends. A row also
            waits this long if the text model's server does not answer; then only the row fails, as `model_unavailable`.
        sleep: waits for some seconds; tests pass one that does not wait.
        clock: returns monotonic seconds.
    """

    def __init__(
        self,
        segment: Segment,
        *,
        full_for_s: float = FULL_FOR_S,
        away_for_s: float = AWAY_FOR_S,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._segment = segment
        self._full_for_s = full_for_s
        self._away_for_s = away_for_s
        self._sleep = sleep
        self._clock = clock

    async def __call__(self, request: SegmentRequest) -> ResultDict:
        """Send one request and return the result document.

        Raises:
            ServiceLost: the service did not answer for too long.
            GensegError: the error of the last try.
        """
        started = self._clock()
        tries = 0
        while True:
            tries += 1
            try:
                return await self._segment(request)
            except Overloaded as error:
                if self._clock() - started > self._full_for_s:
                    raise
                pause_s = error.retry_after_s * 1.5 ** (tries - 1)
            except ModelUnavailable as error:
                if error.retry_after_s is None or self._clock() - started > self._away_for_s:
                    raise
                pause_s = max(error.retry_after_s, 0.5) * 1.5 ** (tries - 1)
            except ServiceAway as error:
                if self._clock() - started > self._away_for_s:
                    raise ServiceLost(f"the service does not answer any more: {error.message}") from None
                pause_s = 0.5 * 1.5 ** (tries - 1)
            # Random, so that rows that were refused together do not come back together.
            await self._sleep(min(pause_s, _LONGEST_PAUSE_S) * random.uniform(0.5, 1.0))
