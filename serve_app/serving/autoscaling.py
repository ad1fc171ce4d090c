"""How many replicas a deployment needs, from the work that its replicas did and have waiting.

`WorkPolicy` is an autoscaling policy of Ray Serve; a Serve config names it (see configs/multi-gpu.yaml). Ray's own
policy counts calls under way. A segmenter's call is under way while its prompt is parsed, so a slow parser would add
segmenters, which cannot help.

The Serve controller calls the policy ten times a second. This module imports nothing but the standard library, since it
is loaded there. `replica.work` makes what a replica reports.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

LEAST_S = "work_least_s"
"""Seconds that the replica's work so far would take in full batches, at least. It only grows, as do the next three."""
MOST_S = "work_most_s"
"""The same, at most."""
THREADS_S = "threads_s"
"""Seconds of work of the replica's threads for images and masks, divided by their number."""
CALLS_S = "calls_s"
"""Seconds of calls to a model on a server, those of all calls together."""
QUEUED_S = "queued_s"
"""Seconds that the device needs for what waits now."""


class Sample(Protocol):
    """A number that a replica reported, and when, in seconds since the epoch by the replica's clock."""

    timestamp: float
    value: float


class Config(Protocol):
    """What the policy reads of Ray's AutoscalingConfig."""

    look_back_period_s: float
    metrics_interval_s: float


class Context(Protocol):
    """What the policy reads of Ray's AutoscalingContext."""

    running_replicas: Sequence[Any]
    target_num_replicas: int
    current_time: float | None
    config: Any

    @property
    def total_num_requests(self) -> float:
        """Calls under way and waiting, all replicas together."""

    @property
    def raw_metrics(self) -> Mapping[str, Mapping[Any, Sequence[Any]]] | None:
        """Samples by name and by replica, oldest first; those of the look-back period only."""


@dataclass(frozen=True)
class Load:
    """What one replica had to do of late; 1 is what it can do.

    Attributes:
        least: at least so much. It is below `most` if the replica's batches were not full and it has not learnt yet
            how much longer full ones take.
        most: at most so much.
    """

    least: float
    most: float


def replicas_needed(
    loads: Sequence[Load | None], target: int, *, grow_at: float, shrink_at: float, ongoing: float = 0.0
) -> int:
    """Decide how many replicas a deployment needs.

    With the sums of all replicas' loads, it grows to ceil(least / grow_at) and shrinks to ceil(most / shrink_at).
    Between the two the number stays. It also does not shrink while a replica has reported nothing.

    Args:
        loads: of the running replicas; None where a replica has reported nothing.
        target: replicas that were asked for; those that have not started yet are not in `loads`.
        grow_at: the load of a replica above which more are needed, in (0, 1].
        shrink_at: the load of a replica that is kept when some are given up, below `grow_at`.
        ongoing: calls that somebody waits for. While there are any, one replica stays.

    Returns:
        The number. It may be outside the deployment's bounds: Ray applies those, and the delays.
    """
    known = [load for load in loads if load is not None]
    if not known:
        return target
    most = sum(load.most for load in known)
    grown = math.ceil(sum(load.least for load in known) / grow_at)
    if grown > target:
        return grown
    # Full replicas may hide more load than they show, so the ones that are starting are kept.
    full = most > grow_at * len(known)
    if full or len(known) < len(loads):
        return target
    return min(target, max(math.ceil(most / shrink_at), 1 if ongoing > 0 else 0))


class WorkPolicy:
    """Ray Serve's autoscaling by the work of the replicas.

    Args:
        grow_at: the load of a replica above which more are added, in (0, 1].
        shrink_at: the load up to which the replicas that stay are filled when some are given up; below `grow_at`.
        drain_s: seconds in which what waits is to be done, besides what comes meanwhile. So a replica with work of
            `drain_s` seconds waiting counts as two.
        calls: where the model is on a server (`engine: openai`), the calls under way that are a replica's full load.

    Raises:
        ValueError: one of them is out of its range.
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
        """Decide; Ray calls it for one deployment.

        Args:
            context: Ray's AutoscalingContext.

        Returns:
            The number of replicas, and no state.
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
        """Read what one replica reported; None where that is too little or too old."""
        shares = [share_of(reported.get(name, ()), oldest) for name in (LEAST_S, MOST_S, THREADS_S, CALLS_S)]
        if all(share is None for share in shares):
            return None
        least, most, threads, calls = (share or 0.0 for share in shares)
        waiting = mean_of(reported.get(QUEUED_S, ())) / self._drain_s
        others = max(threads, calls / self._calls)
        return Load(max(least, others) + waiting, max(most, others) + waiting)


def share_of(samples: Sequence[Sample], oldest: float) -> float | None:
    """Return how much a sum of seconds grew per second.

    Args:
        samples: of the sum, oldest first.
        oldest: the time before which the last sample says nothing about now.

    Returns:
        None where there are fewer than two samples, or the last one is too old.
    """
    if len(samples) < 2 or samples[-1].timestamp < oldest:
        return None
    first, last = samples[0], samples[-1]
    seconds = last.timestamp - first.timestamp
    return max(0.0, last.value - first.value) / seconds if seconds > 0 else None


def mean_of(samples: Sequence[Sample]) -> float:
    """Return the mean of samples that come at equal distances; 0 where there are none."""
    return sum(sample.value for sample in samples) / len(samples) if samples else 0.0
