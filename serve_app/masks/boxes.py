"""Converts boxes relative to an image to boxes in its pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pixel_boxes(boxes: NDArray[np.float32], size_wh: tuple[int, int]) -> list[list[int]]:
    """Scale boxes to an image, and round them to whole pixels.

    Args:
        boxes: (N, 4) xyxy relative to the image; N may be 0, and values may be outside [0, 1].
        size_wh: the image's width and height in pixels, each at least 1.

    Returns:
        N boxes `[x1, y1, x2, y2]` with `0 <= x1 < x2 <= width` and `0 <= y1 < y2 <= height`. If a box has no pixel
        along an axis after rounding, it is widened to the pixel at its middle.

    >>> pixel_boxes(np.array([[0.1, 0.2, 0.5, 1.2], [0.5, 0.5, 0.5, 0.5]], np.float32), (100, 50))
    [[10, 10, 50, 50], [50, 25, 51, 26]]
    """
    # In float64, because float32 products round, and a box of the whole image must end at its last pixel.
    size = np.array(size_wh)
    ends = np.clip(boxes.astype(np.float64).reshape(-1, 2, 2) * size, 0, size)  # (N, start and end, x and y)
    whole = np.rint(ends).astype(np.int64)
    middle = np.minimum(np.floor(ends.mean(axis=1)).astype(np.int64), size - 1)
    empty = whole[:, 0] >= whole[:, 1]
    whole[:, 0][empty] = middle[empty]
    whole[:, 1][empty] = middle[empty] + 1
    listed: list[list[int]] = whole.reshape(-1, 4).tolist()
    return listed
