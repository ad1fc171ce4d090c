"""The learning rate of a training run. Pure."""

from __future__ import annotations

import math


def schedule(step: int, warmup: int, steps: int) -> float:
    """Learning rate as a part of its peak: a short linear rise, then half a cosine down to 0 at `steps`."""
    return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
