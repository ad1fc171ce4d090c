"""Decide whether a replica's model still works, by counting consecutive failures that no request has caused."""

from __future__ import annotations

from collections.abc import Sequence

from serve_app.errors import GensegError, InternalError

MAX_FAILURES = 3
"""After this many consecutive batches without a good item, the replica is replaced. More than 1, so that one bad image
does not suffice."""


class ModelHealth:
    """Counts consecutive batches in which every item failed; an item that did not fail resets the count."""

    def __init__(self) -> None:
        self._failures = 0
        self._last: object = None

    def note(self, outcomes: Sequence[object]) -> None:
        """Count the outcomes of a batch.

        Args:
            outcomes: results and exceptions, as in `is_failure`.
        """
        failures = [outcome for outcome in outcomes if is_failure(outcome)]
        if outcomes and len(failures) == len(outcomes):
            self._failures += 1
            self._last = failures[0]
        else:
            self._failures = 0

    def check(self) -> None:
        """Fail Serve's health check if the model is broken, so that Serve replaces the replica.

        Raises:
            RuntimeError: the model failed MAX_FAILURES times in a row, or more often.
        """
        if self._failures >= MAX_FAILURES:
            raise RuntimeError(f"the model failed {self._failures} times in a row, last: {self._last}")


def is_failure(outcome: object) -> bool:
    """Return whether an outcome is a failure of the model.

    InternalError itself, but not its subclasses, and exceptions other than GensegError are the model's failures. Other
    errors concern the request or its size.
    """
    return type(outcome) is InternalError or (
        isinstance(outcome, BaseException) and not isinstance(outcome, GensegError)
    )
