"""Converts masks to outlines without holes, for formats that have none: holes are filled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve_app.masks.polygons import outline_of, rle_from_polygons
from serve_app.masks.rle import bounds, decode_box, encode_rle
from serve_app.schemas.dicts import RingDict, RleDict

Ring = NDArray[np.int64]
"""(K, 2) x and y in pixels of the ring's points, which are corners of pixels. The last point is joined to the first."""


@dataclass(frozen=True)
class Filled:
    """The outer rings of a mask.

    Attributes:
        rings: the outer ring of each part, none inside another; empty for an empty mask.
        holes: how many holes were filled.
        mask: the pixels that the rings enclose. If `holes` is 0, this is the original mask.
    """

    rings: tuple[Ring, ...]
    holes: int
    mask: RleDict


def fill_holes(rle: RleDict) -> Filled:
    """Fill the holes of a mask, together with parts inside a hole, and return its outer rings.

    Memory: as in `outline_of` and `Outline.rings`; twice that if the mask has holes.

    Args:
        rle: the mask.

    Raises:
        ValueError: the counts are malformed or do not fill the size.
    """
    rings = outline_of(rle).rings()
    holes = sum(ring["hole"] for ring in rings)
    if holes:
        rle = _without_holes(rle)
        rings = outline_of(rle).rings()
    return Filled(tuple(np.asarray(ring["points"], np.int64) for ring in rings), holes, rle)


def one_ring(rings: Sequence[Ring]) -> Ring:
    """Join rings into a single one, by lines without width from the first ring to each other ring and back.

    Args:
        rings: at least one ring.

    Returns:
        A ring that encloses the same pixels.
    """
    first, *others = rings
    after: dict[int, list[Ring]] = {}
    for ring in others:
        nearest = int(np.abs(first - ring[0]).sum(axis=1).argmin())
        after.setdefault(nearest, []).append(np.concatenate([ring, ring[:1], first[nearest : nearest + 1]]))
    pieces: list[Ring] = []
    start = 0
    for index in sorted(after):
        pieces += [first[start : index + 1], *after[index]]
        start = index + 1
    return np.concatenate([*pieces, first[start:]])


def _without_holes(rle: RleDict) -> RleDict:
    from scipy.ndimage import binary_fill_holes

    box = bounds(rle)
    # Pixels of the mask that only touch at a corner are not connected, as in `masks.polygons`.
    inside = binary_fill_holes(decode_box(rle, box), structure=np.ones((3, 3), np.bool_))
    rings: list[RingDict] = outline_of(encode_rle(inside)).rings()
    for ring in rings:
        ring["points"] = [[x + box[0], y + box[1]] for x, y in ring["points"]]
    height, width = rle["size"]
    return rle_from_polygons(rings, (height, width))
