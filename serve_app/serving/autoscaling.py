"""Decide how many replicas a deployment needs, from their recent and their queued work.

`WorkPolicy` is an autoscaling policy for Ray Serve; a Serve config names it (see configs/multi-gpu.yaml). Ray's own
policy counts the calls in progress. A segmenter's call is in progress while the prompt is parsed, so a slow parser
would add segmenters, which cannot help.

The Serve controller loads this module and calls the policy ten times a second. So the module imports only the standard
library. `replica.work` measures what a replica reports.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

LEAST_S = "work_least_s"
"""Lower bound of the device seconds that the replica's work so far takes in full batches. A cumulative sum, like the
next three."""
MOST_S = "work_most_s"
"""Upper bound of the same seconds."""
THREADS_S = "threads_s"
"""Seconds of work of the replica's threads for images and masks, divided by the number of threads."""
CALLS_S = "calls_s"
"""Seconds of calls to a model on a server, the sum of all calls."""
QUEUED_S = "queued_s"
"""Seconds that the device needs for the items that wait now."""


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
    """The recent and queued work of one replica, as a fraction of its capacity; above 1 if it has too much.

    Attributes:
        least: lower bound. It is below `most` while the replica's batches are not full and it has not learnt yet how
            much longer full ones take.
        most: upper bound.
    """

    least: float
    most: float


def replicas_needed(
    loads: Sequence[Load | None], target: int, *, grow_at: float, shrink_at: float, ongoing: float = 0.0
) -> int:
    """Decide how many replicas a deployment needs.

    With `least` and `most` summed over all replicas, the number grows to ceil(least / grow_at) and shrinks to
    ceil(most / shrink_at). Between the two it stays. It never shrinks while a replica has reported nothing.

    Args:
        loads: the loads of the running replicas; None for a replica that has reported nothing.
        target: the current target; replicas that have not started yet are not in `loads`.
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
    # Full replicas may have more load than they report, so replicas that are starting are not removed.
    full = most > grow_at * len(known)
    if full or len(known) < len(loads):
        return target
    return min(target, max(math.ceil(most / shrink_at), 1 if ongoing > 0 else 0))


class WorkPolicy:
    """A Ray Serve autoscaling policy that uses the measured work of the replicas.

    Args:
        grow_at: add replicas above this load per replica, in (0, 1].
        shrink_at: remove replicas only while the load of each remaining one stays at or below this; below `grow_at`.
        drain_s: the queue should be empty after this many seconds. So a replica with queued work of `drain_s` seconds
            counts as one more full replica.
        calls: for a model on a server (`engine: openai`), this many calls in progress are a replica's full load.

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
        # A replica reports at least every `metrics_interval_s` seconds.
        oldest = (context.current_time or 0.0) - config.look_back_period_s - 2 * config.metrics_interval_s
        metrics = context.raw_metrics or {}
        loads = [
            self._load({name: metrics[name][replica] for name in metrics if replica in metrics[name]}, oldest)
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

    def _load(self, reported: Mapping[str, Sequence[Sample]], oldest: float) -> Load | None:
        """Compute a replica's load from its samples; None if they are too few or too old."""
        shares = [share_of(reported.get(name, ()), oldest) for name in (LEAST_S, MOST_S, THREADS_S, CALLS_S)]
        if all(share is None for share in shares):
            return None
        least, most, threads, calls = (share or 0.0 for share in shares)
        waiting = mean_of(reported.get(QUEUED_S, ())) / self._drain_s
        others = max(threads, calls / self._calls)
        return Load(max(least, others) + waiting, max(most, others) + waiting)


def share_of(samples: Sequence[Sample], oldest: float) -> float | None:
    """Return how much a cumulative sum of seconds grew per second.

    Args:
        samples: the sum's samples, oldest first.
        oldest: if the last sample is from before this time, it is too old.

    Returns:
        The growth per second; None if there are fewer than two samples, or the last one is too old.
    """
    if len(samples) < 2 or samples[-1].timestamp < oldest:
        return None
    first, last = samples[0], samples[-1]
    seconds = last.timestamp - first.timestamp
    return max(0.0, last.value - first.value) / seconds if seconds > 0 else None


def mean_of(samples: Sequence[Sample]) -> float:
    """Return the mean of samples; 0 if there are none."""
    return sum(sample.value for sample in samples) / len(samples) if samples else 0.0
