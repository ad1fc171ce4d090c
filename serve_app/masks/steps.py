"""Runs long work in steps, so that the caller can stop it between steps, or do other work first.

The work is a generator that yields between steps of bounded time, and returns the result.

    >>> def total(numbers):
    ...     sum_so_far = 0
    ...     for number in numbers:
    ...         sum_so_far += number
    ...         yield
    ...     return sum_so_far
    >>> steps = total([1, 2])
    >>> advance(steps, 0.0), advance(steps, 0.0), advance(steps, 0.0)
    (None, None, Done(value=3))
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Generic, TypeVar

Value = TypeVar("Value")
Steps = Generator[None, None, Value]


@dataclass(frozen=True)
class Done(Generic[Value]):
    """The result of work that is done."""

    value: Value


def advance(steps: Steps[Value], slice_s: float) -> Done[Value] | None:
    """Run work until it is done, or until a step ends at least `slice_s` seconds after the call.

    Returns:
        The result; None if the work is not done yet.
    """
    until = time.monotonic() + slice_s
    try:
        while True:
            next(steps)
            if time.monotonic() >= until:
                return None
    except StopIteration as end:
        return Done(end.value)


def finish(steps: Steps[Value]) -> Value:
    """Run work to its end, and return the result."""
    while (done := advance(steps, float("inf"))) is None:
        pass
    return done.value
