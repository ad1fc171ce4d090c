"""How many pixels objects of an image cover together, whatever format their masks are in."""

from __future__ import annotations

from collections.abc import Sequence

from serve_app.masks.formats import read_mask
from serve_app.masks.rle import check_rle, union_area
from serve_app.schemas.dicts import ObjectDict


def covered_pixels(objects: Sequence[ObjectDict], size_hw: tuple[int, int]) -> int | None:
    """Count the pixels of the objects' masks, those of several masks once.

    Args:
        objects: of one image document.
        size_hw: the image's height and width in pixels.

    Returns:
        0 for no objects; None if one of them has no mask.

    Raises:
        ValueError: a mask is malformed, or of another size.
    """
    masks = [read_mask(each, size_hw) for each in objects]
    return None if None in masks else union_area([check_rle(mask, size_hw) for mask in masks if mask is not None])
