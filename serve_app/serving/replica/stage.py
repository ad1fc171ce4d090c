"""What a stage of a request's work tells of itself besides its time: sizes and counts, for metrics and traces."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Stage:
    """One stage of one request's work, under way.

    Attributes:
        counts: sizes and counts, by name. Never words of the caller.
        began: when work began that waited in a queue first, by time.perf_counter; None where nothing began or waited.
    """

    counts: dict[str, int] = field(default_factory=dict)
    began: float | None = None

    def set(self, **counts: int) -> None:
        """Add sizes and counts."""
        self.counts.update(counts)

    def begins(self, batch: int) -> None:
        """Note that work which waited begins, or a further part of it.

        Args:
            batch: items of all callers in the same forward; the largest counts.
        """
        if self.began is None:
            self.began = time.perf_counter()
        self.counts["batch"] = max(batch, self.counts.get("batch", 0))


@contextmanager
def untold(name: str) -> Iterator[Stage]:
    """Run a stage that nobody measures; stands where no replica is."""
    yield Stage()
