"""Measure how much a replica works, for autoscaling (see `serving.autoscaling`).

A pass is one run of a model over a batch. The device is the CPU or GPU on which the replica's models run.

All sums are cumulative, and reading does not reset them, so any number of readers may read them. Measured cost: 2 us
per pass, 0.5 us per piece of work of a thread. Use from the event loop's thread only.

A pass over a partly filled batch wastes time: a language model reads all its weights for one prompt as for eight. So a
device can be busy all the time and still take more work. `PassTimes` learns from passes of different sizes how long a
full pass takes. Until then, only a lower and an upper bound of the work are known.

The time of a pass ends when the model's method returns. On a GPU, the vision pass returns before the GPU has finished.
The next pass that reads results from the GPU waits for the vision pass, so the remaining time counts as its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from serve_app.serving.autoscaling import LEAST_S, MOST_S, QUEUED_S

FORGET = 0.98
"""Each new pass multiplies the weight of older ones by this, so that about the last fifty passes count."""
LEAST_PASSES = 8
"""Passes before the first estimate; the very first passes may be slow for other reasons."""
LEAST_SPREAD = 0.05
"""The fill of a pass is the used share of the batch budget. If the standard deviation of the fill is below this, the
times of the passes do not show how time depends on fill."""


class BusyTime:
    """Sums the seconds of pieces of work that may run at the same time.

    Args:
        clock: returns seconds; must not go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rate = 0.0
        self._sum = 0.0
        self._since = clock()

    @property
    def seconds(self) -> float:
        """The weighted seconds of work until now, unfinished pieces included."""
        return self._sum + self._rate * (self._clock() - self._since)

    def begin(self, weight: float = 1.0) -> None:
        """Begin a piece of work; each of its seconds counts `weight` seconds."""
        now = self._clock()
        self._sum += self._rate * (now - self._since)
        self._since = now
        self._rate += weight

    def end(self, weight: float = 1.0) -> None:
        """End a piece of work that began with this weight."""
        self.begin(-weight)


class PassTimes:
    """Learns how the time of a pass grows with its fill: seconds = fixed + slope * fill.

    After a change of the batch budget, the estimate is wrong until the older passes no longer count.
    """

    def __init__(self) -> None:
        self._count = 0
        self._weight = self._fill = self._seconds = self._squares = self._products = 0.0

    def note(self, fill: float, seconds: float) -> None:
        """Learn from a pass.

        Args:
            fill: the share of the budget that its batch used, in (0, 1].
            seconds: how long the pass took.
        """
        self._count += 1
        self._weight = FORGET * self._weight + 1
        self._fill = FORGET * self._fill + fill
        self._seconds = FORGET * self._seconds + seconds
        self._squares = FORGET * self._squares + fill * fill
        self._products = FORGET * self._products + fill * seconds

    @property
    def full_s(self) -> float:
        """Estimated seconds of a full pass; without an estimate, of a mean pass, which is less; 0 before any pass."""
        fixed_s, slope_s = self._line() or (self._seconds / (self._weight or 1.0), 0.0)
        return fixed_s + slope_s

    def worth(self, fill: float) -> tuple[float, float]:
        """Return the share of a pass's time that the items of the pass would need in a full batch.

        Args:
            fill: as in `note`.

        Returns:
            A lower and an upper bound of the share; equal once there is an estimate.
        """
        line = self._line()
        if line is None:
            return fill, 1.0
        fixed_s, slope_s = line
        seconds = fixed_s + slope_s * fill
        share = fill * (fixed_s + slope_s) / seconds if seconds > 0 else 1.0
        return share, share

    def _line(self) -> tuple[float, float] | None:
        """Fit fixed and slope, both at least 0; None after too few passes, or if all had about the same fill."""
        if self._count < LEAST_PASSES:
            return None
        fill, seconds = self._fill / self._weight, self._seconds / self._weight
        variance = self._squares / self._weight - fill * fill
        if variance < LEAST_SPREAD**2:
            return None
        slope_s = max(0.0, (self._products / self._weight - fill * seconds) / variance)
        # The line goes through the mean point. With this limit, its value at fill 0 is at least 0.
        slope_s = min(slope_s, seconds / fill)
        return seconds - slope_s * fill, slope_s


class DeviceWork:
    """Measures the work of one device that several batchers share.

    Args:
        clock: returns seconds; must not go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._busy, self._least, self._most = BusyTime(clock), BusyTime(clock), BusyTime(clock)
        self._queues: list[Callable[[], float]] = []

    @property
    def busy_s(self) -> float:
        """Seconds during which a pass ran."""
        return self._busy.seconds

    @property
    def least_s(self) -> float:
        """Lower bound of the seconds that the same items would have taken in full batches."""
        return self._least.seconds

    @property
    def most_s(self) -> float:
        """Upper bound of the seconds that `least_s` bounds from below."""
        return self._most.seconds

    @property
    def queued_s(self) -> float:
        """Estimated seconds for the items in all queues; a kind of pass that has never run counts 0."""
        return sum(read() for read in self._queues)

    def report(self) -> dict[str, float]:
        """Return the values that autoscaling reads, by name."""
        return {LEAST_S: self.least_s, MOST_S: self.most_s, QUEUED_S: self.queued_s}

    def watch(self, queued_s: Callable[[], float]) -> None:
        """Include a queue; `queued_s` returns how many device seconds the items in the queue need."""
        self._queues.append(queued_s)

    def begin(self, fill: float, times: PassTimes) -> Callable[[], None]:
        """Record that a pass begins.

        Args:
            fill: the share of the budget that its batch uses, in (0, 1].
            times: the times of this kind of pass; gets the time of this pass too.

        Returns:
            A function to call when the pass ends.
        """
        started = self._clock()
        least, most = times.worth(fill)
        self._busy.begin()
        self._least.begin(least)
        self._most.begin(most)

        def end() -> None:
            self._busy.end()
            self._least.end(least)
            self._most.end(most)
            times.note(fill, self._clock() - started)

        return end
