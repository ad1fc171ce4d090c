"""Decide how many replicas a deployment needs, from their recent and their queued work.

`WorkPolicy` is an autoscaling policy for Ray Serve; a Serve config names it (see configs/multi-gpu.yaml). Ray's own
policy counts the calls in progress. A segmenter's call is in progress while the prompt is parsed, so a slow parser
would add segmenters, which cannot help.

The Serve controller loads this module, so it imports only the standard library. The controller calls the policy ten
times a second, so the policy must be cheap. `replica.work` measures the numbers that a replica reports.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

LEAST_S = "work_least_s"
"""A lower bound of the device seconds that all work so far would have taken in full batches (see `replica.work`). A
cumulative sum, as are MOST_S, THREADS_S and CALLS_S."""
MOST_S = "work_most_s"
"""An upper bound of the same seconds."""
THREADS_S = "threads_s"
"""Seconds of work of the replica's threads for images and masks, divided by the number of threads."""
CALLS_S = "calls_s"
"""Seconds spent in calls to a remote model (`engine: openai`), summed over all calls."""
QUEUED_S = "queued_s"
"""Estimated device seconds for the items in the queues now; not cumulative."""


class Sample(Protocol):
    """A number that a replica reported, with the time in seconds since 1970 by the replica's clock."""

    timestamp: float
    value: float


class Config(Protocol):
    """The part of Ray's AutoscalingConfig that the policy reads."""

    look_back_period_s: float
    metrics_interval_s: float


class Context(Protocol):
    """The part of Ray's AutoscalingContext that the policy reads."""

    running_replicas: Sequence[Any]
    target_num_replicas: int
    current_time: float | None
    config: Any

    @property
    def total_num_requests(self) -> float:
        """Calls in progress and waiting, of all replicas together."""

    @property
    def raw_metrics(self) -> Mapping[str, Mapping[Any, Sequence[Any]]] | None:
        """Samples of the look-back period by name and by replica, oldest first."""


@dataclass(frozen=True)
class Load:
    """The recent and queued work of one replica, as a fraction of its capacity; above 1 if it gets more than it can do.

    Attributes:
        least: lower bound of the load. The bounds differ while batches are not full and the replica has not yet learnt
            how the time of a batch depends on its size.
        most: upper bound of the load.
    """

    least: float
    most: float


def replicas_needed(
    loads: Sequence[Load | None], target: int, *, grow_at: float, shrink_at: float, ongoing: float = 0.0
) -> int:
    """Decide how many replicas a deployment needs.

    `least` and `most` are summed over all replicas. The target grows to ceil(least / grow_at) if that is more, and
    shrinks to ceil(most / shrink_at) if that is less. Otherwise it stays. It does not shrink while a running replica
    has reported nothing, or while the running replicas are full (`most` is above `grow_at` per replica).

    Args:
        loads: the loads of the running replicas; None for a replica that has reported nothing.
        target: the current target; more than len(loads) while replicas are starting.
        grow_at: add replicas above this load per replica, in (0, 1].
        shrink_at: remove replicas only while the load of each remaining one stays at or below this; below `grow_at`.
        ongoing: calls in progress and waiting. While there are any, at least one replica stays.

    Returns:
        The number of replicas, before Ray applies the deployment's bounds and delays.

    >>> replicas_needed([Load(0.9, 0.9), Load(0.8, 0.8)], 2, grow_at=0.7, shrink_at=0.5)
    3
    """
    known = [load for load in loads if load is not None]
    if not known:
        return target
    most = sum(load.most for load in known)
    grown = math.ceil(sum(load.least for load in known) / grow_at)
    if grown > target:
        return grown
    # The measured load of a full replica stops growing, so the true load may be higher. Replicas that are starting
    # are kept.
    full = most > grow_at * len(known)
    if full or len(known) < len(loads):
        return target
    return min(target, max(math.ceil(most / shrink_at), 1 if ongoing > 0 else 0))


class WorkPolicy:
    """A Ray Serve autoscaling policy that uses the measured work of the replicas.

    Args:
        grow_at: add replicas above this load per replica, in (0, 1].
        shrink_at: remove replicas only while the load of each remaining one stays at or below this; below `grow_at`.
        drain_s: the queue should be empty after this many seconds. So queued work of `drain_s` seconds adds 1 to a
            replica's load.
        calls: for a remote model (`engine: openai`), this many calls in progress are a load of 1.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self, *, grow_at: float = 0.7, shrink_at: float = 0.5, drain_s: float = 30.0, calls: float = 32.0
    ) -> None:
        for name, value in (("grow_at", grow_at), ("shrink_at", shrink_at), ("drain_s", drain_s), ("calls", calls)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ValueError(f"{name} must be a number above 0, got {value!r}")
        if grow_at > 1:
            raise ValueError(f"grow_at must be at most 1, got {grow_at}")
        if shrink_at >= grow_at:
            raise ValueError(f"shrink_at must be below grow_at ({grow_at}), got {shrink_at}")
        self._grow_at, self._shrink_at, self._drain_s, self._calls = grow_at, shrink_at, drain_s, calls

    def __call__(self, context: Context) -> tuple[int, dict[str, float]]:
        """Decide for one deployment. Ray calls this.

        Args:
            context: Ray's AutoscalingContext.

        Returns:
            The number of replicas, and an empty state.
        """
        config: Config = context.config
        # A replica reports at least every `metrics_interval_s` seconds. If its last sample is older than the look-back
        # period plus two intervals, the replica counts as one that has reported nothing.
        stale_before = (context.current_time or 0.0) - config.look_back_period_s - 2 * config.metrics_interval_s
        metrics = context.raw_metrics or {}
        loads = [
            self._load({name: metrics[name][replica] for name in metrics if replica in metrics[name]}, stale_before)
            for replica in context.running_replicas
        ]
        wanted = replicas_needed(
            loads,
            context.target_num_replicas,
            grow_at=self._grow_at,
            shrink_at=self._shrink_at,
            ongoing=context.total_num_requests,
        )
        return wanted, {}

    def _load(self, reported: Mapping[str, Sequence[Sample]], stale_before: float) -> Load | None:
        """Compute a replica's load from its samples; None if they are too few or too old."""
        names = (LEAST_S, MOST_S, THREADS_S, CALLS_S)
        rates = [growth_per_second(reported.get(name, ()), stale_before) for name in names]
        if all(rate is None for rate in rates):
            return None
        least, most, threads, calls = (rate or 0.0 for rate in rates)
        waiting = mean_of(reported.get(QUEUED_S, ())) / self._drain_s
        threads_or_calls = max(threads, calls / self._calls)
        return Load(max(least, threads_or_calls) + waiting, max(most, threads_or_calls) + waiting)


def growth_per_second(samples: Sequence[Sample], stale_before: float) -> float | None:
    """Return how much a cumulative sum of seconds grew per second.

    Args:
        samples: the sum's samples, oldest first.
        stale_before: if the last sample is from before this time, it is too old.

    Returns:
        The growth per second; None if there are fewer than two samples, or the last one is too old.
    """
    if len(samples) < 2 or samples[-1].timestamp < stale_before:
        return None
    first, last = samples[0], samples[-1]
    seconds = last.timestamp - first.timestamp
    return max(0.0, last.value - first.value) / seconds if seconds > 0 else None


def mean_of(samples: Sequence[Sample]) -> float:
    """Return the mean of samples; 0 if there are none."""
    return sum(sample.value for sample in samples) / len(samples) if samples else 0.0
