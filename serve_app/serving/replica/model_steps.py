"""A model's device and the steps that run on it, shown: each step a batcher with its sizes, its queue, its failures."""

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
    """Show how long a device worked, and how long its work takes in full passes (at least)."""
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
    """Batch a step of a model.

    Args:
        axis: names the step in the metrics.
        run: the step.
        budget: see PullBatcher.
        cost: see PullBatcher.
        device: where it runs.
        health: of the model; learns how each batch came out.
        metrics: of the replica.
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
