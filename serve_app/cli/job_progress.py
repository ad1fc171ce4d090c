"""Reports how far a dataset job is. On a terminal one line is rewritten; a log file gets a line every 10 seconds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serve_app.batch.progress import Meter
from serve_app.cli.console import Progress

TERMINAL_EVERY_S = 0.5
LOG_EVERY_S = 10.0
SHOWN_FAILURES = 10


class JobProgress:
    """Writes a meter's line while a job runs; see batch.progress.Reporter.

    Args:
        progress: where lines go.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._failures = 0

    def failure(self, text: str) -> None:
        """Write a line about a failed row, for the first SHOWN_FAILURES rows. The errors folder has all of them."""
        self._failures += 1
        if self._failures <= SHOWN_FAILURES:
            self._progress.say(text)
        elif self._failures == SHOWN_FAILURES + 1:
            self._progress.say("further failures are not shown")

    @asynccontextmanager
    async def following(self, meter: Meter) -> AsyncIterator[None]:
        """Write the meter's line repeatedly while the block runs, and once at its end."""
        ticker = asyncio.ensure_future(self._tick(meter))
        try:
            yield
        finally:
            ticker.cancel()
            await asyncio.wait([ticker])
            self._progress.say(meter.line())

    async def _tick(self, meter: Meter) -> None:
        every_s, write = (
            (TERMINAL_EVERY_S, self._progress.show) if self._progress.on_terminal else (LOG_EVERY_S, self._progress.say)
        )
        while True:
            await asyncio.sleep(every_s)
            write(meter.line())
