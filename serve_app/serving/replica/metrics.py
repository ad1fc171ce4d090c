"""The service's own metrics, exported by Ray beside its own (with the prefix `ray_`). Knows nothing of the work.

Ray exports every few seconds, but each `inc` of its counters costs tens of microseconds. So counts are added up here
and handed to Ray half a second later, and what a gauge watches is read then. Used from the event loop's thread only.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from ray.serve import metrics as ray_metrics

HAND_OVER_S = 0.5
Tags = tuple[tuple[str, str], ...]

_SECONDS = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0]
_SIZES = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0]


class HandOver:
    """Calls all that has something for Ray, `HAND_OVER_S` after the first word of it; at once outside a loop."""

    def __init__(self) -> None:
        self._functions: list[Callable[[], None]] = []
        self._due = False

    def register(self, function: Callable[[], None]) -> None:
        """Call it every time."""
        self._functions.append(function)

    def soon(self) -> None:
        """Say that there is something."""
        if self._due:
            return
        try:
            asyncio.get_running_loop().call_later(HAND_OVER_S, self._now)
            self._due = True
        except RuntimeError:
            self._now()

    def _now(self) -> None:
        self._due = False
        for function in self._functions:
            function()


class Counter:
    """Counts by tags.

    Args:
        counter: Ray's.
        hand_over: calls it now and then.
    """

    def __init__(self, counter: ray_metrics.Counter, hand_over: HandOver) -> None:
        self._counter, self._hand_over = counter, hand_over
        self._counts: defaultdict[Tags, float] = defaultdict(float)
        hand_over.register(self._flush)

    def inc(self, value: float = 1, tags: Mapping[str, str] | None = None) -> None:
        """Add to the count; nothing happens for 0."""
        if value:
            self._counts[tuple((tags or {}).items())] += value
            self._hand_over.soon()

    def _flush(self) -> None:
        for tags, count in self._counts.items():
            self._counter.inc(count, tags=dict(tags))
        self._counts.clear()


class Gauge:
    """Values that are read whenever something is handed over.

    Args:
        gauge: Ray's.
        hand_over: calls it now and then.
    """

    def __init__(self, gauge: ray_metrics.Gauge, hand_over: HandOver) -> None:
        self._gauge = gauge
        self._reads: dict[Tags, Callable[[], float]] = {}
        hand_over.register(self._flush)

    def watch(self, read: Callable[[], float], tags: Mapping[str, str]) -> None:
        """Show what `read` returns, under these tags."""
        self._reads[tuple(tags.items())] = read

    def _flush(self) -> None:
        for tags, read in self._reads.items():
            self._gauge.set(read(), tags=dict(tags))


class Metrics:
    """Counters and histograms of one replica; made inside the replica."""

    def __init__(self) -> None:
        hand_over = HandOver()

        def counter(name: str, description: str, *tag_keys: str) -> Counter:
            return Counter(ray_metrics.Counter(name, description=description, tag_keys=tag_keys), hand_over)  # type: ignore[arg-type]

        def gauge(name: str, description: str, *tag_keys: str) -> Gauge:
            return Gauge(ray_metrics.Gauge(name, description=description, tag_keys=tag_keys), hand_over)  # type: ignore[arg-type]

        self.requests = counter("genseg_requests_total", "Answered requests.", "route", "status")
        self.request_seconds = ray_metrics.Histogram(
            "genseg_request_seconds", description="Time to the answer.", boundaries=_SECONDS, tag_keys=("route",)
        )
        self.stage_seconds = ray_metrics.Histogram(
            "genseg_stage_seconds", description="Time of one stage.", boundaries=_SECONDS, tag_keys=("stage",)
        )
        self.images = counter("genseg_images_total", "Segmented images.")
        self.objects = counter("genseg_objects_total", "Found objects.")
        self.batch_size = ray_metrics.Histogram(
            "genseg_batch_size", description="Items of one forward.", boundaries=_SIZES, tag_keys=("axis",)
        )
        self._hits = counter("genseg_cache_hits_total", "Cache hits.", "cache")
        self._misses = counter("genseg_cache_misses_total", "Cache misses.", "cache")
        self._cache_bytes = gauge("genseg_cache_bytes", "Bytes in a cache.", "cache")
        self._queue_length = gauge("genseg_queue_length", "Waiting items.", "queue")
        self.retries = counter("genseg_retries_total", "Repeated calls.", "stage")
        self.rejections = counter("genseg_rejections_total", "Refused work.", "code")

    def watch_cache(self, cache: str, read_bytes: Callable[[], float]) -> None:
        """Show a cache's size."""
        self._cache_bytes.watch(read_bytes, {"cache": cache})

    def watch_queue(self, queue: str, read_length: Callable[[], float]) -> None:
        """Show a queue's length."""
        self._queue_length.watch(read_length, {"queue": queue})

    def cache_lookup(self, cache: str, hit: bool) -> None:
        """Count one lookup."""
        (self._hits if hit else self._misses).inc(tags={"cache": cache})

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block as one stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.stage_seconds.observe(time.perf_counter() - started, tags={"stage": name})
