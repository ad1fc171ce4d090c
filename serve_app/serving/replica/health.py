"""Whether a replica's model still works: counts failures in a row that no request has caused."""

from __future__ import annotations

from collections.abc import Sequence

from serve_app.errors import GensegError, InternalError

MAX_FAILURES = 3
"""Batches in a row of which every item failed: one bad picture alone must not cost a model's reload."""


class ModelHealth:
    """Counts batches that failed as a whole, one after another; a good item starts the count anew."""

    def __init__(self) -> None:
        self._failures = 0
        self._last: object = None

    def note(self, outcomes: Sequence[object]) -> None:
        """Take what a batch came to.

        Args:
            outcomes: results and exceptions. An InternalError itself and any exception that is not a GensegError are
                failures of the model; other errors concern the request or its size.
        """
        failures = [outcome for outcome in outcomes if is_failure(outcome)]
        if outcomes and len(failures) == len(outcomes):
            self._failures += 1
            self._last = failures[0]
        else:
            self._failures = 0

    def check(self) -> None:
        """Called by Serve's health check; a replica that fails it is replaced.

        Raises:
            RuntimeError: the model failed MAX_FAILURES times in a row.
        """
        if self._failures >= MAX_FAILURES:
            raise RuntimeError(f"the model failed {self._failures} times in a row, last: {self._last}")


def is_failure(outcome: object) -> bool:
    """Tell whether an outcome says that the model does not work."""
    return type(outcome) is InternalError or (
        isinstance(outcome, BaseException) and not isinstance(outcome, GensegError)
    )
