"""Masks as polygons and back, exactly. Pure; knows masks as RLE only.

A ring runs along the edges of pixels, so its points are whole numbers: pixel (x, y) is the square from (x, y) to
(x + 1, y + 1). Filling all rings of a mask by the even-odd rule gives back that mask, pixel for pixel: no part, hole
or corner is lost or smoothed. Collinear points are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve_app.masks.rle import bounds, decode_rle, rle_from_run_lengths
from serve_app.schemas.dicts import RingDict, RleDict

Indices = NDArray[np.int64]
_FARTHEST = 2.0**53  # beyond it a float names no single whole number

# Which of the four pixels around a corner belong to the mask: a sum of these.
_TOP_LEFT, _TOP_RIGHT, _BOTTOM_LEFT, _BOTTOM_RIGHT = 1, 2, 4, 8
_ALL = 15
# Rings keep the mask on their right (y points down). At these corners a ring arrives vertically and leaves
# horizontally: one pixel inside (top left, bottom right) or one outside (bottom left, top right); elsewhere the
# other way round.
_LEAVES_HORIZONTALLY = (_TOP_LEFT, _BOTTOM_RIGHT, _ALL - _BOTTOM_LEFT, _ALL - _TOP_RIGHT)
# The pairs of pixels that touch at a corner only; two rings, or one ring twice, pass there. The mask's pixels count
# as not connected by it.
_SADDLES = ((_TOP_LEFT, _BOTTOM_RIGHT), (_TOP_RIGHT, _BOTTOM_LEFT))


@dataclass(frozen=True)
class Outline:
    """Where the outlines of a mask turn; `len()` is the number of points that its rings have.

    Attributes:
        corners: (K, 2) int64, x and y.
        kinds: (K,) int64, which pixels around each corner are inside.
    """

    corners: Indices
    kinds: Indices

    def __len__(self) -> int:
        return len(self.kinds)

    def rings(self) -> list[RingDict]:
        """Follow the outlines.

        Bound: some 300 bytes a point, 140 of them in the result. Measured: 1.3 s and 310 MB for 1.2 million points.

        Returns:
            The rings, the leftmost first; points are whole pixels, at least four. Outer rings run clockwise as seen on
            the screen, holes counter-clockwise. An empty mask has no rings.
        """
        if not len(self):
            return []
        order, starts = _walk(_successors(self.corners, self.kinds))
        rings = np.split(self.corners[order], starts[1:])
        return [{"points": ring.tolist(), "hole": _signed_area(ring) < 0} for ring in rings]


def outline_of(rle: RleDict) -> Outline:
    """Find the points of a mask's outlines, without following them.

    Whoever has to bound the points can count them here, before `Outline.rings` takes several times this memory.

    Bound: four bytes a pixel of the mask's box, and some 60 bytes a point. Measured at 50 megapixels: 0.1 s for a disc,
    0.4 s for noise.

    Args:
        rle: the mask.
    """
    x1, y1, x2, y2 = bounds(rle)
    if x1 == x2:
        return Outline(np.zeros((0, 2), np.int64), np.zeros(0, np.int64))
    corners, kinds = _corners(decode_rle(rle).T[x1:x2, y1:y2])
    return Outline(corners + np.array([x1, y1]), kinds)


def rle_from_polygons(rings: Sequence[RingDict], size_hw: tuple[int, int]) -> RleDict:
    """Fill rings by the even-odd rule; the inverse of `outline_of` and `Outline.rings`.

    Args:
        rings: outlines whose edges are horizontal or vertical. What lies outside the image is cut off.
        size_hw: the image's height and width in pixels.

    Raises:
        ValueError: a point is not a whole pixel, or an edge is neither horizontal nor vertical.
    """
    height, width = size_hw
    flips = [np.zeros(0, dtype=np.int64)]
    for ring in rings:
        start = _whole_points(ring)
        end = np.roll(start, -1, axis=0)
        if np.any((start != end).all(axis=1)):
            raise ValueError("a ring has an edge that is neither horizontal nor vertical")
        # A horizontal edge flips the pixels below it, in each of its columns.
        level = start[:, 1] == end[:, 1]
        x = np.clip(np.sort([start[level, 0], end[level, 0]], axis=0), 0, width)
        y = np.clip(start[level, 1], 0, height)
        flips.append(_columns(x[0], x[1]) * height + np.repeat(y, x[1] - x[0]))
    # At the foot of a column every pixel is outside again, so flips there meet those at the head of the next one.
    position, times = np.unique(np.concatenate(flips), return_counts=True)
    changes = position[(times % 2 == 1) & (position < height * width)]
    return rle_from_run_lengths(np.diff(changes, prepend=0, append=height * width), size_hw)


def _whole_points(ring: RingDict) -> Indices:
    points = np.asarray(ring["points"], dtype=np.float64).reshape(-1, 2)
    if not (np.abs(points) <= _FARTHEST).all() or (points != np.rint(points)).any():
        raise ValueError("a ring has a point that is not a whole pixel")
    return points.astype(np.int64)


def _columns(left: Indices, right: Indices) -> Indices:
    """List the columns from each left to each right, one edge after another."""
    spans = right - left
    columns: Indices = np.arange(spans.sum()) + np.repeat(left - np.cumsum(spans) + spans, spans)
    return columns


def _corners(mask: NDArray[np.bool_]) -> tuple[Indices, Indices]:
    """Find where outlines turn.

    Args:
        mask: (W, H) bool, column by column.

    Returns:
        (K, 2) x, y, in the order of x, then y, a saddle twice; and (K,) which pixels around it are inside, of a saddle
        one for each.
    """
    width, height = mask.shape
    padded = np.zeros((width + 2, height + 2), dtype=np.int8)
    padded[1:-1, 1:-1] = mask
    edge = np.diff(padded, axis=1)  # 1 where the mask begins downwards, -1 where it ends
    x, y = np.divmod(np.flatnonzero(edge[1:] != edge[:-1]), height + 1)
    kind = (
        padded[x, y] * _TOP_LEFT
        + padded[x + 1, y] * _TOP_RIGHT
        + padded[x, y + 1] * _BOTTOM_LEFT
        + padded[x + 1, y + 1] * _BOTTOM_RIGHT
    ).astype(np.int64)
    again = np.zeros(len(kind), dtype=np.int64)
    for first, second in _SADDLES:
        again[kind == first + second] = second
        kind[kind == first + second] = first
    copies = np.repeat(np.arange(len(kind)), 1 + (again > 0))
    second_copy = np.flatnonzero(np.diff(copies, prepend=-1) == 0)
    kinds = kind[copies]
    kinds[second_copy] = again[copies[second_copy]]
    return np.stack([x, y], axis=1)[copies], kinds


def _successors(corners: Indices, kinds: Indices) -> Indices:
    """Find the corner that follows each one on its ring.

    Along one row of corners outlines begin and end in turn, so neighbours pair up, first with second, third with
    fourth; along a column likewise. Of the two corners at a saddle, the one that ends the edge before it comes first.
    """
    x, y = corners.T
    leaves_horizontally = np.isin(kinds, _LEAVES_HORIZONTALLY)
    edge_on_the_right = np.isin(kinds, (_BOTTOM_RIGHT, _TOP_RIGHT))
    edge_below = np.isin(kinds, (_BOTTOM_RIGHT, _BOTTOM_LEFT))
    along_row = _partners(np.lexsort((edge_on_the_right, x, y)))
    along_column = _partners(np.lexsort((edge_below, y, x)))
    return np.where(leaves_horizontally, along_row, along_column)


def _partners(order: Indices) -> Indices:
    partner = np.empty_like(order)
    partner[order[0::2]] = order[1::2]
    partner[order[1::2]] = order[0::2]
    return partner


def _walk(successors: Indices) -> tuple[Indices, list[int]]:
    """Follow the rings: all corners ring by ring, and where each ring starts."""
    following: list[int] = successors.tolist()
    seen = bytearray(len(following))
    order: list[int] = []
    starts: list[int] = []
    for first in range(len(following)):
        if seen[first]:
            continue
        starts.append(len(order))
        corner = first
        while not seen[corner]:
            seen[corner] = 1
            order.append(corner)
            corner = following[corner]
    return np.array(order, dtype=np.int64), starts


def _signed_area(ring: Indices) -> int:
    x, y = ring.T
    return int(np.dot(x, np.roll(y, -1)) - np.dot(np.roll(x, -1), y))
