"""Create the batchers and the caches of a model's steps, with their metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from serve_app.errors import GensegError
from serve_app.serving.replica.batching import ModelThread, PullBatcher
from serve_app.serving.replica.cache import ByteLru, CachedWork
from serve_app.serving.replica.health import ModelHealth
from serve_app.serving.replica.metrics import Metrics

Item = TypeVar("Item")
Value = TypeVar("Value")


def watch_model(thread: ModelThread, metrics: Metrics) -> None:
    """Export how long the models ran, and how long the same work would at least have taken in full batches."""
    metrics.watch_busy("device", lambda: thread.work.busy_s)
    metrics.watch_busy("full passes", lambda: thread.work.least_s)


def model_step(
    axis: str,
    run: Callable[[Sequence[Item]], Sequence[Value | GensegError]],
    budget: int,
    cost: Callable[[Item], int] = lambda _: 1,
    *,
    thread: ModelThread,
    health: ModelHealth,
    metrics: Metrics,
) -> PullBatcher[Item, Value]:
    """Make the batcher of one step of a model.

    Args:
        axis: the step's name in the metrics.
        run: the model's method, for a batch.
        budget: see PullBatcher.
        cost: see PullBatcher.
        thread: the thread that runs it.
        health: the model's health; receives the outcomes of each batch.
        metrics: the replica's metrics.
    """
    batcher: PullBatcher[Item, Value] = PullBatcher(
        thread,
        run,
        budget=budget,
        cost=cost,
        on_start=lambda size: metrics.batch_size.observe(size, tags={"axis": axis}),
        on_end=health.note,
    )
    metrics.watch_queue(axis, lambda: batcher.queued)
    return batcher


def step_cache(cache: str, max_bytes: int, size: Callable[[str, Value], int], *, metrics: Metrics) -> CachedWork[Value]:
    """Make the cache of a step's results.

    Args:
        cache: the cache's name in the metrics.
        max_bytes: see ByteLru.
        size: see ByteLru.
        metrics: the replica's metrics; gets the cache's size, hits and misses.
    """
    entries: ByteLru[Value] = ByteLru(max_bytes, size)
    metrics.watch_cache(cache, lambda: entries.nbytes)
    return CachedWork(entries, lambda hit: metrics.cache_lookup(cache, hit))
