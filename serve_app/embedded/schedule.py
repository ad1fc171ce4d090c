"""Computes the learning rate of a training step."""

from __future__ import annotations

import math


def schedule(step: int, warmup: int, steps: int) -> float:
    """Return the learning rate relative to its peak, in [0, 1].

    It is half a cosine from 1 down to 0 at `steps`, multiplied by a linear rise over the first `warmup` steps.

    Args:
        step: number of steps already done.
        warmup: length of the rise in steps, at least 1.
        steps: length of the whole run in steps.
    """
    return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
