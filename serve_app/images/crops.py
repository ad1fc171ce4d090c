"""Cuts one object out of a picture, as the identity model sees it. Pure; knows no model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GREY = 128
"""What stands in place of everything that is not the object."""

CROP = "mask on grey, square, aspect kept"
"""How `object_crop` cuts, for people."""

LONGEST_SIDE = 4096
"""Pixels of the square: 48 MB. An object of 65,535 x 20 pixels would otherwise take 12 GB of grey."""


def object_crop(image: NDArray[np.uint8], mask: NDArray[np.bool_], side: int) -> NDArray[np.uint8]:
    """Cut out an object: the mask's box, grey outside of the mask, padded to a square, resized bicubic.

    An object longer than LONGEST_SIDE is resized to that length first.

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
    cut = _at_most(LONGEST_SIDE, np.where(inside, image[top:bottom, left:right], np.uint8(GREY)))
    height, width = cut.shape[:2]
    longer = max(height, width)
    square = np.full((longer, longer, 3), GREY, np.uint8)
    y, x = (longer - height) // 2, (longer - width) // 2
    square[y : y + height, x : x + width] = cut
    return np.asarray(Image.fromarray(square).resize((side, side), Image.Resampling.BICUBIC))


def _at_most(longest: int, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Resize an image whose longer side is over `longest` to it."""
    height, width = image.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return image
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(image).resize(size_wh, Image.Resampling.BICUBIC))
