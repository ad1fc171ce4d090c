"""Cuts one object out of a picture, as the identity model sees it. Pure; knows no model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GREY = 128
"""What stands in place of everything that is not the object."""


def object_crop(image: NDArray[np.uint8], mask: NDArray[np.bool_], side: int) -> NDArray[np.uint8]:
    """Cut out an object: the mask's box, grey outside of the mask, padded to a square, resized bicubic.

    Args:
        image: RGB (H, W, 3).
        mask: (H, W), True on the object.
        side: of the result, in pixels.

    Returns:
        RGB (side, side, 3), uint8; the object is centred, its aspect is kept.

    Raises:
        ValueError: the mask is empty.
    """
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not columns.size:
        raise ValueError("the mask is empty")
    left, right, top, bottom = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
    inside = mask[top:bottom, left:right, None]
    height, width = inside.shape[:2]
    longer = max(height, width)
    square = np.full((longer, longer, 3), GREY, np.uint8)
    y, x = (longer - height) // 2, (longer - width) // 2
    square[y : y + height, x : x + width] = np.where(inside, image[top:bottom, left:right], np.uint8(GREY))
    return np.asarray(Image.fromarray(square).resize((side, side), Image.Resampling.BICUBIC))
