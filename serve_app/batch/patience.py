"""Calls that wait: a service that is full is asked again later, one that is away gets time to come back.

Knows no Ray: `ServiceAway` is what `service` makes of a lost replica.
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
"""Whoever does one job: a request in, the result document out; raises GensegError."""

FULL_FOR_S = 600.0
AWAY_FOR_S = 120.0
_LONGEST_PAUSE_S = 15.0


class ServiceAway(InternalError):
    """The service does not answer at the moment: a replica died, or none is there yet."""


class ServiceLost(GensegError):
    """The service does not come back: the whole job ends, and no row is to blame."""


class Patient:
    """Makes a Segment that waits where waiting helps.

    A waiting row keeps its place among those at work, so a full service is asked less and less by itself.

    Args:
        segment: does the job.
        full_for_s: how long one row waits for a service that is full; then it fails as `overloaded`.
        away_for_s: how long one row waits for a service that is away; then the whole job ends. As long it waits for a
            parser's server that does not answer; then the row fails as `model_unavailable`.
        sleep: waits; tests bring one that does not.
        clock: seconds, never going back.
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
        """Do one job.

        Raises:
            ServiceLost: the service was away for too long.
            GensegError: what the service answered in the end.
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
                    raise ServiceLost(f"the service does not come back: {error.message}") from None
                pause_s = 0.5 * 1.5 ** (tries - 1)
            # Spread, so that the rows that were refused together do not come back together.
            await self._sleep(min(pause_s, _LONGEST_PAUSE_S) * random.uniform(0.5, 1.0))
