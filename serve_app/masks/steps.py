"""Long work cut into steps, so that whoever runs it can stop between them or let others go first. Pure.

A piece of work is a generator that yields between steps of bounded time and returns the result.
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
    """The result of a piece of work."""

    value: Value


def advance(steps: Steps[Value], slice_s: float) -> Done[Value] | None:
    """Run a piece of work until it is done, or until the first step that ends after `slice_s` seconds.

    Returns:
        The result, or None where there is more to do.
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
    """Run a piece of work to its end."""
    while (done := advance(steps, float("inf"))) is None:
        pass
    return done.value
