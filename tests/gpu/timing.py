"""Times device work: medians between synchronisations, and how long the device itself was busy meanwhile."""

from __future__ import annotations

import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed_s(run: Callable[[], object], device: torch.device) -> float:
    """Run once; seconds until the device is done."""
    synchronize(device)
    started = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - started


def median_s(run: Callable[[], object], device: torch.device, *, warm_up: int = 2, times: int = 7) -> float:
    """Run `warm_up` times unmeasured, then `times` times; the median in seconds."""
    for _ in range(warm_up):
        run()
    return statistics.median(timed_s(run, device) for _ in range(times))


@dataclass(frozen=True)
class Busy:
    """What the device did during some work.

    Attributes:
        wall_s: seconds on the clock, with the profiler's own cost.
        busy_s: seconds in which at least one kernel or copy ran.
        kernels: how many there were.
        top: seconds by kernel, the most first.
    """

    wall_s: float
    busy_s: float
    kernels: int
    top: tuple[tuple[str, float], ...]

    @property
    def share(self) -> float:
        """Part of the time in which the device was busy."""
        return self.busy_s / self.wall_s if self.wall_s else 0.0


class Watched:
    """A profile of the device while a block runs: `with watched(device) as seen: ...`, then `seen.busy()`.

    Without a GPU it counts the operators of this thread, so that the code can be tried.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        on_gpu = device.type == "cuda"
        self._profile: Any = profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU])
        self._kind = "CUDA" if on_gpu else "CPU"
        self._seconds = 0.0

    def __enter__(self) -> Watched:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._profile.__enter__()
        synchronize(self._device)
        self._started = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        synchronize(self._device)
        self._seconds = time.perf_counter() - self._started
        self._profile.__exit__(*error)

    def busy(self) -> Busy:
        """Sum up what ran."""
        events = [
            (event.start_ns(), event.start_ns() + event.duration_ns(), str(event.name()))
            for event in self._profile.profiler.kineto_results.events()
            if event.device_type().name == self._kind
        ]
        by_name: Counter[str] = Counter()
        for start, end, name in events:
            by_name[name] += end - start
        top = tuple((name, nanoseconds / 1e9) for name, nanoseconds in by_name.most_common(8))
        return Busy(self._seconds, union_s((start, end) for start, end, _ in events), len(events), top)


def union_s(spans: Iterable[tuple[int, int]]) -> float:
    """Sum up spans of nanoseconds, counting what overlaps once; in seconds.

    >>> union_s([(0, 10), (5, 20), (30, 40)])
    3e-08
    """
    total = reached = 0
    for start, end in sorted(spans):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total / 1e9


def profiled(run: Callable[[], object], device: torch.device, *, times: int = 3) -> Busy:
    """Run a few times under the profiler, after one run without it."""
    run()
    with Watched(device) as seen:
        for _ in range(times):
            run()
    return seen.busy()
