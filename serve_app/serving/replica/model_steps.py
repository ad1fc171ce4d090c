"""Create the batchers of a model's steps, and export their batch sizes, queues and times as metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from serve_app.errors import GensegError
from serve_app.serving.replica.batching import Device, PullBatcher
from serve_app.serving.replica.health import ModelHealth
from serve_app.serving.replica.metrics import Metrics

Item = TypeVar("Item")
Value = TypeVar("Value")


def watch_device(device: Device, metrics: Metrics) -> None:
    """Export how long a device worked, and how long its work would at least have taken in full passes."""
    metrics.watch_busy("device", lambda: device.work.busy_s)
    metrics.watch_busy("full passes", lambda: device.work.least_s)


def model_step(
    axis: str,
    run: Callable[[Sequence[Item]], Sequence[Value | GensegError]],
    budget: int,
    cost: Callable[[Item], int] = lambda _: 1,
    *,
    device: Device,
    health: ModelHealth,
    metrics: Metrics,
) -> PullBatcher[Item, Value]:
    """Make the batcher of one step of a model.

    Args:
        axis: the step's name in the metrics.
        run: the model's method, for a batch.
        budget: see PullBatcher.
        cost: see PullBatcher.
        device: the device that runs it.
        health: the model's health; receives the outcomes of each batch.
        metrics: the replica's metrics.
    """
    batcher: PullBatcher[Item, Value] = PullBatcher(
        device,
        run,
        budget=budget,
        cost=cost,
        observe=lambda size: metrics.batch_size.observe(size, tags={"axis": axis}),
        note=health.note,
    )
    metrics.watch_queue(axis, lambda: batcher.queued)
    return batcher
