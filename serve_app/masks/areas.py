"""Counts the pixels that the objects of an image cover together, for masks in any format."""

from __future__ import annotations

from collections.abc import Sequence

from serve_app.masks.formats import read_mask
from serve_app.masks.rle import check_rle, union_area
from serve_app.schemas.dicts import ObjectDict


def covered_pixels(objects: Sequence[ObjectDict], size_hw: tuple[int, int]) -> int | None:
    """Count the pixels that belong to at least one object's mask.

    Args:
        objects: the objects of an image document.
        size_hw: the image's height and width in pixels.

    Returns:
        The number of pixels; 0 for no objects, None if an object has no mask.

    Raises:
        ValueError: a mask is malformed, or has another size than the image.
    """
    masks = [read_mask(each, size_hw) for each in objects]
    return None if None in masks else union_area([check_rle(mask, size_hw) for mask in masks if mask is not None])
