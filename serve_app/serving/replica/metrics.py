"""The service's metrics. Ray exports them together with its own and adds the prefix `ray_`.

If Ray traces the request, timed stages also become spans of its trace (see `spans`).

Measured inside a replica of Ray 2.60: one `inc`, `observe` or `set` takes 4 us on an idle core, and up to 46 us on a
machine with four times more work than cores. The ingress makes two such calls per request, a segmenter about 15 per
image with four entities.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from ray.serve import metrics as ray_metrics

from serve_app.serving.replica.spans import spans_of_this_process
from serve_app.serving.replica.stage import Stage

READ_EVERY_S = 0.5
"""Pause between two updates of the gauges; Ray exports every few seconds."""

_SECONDS = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0]
_SIZES = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0]


class Gauge(Protocol):
    """The part of Ray's gauge that Watch uses."""

    def set(self, value: float, tags: dict[str, str]) -> None:
        """Set the value under these tags."""


class Watch:
    """Updates gauges periodically, while the event loop runs in which the Watch was made.

    Args:
        every_s: pause between two updates, in seconds.
    """

    def __init__(self, every_s: float = READ_EVERY_S) -> None:
        self._every_s = every_s
        self._watched: list[tuple[Gauge, dict[str, str], Callable[[], float]]] = []
        with suppress(RuntimeError):  # without an event loop, as in tests, no gauge is updated
            asyncio.get_running_loop().call_soon(self._read)

    def add(self, gauge: Gauge, tags: dict[str, str], read: Callable[[], float]) -> None:
        """Update a gauge under these tags from `read`, which the event loop's thread calls."""
        self._watched.append((gauge, tags, read))

    def _read(self) -> None:
        for gauge, tags, read in self._watched:
            gauge.set(read(), tags)
        asyncio.get_running_loop().call_later(self._every_s, self._read)


class Metrics:
    """The metrics of one replica; made inside the replica."""

    def __init__(self) -> None:
        def counter(name: str, description: str, *tag_keys: str) -> ray_metrics.Counter:
            return ray_metrics.Counter(name, description=description, tag_keys=tag_keys)  # type: ignore[arg-type]

        def gauge(name: str, description: str, *tag_keys: str) -> ray_metrics.Gauge:
            return ray_metrics.Gauge(name, description=description, tag_keys=tag_keys)  # type: ignore[arg-type]

        self._spans = spans_of_this_process()
        self._requests = counter("genseg_requests_total", "Answered requests.", "route", "status")
        self._request_seconds = ray_metrics.Histogram(
            "genseg_request_seconds", description="Time to the answer.", boundaries=_SECONDS, tag_keys=("route",)
        )
        self._stage_seconds = ray_metrics.Histogram(
            "genseg_stage_seconds", description="Time of one stage.", boundaries=_SECONDS, tag_keys=("stage",)
        )
        self._images = counter("genseg_images_total", "Segmented images.")
        self._objects = counter("genseg_objects_total", "Found objects.")
        self.batch_size = ray_metrics.Histogram(
            "genseg_batch_size", description="Items in one batch.", boundaries=_SIZES, tag_keys=("axis",)
        )
        self._hits = counter("genseg_cache_hits_total", "Cache hits.", "cache")
        self._misses = counter("genseg_cache_misses_total", "Cache misses.", "cache")
        self._cache_bytes = gauge("genseg_cache_bytes", "Bytes in a cache.", "cache")
        self._queue_length = gauge("genseg_queue_length", "Waiting items.", "queue")
        # A gauge, because Ray's counters only take increments. It never falls, so `rate` works on it in Prometheus.
        self._busy_seconds = gauge("genseg_busy_seconds", "Seconds of work so far.", "of")
        self._watch = Watch()
        self._retries = counter("genseg_retries_total", "Repeated calls.", "stage")
        self._rejections = counter("genseg_rejections_total", "Answers with an error.", "code")

    def watch_cache(self, cache: str, read_bytes: Callable[[], float]) -> None:
        """Export a cache's size."""
        self._watch.add(self._cache_bytes, {"cache": cache}, read_bytes)

    def watch_queue(self, queue: str, read_length: Callable[[], float]) -> None:
        """Export a queue's length."""
        self._watch.add(self._queue_length, {"queue": queue}, read_length)

    def watch_busy(self, of: str, read_seconds: Callable[[], float]) -> None:
        """Export for how long something has worked, as a cumulative sum."""
        self._watch.add(self._busy_seconds, {"of": of}, read_seconds)

    def segmented(self, objects: int) -> None:
        """Count one image and the objects found in it."""
        self._images.inc()
        if objects:  # Ray refuses to add 0
            self._objects.inc(objects)

    def cache_lookup(self, cache: str, hit: bool) -> None:
        """Count one lookup."""
        (self._hits if hit else self._misses).inc(tags={"cache": cache})
        if self._spans is not None:
            self._spans.add(f"cache.{cache}.{'hits' if hit else 'misses'}")

    def retried(self, stage: str) -> None:
        """Count a repeated call."""
        self._retries.inc(tags={"stage": stage})
        if self._spans is not None:
            self._spans.add("retries")

    def answered(self, route: str, status: int, seconds: float, code: str | None) -> None:
        """Count an answer and its time; `code` is the error's, None without an error."""
        self._requests.inc(tags={"route": route, "status": str(status)})
        self._request_seconds.observe(seconds, tags={"route": route})
        if code is not None:
            self._rejections.inc(tags={"code": code})
        if self._spans is not None:
            self._spans.answered(status, code)

    @contextmanager
    def stage(self, name: str, span: str | None = None) -> Iterator[Stage]:
        """Measure a block as one stage of a request's work.

        Args:
            name: the stage's name.
            span: its name in traces; the same by default.

        Yields:
            The stage, which the block gives its sizes and counts.
        """
        stage = Stage()
        error: BaseException | None = None
        started = time.perf_counter()
        try:
            yield stage
        except BaseException as raised:
            error = raised
            raise
        finally:
            ended = time.perf_counter()
            self._stage_seconds.observe(ended - started, tags={"stage": name})
            if self._spans is not None:
                self._spans.record(span or name, started, ended, stage, error)
