"""Masks as outlines without holes, for formats that have no holes: what an inner ring encloses is filled. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve_app.masks.polygons import outline_of, rle_from_polygons
from serve_app.masks.rle import bounds, decode_box, encode_rle
from serve_app.schemas.dicts import RingDict, RleDict

Ring = NDArray[np.int64]
"""(K, 2) x and y of the corners of pixels, in pixels; the last one is joined to the first."""


@dataclass(frozen=True)
class Filled:
    """The outer rings of a mask.

    Attributes:
        rings: one for each part, none inside another; no ring for an empty mask. Filled, they give the mask exactly if
            `holes` is 0.
        holes: how many holes were filled.
        mask: what the rings enclose.
    """

    rings: tuple[Ring, ...]
    holes: int
    mask: RleDict


def fill_holes(rle: RleDict) -> Filled:
    """Find the outer rings of a mask; parts inside of a hole go with it.

    Bound: that of `outline_of` and `Outline.rings`, twice where there are holes.

    Args:
        rle: well-formed.
    """
    rings = outline_of(rle).rings()
    holes = sum(ring["hole"] for ring in rings)
    if holes:
        rle = _without_holes(rle)
        rings = outline_of(rle).rings()
    return Filled(tuple(np.asarray(ring["points"], np.int64) for ring in rings), holes, rle)


def one_ring(rings: Sequence[Ring]) -> Ring:
    """Join rings to one, by lines of no width that run from the first ring to each other one and back.

    Args:
        rings: at least one.

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
    # Pixels of the mask that touch at a corner do not enclose anything, as in `masks.polygons`.
    inside = binary_fill_holes(decode_box(rle, box), structure=np.ones((3, 3), np.bool_))
    rings: list[RingDict] = outline_of(encode_rle(inside)).rings()
    for ring in rings:
        ring["points"] = [[x + box[0], y + box[1]] for x, y in ring["points"]]
    height, width = rle["size"]
    return rle_from_polygons(rings, (height, width))
