"""Counts the rows and images of a run, and defines the methods of a reporter of progress."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

RATE_OVER_S = 60.0


class Meter:
    """Counts rows and images, and computes rates.

    Args:
        rows: number of rows that this run processes.
        before: number of rows that earlier runs processed.
        clock: returns monotonic seconds.
    """

    def __init__(self, rows: int, before: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = clock()
        self._stopped: float | None = None
        self._before = before
        self._rows = rows
        self.done = 0
        self.failed = 0
        self.images = 0
        # (time, rows, images) of the last minute, so that the rates show the service's present speed.
        self._marks: deque[tuple[float, int, int]] = deque([(self._started, 0, 0)])

    def count(self, images: int, failed: bool) -> None:
        """Count one finished row. The images of a failed row do not count."""
        self.done += not failed
        self.failed += failed
        self.images += 0 if failed else images
        now = self._clock()
        if now - self._marks[-1][0] >= 0.1:
            self._marks.append((now, self.done + self.failed, self.images))
        while len(self._marks) > 2 and now - self._marks[1][0] > RATE_OVER_S:
            self._marks.popleft()

    def stop(self) -> None:
        """Stop the clock."""
        self._stopped = self._clock()

    @property
    def seconds(self) -> float:
        """Seconds from the start until now, or until the stop."""
        return (self._clock() if self._stopped is None else self._stopped) - self._started

    @property
    def images_per_s(self) -> float:
        """Images of this run, divided by its seconds; 0 before the first image."""
        return self.images / self.seconds if self.images and self.seconds > 0 else 0.0

    def line(self) -> str:
        """Return one line: rows done, failures, images per second and time left, at the rates of the last minute."""
        over = self.done + self.failed
        then, rows_then, images_then = self._marks[0]
        elapsed = self.seconds + self._started - then
        rows_per_s = (over - rows_then) / elapsed if elapsed > 0 else 0.0
        images_per_s = (self.images - images_then) / elapsed if elapsed > 0 else 0.0
        left_s = (self._rows - over) / rows_per_s if rows_per_s > 0 else None
        parts = [f"{self._before + over}/{self._before + self._rows} rows"]
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{images_per_s:.1f} images/s", "time left unknown" if left_s is None else f"{hours(left_s)} left"]
        return ", ".join(parts)


class Reporter(Protocol):
    """Shows the progress of a run, for example on the console."""

    def failure(self, text: str) -> None:
        """Report that a row failed."""

    def following(self, meter: Meter) -> AbstractAsyncContextManager[None]:
        """Report the progress repeatedly while the block runs, and once at its end."""


def hours(seconds: float) -> str:
    """Write a duration as h:mm:ss.

    >>> hours(3725)
    '1:02:05'
    """
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
