"""How much a replica works, for the autoscaling (see `serving.autoscaling`).

All sums only ever grow, and reading them changes nothing: it does not matter who asks, nor how often. Measured: 2 us
for a pass, 0.5 us for a piece of work of a thread. For use from the event loop's thread only.

A pass over a batch that is not full wastes time: a language model reads all its weights for one prompt as for eight. So
a device may be busy all the time and still have room. `PassTimes` learns from passes of different sizes how long a full
one takes; until then the work is known between two bounds.

The seconds of a pass are those until the model's method returns. On a GPU the vision pass returns before the GPU is
done; the next pass that reads results back waits for it, and the rest of the time counts there.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from serve_app.serving.autoscaling import LEAST_S, MOST_S, QUEUED_S

FORGET = 0.98
"""Weight of a pass after one more pass: the last fifty or so count."""
LEAST_PASSES = 8
"""Passes before which nothing is learnt: a first one may be slow for reasons of its own."""
LEAST_SPREAD = 0.05
"""Standard deviation of the passes' fill below which nothing can be learnt from their times."""


class BusyTime:
    """Seconds of work of something that does several pieces of work at once; only ever grows.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rate = 0.0
        self._sum = 0.0
        self._since = clock()

    @property
    def seconds(self) -> float:
        """Up to now, that of pieces under way included."""
        return self._sum + self._rate * (self._clock() - self._since)

    def begin(self, weight: float = 1.0) -> None:
        """A piece of work begins whose seconds count so much each."""
        now = self._clock()
        self._sum += self._rate * (now - self._since)
        self._since = now
        self._rate += weight

    def end(self, weight: float = 1.0) -> None:
        """It is done."""
        self.begin(-weight)


class PassTimes:
    """Learns how the time of a pass grows with its fill: seconds = fixed + slope * fill.

    If the budget of the batches changes, fills before and after differ in meaning until the old passes are forgotten.
    """

    def __init__(self) -> None:
        self._count = 0
        self._weight = self._fill = self._seconds = self._squares = self._products = 0.0

    def note(self, fill: float, seconds: float) -> None:
        """Learn from a pass.

        Args:
            fill: share of the budget that its batch took, in (0, 1].
            seconds: that it took.
        """
        self._count += 1
        self._weight = FORGET * self._weight + 1
        self._fill = FORGET * self._fill + fill
        self._seconds = FORGET * self._seconds + seconds
        self._squares = FORGET * self._squares + fill * fill
        self._products = FORGET * self._products + fill * seconds

    @property
    def full_s(self) -> float:
        """Seconds of a full pass; where that is not known, of a mean one, which is less; 0 before the first pass."""
        fixed_s, slope_s = self._line() or (self._seconds / (self._weight or 1.0), 0.0)
        return fixed_s + slope_s

    def worth(self, fill: float) -> tuple[float, float]:
        """Return which share of its own time a pass would take as part of a full one, at least and at most.

        Args:
            fill: as for `note`.
        """
        line = self._line()
        if line is None:
            return fill, 1.0
        fixed_s, slope_s = line
        seconds = fixed_s + slope_s * fill
        share = fill * (fixed_s + slope_s) / seconds if seconds > 0 else 1.0
        return share, share

    def _line(self) -> tuple[float, float] | None:
        """Fit fixed and slope, neither below 0; None after few passes, and where all were about as full."""
        if self._count < LEAST_PASSES:
            return None
        fill, seconds = self._fill / self._weight, self._seconds / self._weight
        variance = self._squares / self._weight - fill * fill
        if variance < LEAST_SPREAD**2:
            return None
        slope_s = max(0.0, (self._products / self._weight - fill * seconds) / variance)
        # Through the mean, so that a line that would begin below 0 begins at 0.
        slope_s = min(slope_s, seconds / fill)
        return seconds - slope_s * fill, slope_s


class DeviceWork:
    """The work of one device, on which several batchers take turns.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._busy, self._least, self._most = BusyTime(clock), BusyTime(clock), BusyTime(clock)
        self._queues: list[Callable[[], float]] = []

    @property
    def busy_s(self) -> float:
        """Seconds in which a pass ran."""
        return self._busy.seconds

    @property
    def least_s(self) -> float:
        """Seconds of full passes that the same items would have taken, at least."""
        return self._least.seconds

    @property
    def most_s(self) -> float:
        """The same, at most."""
        return self._most.seconds

    @property
    def queued_s(self) -> float:
        """Seconds that the items need that wait now; of passes that never ran it knows nothing."""
        return sum(read() for read in self._queues)

    def report(self) -> dict[str, float]:
        """Return what the autoscaling reads."""
        return {LEAST_S: self.least_s, MOST_S: self.most_s, QUEUED_S: self.queued_s}

    def watch(self, queued_s: Callable[[], float]) -> None:
        """Count a queue whose items need so many seconds of this device."""
        self._queues.append(queued_s)

    def begin(self, fill: float, times: PassTimes) -> Callable[[], None]:
        """A pass begins.

        Args:
            fill: share of the budget that its batch takes, in (0, 1].
            times: of passes of its kind; learns from this one.

        Returns:
            What to call when it is done.
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
