"""The service's own metrics, exported by Ray beside its own (with the prefix `ray_`). Knows nothing of the work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ray.serve import metrics as ray_metrics

_SECONDS = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0]
_SIZES = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0]


class Metrics:
    """Counters and histograms of one replica; made inside the replica."""

    def __init__(self) -> None:
        self.requests = ray_metrics.Counter(
            "genseg_requests_total",
            description="Answered requests.",
            tag_keys=("route", "status"),  # type: ignore[arg-type]  # annotated as a tuple of one
        )
        self.request_seconds = ray_metrics.Histogram(
            "genseg_request_seconds", description="Time to the answer.", boundaries=_SECONDS, tag_keys=("route",)
        )
        self.stage_seconds = ray_metrics.Histogram(
            "genseg_stage_seconds", description="Time of one stage.", boundaries=_SECONDS, tag_keys=("stage",)
        )
        self.images = ray_metrics.Counter("genseg_images_total", description="Segmented images.")
        self.objects = ray_metrics.Counter("genseg_objects_total", description="Found objects.")
        self.batch_size = ray_metrics.Histogram(
            "genseg_batch_size", description="Items of one forward.", boundaries=_SIZES, tag_keys=("axis",)
        )
        self._hits = ray_metrics.Counter("genseg_cache_hits_total", description="Cache hits.", tag_keys=("cache",))
        self._misses = ray_metrics.Counter(
            "genseg_cache_misses_total", description="Cache misses.", tag_keys=("cache",)
        )
        self.cache_bytes = ray_metrics.Gauge("genseg_cache_bytes", description="Bytes in a cache.", tag_keys=("cache",))
        self.queue_length = ray_metrics.Gauge("genseg_queue_length", description="Waiting items.", tag_keys=("queue",))
        self.retries = ray_metrics.Counter("genseg_retries_total", description="Repeated calls.", tag_keys=("stage",))
        self.rejections = ray_metrics.Counter(
            "genseg_rejections_total", description="Refused work.", tag_keys=("code",)
        )

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
