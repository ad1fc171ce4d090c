"""Collect sizes and counts of a stage of a request's work, for traces."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Stage:
    """A stage of a request's work that is in progress.

    Attributes:
        counts: sizes and counts by name; never text from the caller.
        began: when the work left its queue, by time.perf_counter; None if it has not, or if the stage has no queue.
    """

    counts: dict[str, int] = field(default_factory=dict)
    began: float | None = None

    def set(self, **counts: int) -> None:
        """Set sizes and counts by name."""
        self.counts.update(counts)

    def begins(self, batch: int) -> None:
        """Record that queued work, or a further part of it, leaves its queue in a batch.

        Args:
            batch: number of items in the batch, of all callers; the largest batch is recorded.
        """
        if self.began is None:
            self.began = time.perf_counter()
        self.counts["batch"] = max(batch, self.counts.get("batch", 0))


@contextmanager
def untold(name: str) -> Iterator[Stage]:
    """Run a block as a stage without measuring it, for use outside a replica."""
    del name  # the argument of `Metrics.stage`
    yield Stage()
