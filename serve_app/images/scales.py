"""Scales samples of any depth to 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_PART_SAMPLES = 1 << 20


def to_8_bits(samples: NDArray[np.unsignedinteger[Any]], maximum: int) -> NDArray[np.uint8]:
    """Scale whole numbers in [0, maximum] to [0, 255], rounded to the nearest; larger numbers become 255.

    Memory: one byte per sample, and a few megabytes.

    Args:
        samples: unsigned numbers in an array of any shape.
        maximum: the number that becomes 255; in [1, 65535].

    Returns:
        An array of the same shape.

    >>> to_8_bits(np.array([0, 2, 3, 9], np.uint8), 3)
    array([  0, 170, 255, 255], dtype=uint8)
    """
    table = np.arange(maximum + 1, dtype=np.uint32)
    table = ((table * 510 + maximum) // (2 * maximum)).astype(np.uint8)
    flat = samples.reshape(-1)
    scaled = np.empty(len(flat), np.uint8)
    for start in range(0, len(flat), _PART_SAMPLES):  # an index takes 8 bytes per sample
        part = slice(start, start + _PART_SAMPLES)
        np.take(table, flat[part], mode="clip", out=scaled[part])
    return scaled.reshape(samples.shape)
