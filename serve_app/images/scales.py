"""Samples of any depth -> 8 bits. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_PART_SAMPLES = 1 << 20


def to_8_bits(samples: NDArray[np.unsignedinteger[Any]], maximum: int) -> NDArray[np.uint8]:
    """Scale whole numbers in [0, maximum] to [0, 255], rounded to the nearest; larger ones become 255.

    Bound: a byte a sample, and some megabytes.

    Args:
        samples: of any shape, of one byte or, where the maximum is over 255, of two or more.
        maximum: at least 1, at most 65535.
    """
    table = np.arange(maximum + 1, dtype=np.uint32)
    table = ((table * 510 + maximum) // (2 * maximum)).astype(np.uint8)
    flat = samples.reshape(-1)
    scaled = np.empty(len(flat), np.uint8)
    for start in range(0, len(flat), _PART_SAMPLES):  # an index takes 8 bytes a sample
        part = slice(start, start + _PART_SAMPLES)
        np.take(table, flat[part], mode="clip", out=scaled[part])
    return scaled.reshape(samples.shape)
