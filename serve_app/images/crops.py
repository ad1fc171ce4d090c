"""Cuts an object out of an image for the identity model. Does not use the model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GREY = 128
"""The value of all pixels outside the object, in red, green and blue."""

CROP = "mask on grey, square, aspect kept"
"""Describes `object_crop` in the verdict's `identity.crop`."""

LONGEST_SIDE = 4096
"""Longest side of the square in pixels (48 MB). Without it, an object of 65,535 x 20 pixels would need 12 GB."""


def object_crop(image: NDArray[np.uint8], mask: NDArray[np.bool_], side: int) -> NDArray[np.uint8]:
    """Cut out an object: crop to the mask's box, set the outside to grey, pad to a square, resize (bicubic).

    An object longer than `LONGEST_SIDE` is first resized to that length.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) bool, True on the object.
        side: side of the result in pixels, at least 1.

    Returns:
        (side, side, 3) uint8 RGB. The object is centred and keeps its aspect ratio.

    Raises:
        ValueError: the mask is empty.
    """
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not columns.size:
        raise ValueError("the mask is empty")
    left, right, top, bottom = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
    cut = _at_most(LONGEST_SIDE, _on_grey(image[top:bottom, left:right], mask[top:bottom, left:right]))
    longer = max(cut.size)
    square = Image.new("RGB", (longer, longer), (GREY, GREY, GREY))
    square.paste(cut, ((longer - cut.width) // 2, (longer - cut.height) // 2))
    return np.asarray(square.resize((side, side), Image.Resampling.BICUBIC))


def _on_grey(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> Image.Image:
    """Set the pixels outside a mask to grey. Pillow needs a third of NumPy's time."""
    cut = Image.new("RGB", (image.shape[1], image.shape[0]), (GREY, GREY, GREY))
    inside = np.ascontiguousarray(mask).view(np.uint8) * np.uint8(255)
    cut.paste(Image.fromarray(np.ascontiguousarray(image)), (0, 0), Image.fromarray(inside))
    return cut


def _at_most(longest: int, image: Image.Image) -> Image.Image:
    """Resize an image so that its longer side is at most `longest`."""
    scale = longest / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(length * scale)) for length in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)
