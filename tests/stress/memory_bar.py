"""The limit for memory: how fast a process may grow in the second half of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MAX_MIB_PER_10_000 = 1.0
MAX_NEW_FDS = 8
SERVING = ("ray::ProxyActor", "ray::ServeController", "ray::ServeReplica")
"""How the names of the processes begin for which the bar holds. The others are Ray's own daemons."""


@dataclass(frozen=True)
class Reading:
    """A process, idle.

    Attributes:
        requests: sent to the service before.
        mib: its memory without shared pages.
        fds: its open file descriptors.
    """

    requests: int
    mib: float
    fds: int


def mib_per_10_000(readings: Sequence[Reading]) -> float:
    """How much memory a process gains in 10,000 requests: the slope of the straight line through the second half.

    Least squares, not the last reading against one before: a buffer that happens to be kept is 4 MiB in Serve's proxy.

    Args:
        readings: in order, at least two of them in the second half of the requests.

    Raises:
        ValueError: there are fewer.
    """
    half = (readings[0].requests + readings[-1].requests) / 2
    second = [reading for reading in readings if reading.requests >= half]
    if len({reading.requests for reading in second}) < 2:
        raise ValueError("a slope takes two readings in the second half")
    slope, _ = np.polyfit([reading.requests for reading in second], [reading.mib for reading in second], 1)
    return float(10_000 * slope)


def faults(name: str, readings: Sequence[Reading]) -> list[str]:
    """Say what is over the bar in one process; nothing is said of processes that serve no requests."""
    if not name.startswith(SERVING):
        return []
    found = []
    slope = mib_per_10_000(readings)
    if slope >= MAX_MIB_PER_10_000:
        found.append(f"{name}: {slope:.2f} MiB more in 10,000 requests; the bar is {MAX_MIB_PER_10_000:g}")
    new = readings[-1].fds - readings[0].fds
    if new > MAX_NEW_FDS:
        found.append(f"{name}: {new} more file descriptors; the bar is {MAX_NEW_FDS}")
    return found
