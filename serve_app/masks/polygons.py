"""Converts masks (RLE) to polygons and back, without loss.

A ring runs along the edges of pixels, so the coordinates of its points are whole numbers: pixel (x, y) is the square
from (x, y) to (x + 1, y + 1). Filling all rings of a mask by the even-odd rule gives exactly that mask; nothing is
smoothed. A straight edge has only its two end points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve_app.masks.rle import rle_from_run_lengths, run_lengths
from serve_app.schemas.dicts import RingDict, RleDict

Indices = NDArray[np.int64]
Kinds = NDArray[np.uint8]
_MAX_COORDINATE = 2.0**53  # larger floats do not represent every whole number

# A corner is a point at which an outline turns. Its kind says which of the four pixels around it belong to the mask: it
# is the sum of these values.
_TOP_LEFT, _TOP_RIGHT, _BOTTOM_LEFT, _BOTTOM_RIGHT = 1, 2, 4, 8
_ALL = 15
# A ring has the mask on its right (y points down). At corners of these kinds, it arrives vertically and leaves
# horizontally; at other corners, it arrives horizontally and leaves vertically.
_LEAVES_HORIZONTALLY = (_TOP_LEFT, _BOTTOM_RIGHT, _ALL - _BOTTOM_LEFT, _ALL - _TOP_RIGHT)
# At a saddle, only two diagonally opposite pixels are inside; they do not count as connected. Outlines touch there, so
# a saddle is stored as two corners, each with one of the pixels inside.
_SADDLES = ((_TOP_LEFT, _BOTTOM_RIGHT), (_TOP_RIGHT, _BOTTOM_LEFT))
# A column *flips* where the mask begins or ends in it, from top to bottom. These are the kinds of corners at which only
# the column on the right (or left) flips. The index is 2 * (the mask ends there) + (the other column is inside).
_RIGHT_FLIPS = (_BOTTOM_RIGHT, _ALL - _TOP_RIGHT, _TOP_RIGHT, _ALL - _BOTTOM_RIGHT)
_LEFT_FLIPS = (_BOTTOM_LEFT, _ALL - _TOP_LEFT, _TOP_LEFT, _ALL - _BOTTOM_LEFT)


@dataclass(frozen=True)
class Outline:
    """The corners of a mask's outlines. `len()` is the number of points of its rings.

    Attributes:
        places: (K,) int64, ascending: x * stride + y of each corner. A saddle, where outlines touch, is there twice.
        kinds: (K,) uint8: which pixels around each corner are inside.
        stride: the mask's height plus 1.
    """

    places: Indices
    kinds: Kinds
    stride: int

    def __len__(self) -> int:
        return len(self.kinds)

    def rings(self) -> list[RingDict]:
        """Return the rings of the outlines.

        Memory: about 180 bytes per point, most of it for the result.

        Returns:
            The rings, ordered by their leftmost corner (the upper one of two). Each has at least four points, with
            whole numbers. On the screen, outer rings run clockwise, holes counter-clockwise. An empty mask has none.
        """
        return self.packed().rings()

    def packed(self) -> PackedRings:
        """Return the rings of the outlines as arrays.

        Memory: about 100 bytes per point, about 9 of them for the result.
        """
        x = self.places // self.stride
        y = self.places - x * self.stride
        order, starts, holes = _walk(x, y, self.kinds)
        points = np.empty((len(order), 2), dtype=np.int32)
        points[:, 0], points[:, 1] = x[order], y[order]
        return PackedRings(points, starts, holes)


@dataclass(frozen=True, eq=False)
class PackedRings:
    """The rings of a mask as arrays, for sending them to another process.

    Arrays take a twentieth of the memory of lists of points. Code that creates or pickles arrays holds the GIL only for
    microseconds at a time.

    Attributes:
        points: (K, 2) int32: x and y of the points, ring by ring.
        starts: (R,) int64: index of each ring's first point.
        holes: (R,) bool: whether the ring is a hole.
    """

    points: NDArray[np.int32]
    starts: Indices
    holes: NDArray[np.bool_]

    def rings(self) -> list[RingDict]:
        """Return the same as `Outline.rings`."""
        points: list[list[float]] = self.points.tolist()
        starts = self.starts.tolist()
        rings = zip(starts, [*starts, len(points)][1:], self.holes.tolist(), strict=True)
        return [{"points": points[start:end], "hole": hole} for start, end, hole in rings]


def outline_of(rle: RleDict) -> Outline:
    """Find the corners of a mask's outlines, without joining them into rings.

    A caller that limits the number of points can check `len()` of the result before it calls `Outline.rings`.

    Memory: about 70 bytes per character of the RLE; it does not depend on the number of pixels. Measured at 50
    megapixels: 1.7 GB for noise of single pixels, 0.24 GB for noise of 8 x 8 squares.

    Args:
        rle: the mask.

    Raises:
        ValueError: the counts are malformed or do not fill the size.

    >>> outline_of({"size": [2, 2], "counts": "112"}).rings()  # the lower left pixel is inside
    [{'points': [[0, 1], [1, 1], [1, 2], [0, 2]], 'hole': False}]
    """
    stride = int(rle["size"][0]) + 1
    places, kinds = _corners(_flips(rle), stride)
    return Outline(places, kinds, stride)


def rle_from_polygons(rings: Sequence[RingDict], size_hw: tuple[int, int]) -> RleDict:
    """Fill rings by the even-odd rule; the inverse of `outline_of` and `Outline.rings`.

    Args:
        rings: rings with horizontal and vertical edges. Parts outside the image are cut off.
        size_hw: the image's height and width in pixels.

    Raises:
        ValueError: a coordinate is not a whole number or is over 2**53, or an edge is neither horizontal nor vertical.
    """
    height, width = size_hw
    flips = [np.zeros(0, dtype=np.int64)]
    for ring in rings:
        start = _checked_points(ring)
        end = np.roll(start, -1, axis=0)
        if np.any((start != end).all(axis=1)):
            raise ValueError("a ring has an edge that is neither horizontal nor vertical")
        # A horizontal edge inverts all pixels below it, in each of its columns.
        is_horizontal = start[:, 1] == end[:, 1]
        x = np.clip(np.sort([start[is_horizontal, 0], end[is_horizontal, 0]], axis=0), 0, width)
        y = np.clip(start[is_horizontal, 1], 0, height)
        flips.append(_columns(x[0], x[1]) * height + np.repeat(y, x[1] - x[0]))
    # The bottom of a column and the top of the next one are the same place, so two flips there cancel out.
    changes = _odd(np.concatenate(flips))
    changes = changes[: np.searchsorted(changes, height * width)]
    return rle_from_run_lengths(np.diff(changes, prepend=0, append=height * width), size_hw)


def _checked_points(ring: RingDict) -> Indices:
    points = np.asarray(ring["points"], dtype=np.float64).reshape(-1, 2)
    if not (np.abs(points) <= _MAX_COORDINATE).all() or (points != np.rint(points)).any():
        raise ValueError("a ring has a coordinate that is not a whole number or is too large")
    return points.astype(np.int64)


def _columns(left: Indices, right: Indices) -> Indices:
    """List the columns of each edge, from its left (included) to its right (excluded), edge by edge."""
    spans = right - left
    columns: Indices = np.arange(spans.sum()) + np.repeat(left - np.cumsum(spans) + spans, spans)
    return columns


def _odd(values: Indices) -> Indices:
    """Return the values that are listed an odd number of times, in ascending order."""
    value, times = np.unique(values, return_counts=True)
    odd: Indices = value[times % 2 == 1]
    return odd


def _flips(rle: RleDict) -> Indices:
    """Find where the mask begins and ends in each column, from top to bottom.

    Returns:
        (2K,) int64, ascending: x * (height + 1) + y of a run's first pixel, of the first pixel below it, and so on.
    """
    height, width = (int(side) for side in rle["size"])
    lengths = run_lengths(rle)
    changes = np.cumsum(lengths)
    if not lengths[1:].all():  # an empty run: the mask changes twice at the same place, so not at all
        changes = _odd(changes)
    changes = changes[: np.searchsorted(changes, height * width)]
    column = changes // height
    inner = (changes + column)[changes != column * height]
    # A run that continues in the next column ends at the bottom of its column; a new one begins at the top of the next.
    heads = np.arange(width + 1) * height
    last_is_inside = np.searchsorted(changes, heads[1:]) & 1
    first_is_inside = np.searchsorted(changes, heads[:-1], side="right") & 1
    tops = np.flatnonzero(first_is_inside) * (height + 1)
    feet = np.flatnonzero(last_is_inside) * (height + 1) + height
    flips = np.concatenate([inner, tops, feet])
    flips.sort(kind="stable")
    return flips


def _corners(flips: Indices, stride: int) -> tuple[Indices, Kinds]:
    """Find the corners: a column flips and its neighbour does not, or one begins and the other ends (a saddle).

    Args:
        flips: the result of `_flips`.
        stride: the mask's height plus 1.

    Returns:
        (K,) x * stride + y of the corners, ascending, and (K,) their kinds. A saddle is there twice, each time with one
        of its pixels inside.
    """
    is_end = (np.arange(len(flips)) & 1).astype(np.uint8)
    both, inside = _in_the_column_beside(flips, -stride)
    alone, saddles = np.flatnonzero(~both), np.flatnonzero(both & (inside != is_end))
    places = [flips[alone], flips[saddles], flips[saddles]]
    kinds = [_look_up(_RIGHT_FLIPS, 2 * is_end[alone] + inside[alone])]
    kinds += [_look_up(pixels, is_end[saddles]) for pixels in zip(*_SADDLES, strict=True)]
    both, inside = _in_the_column_beside(flips, stride)
    alone = np.flatnonzero(~both)
    places.append(flips[alone] + stride)
    kinds.append(_look_up(_LEFT_FLIPS, 2 * is_end[alone] + inside[alone]))
    place = np.concatenate(places)
    order = np.argsort(place, kind="stable")
    return place[order], np.concatenate(kinds)[order]


def _in_the_column_beside(flips: Indices, offset: int) -> tuple[NDArray[np.bool_], Kinds]:
    """Compare each flip with the same row of a neighbouring column.

    Returns:
        For each flip: whether the neighbouring column flips there too; and 1 if its pixel just above is inside, else 0.
    """
    place = flips + offset
    before = np.searchsorted(flips, place)
    both = flips[np.minimum(before, len(flips) - 1)] == place
    return both, (before & 1).astype(np.uint8)


def _walk(x: Indices, y: Indices, kinds: Kinds) -> tuple[Indices, Indices, NDArray[np.bool_]]:
    """Join corners into rings; return the order of the corners, the start of each ring, and whether it is a hole.

    In a row of corners, an edge joins the first and second, another the third and fourth, and so on; the same holds for
    a column. At a saddle, the corner at which the edge from the left (or from above) ends comes first.

    The code follows each ring from horizontal edge to horizontal edge. Edges are numbered in the order of their left
    corners, so the ring's edge with the smallest number has its first corner. At that edge, an outer ring runs to the
    right and a hole to the left.
    """
    across = _partners(y, x, _is_one_of((_BOTTOM_RIGHT, _TOP_RIGHT), kinds))
    down = _partners(x, y, _is_one_of((_BOTTOM_RIGHT, _BOTTOM_LEFT), kinds))
    left = np.flatnonzero(across > np.arange(len(across)))
    right = across[left]
    rightwards = _is_one_of(_LEAVES_HORIZONTALLY, kinds[left])
    # Each edge begins at the corner where the ring leaves horizontally.
    begin, end = np.where(rightwards, left, right), np.where(rightwards, right, left)
    edge = np.empty_like(across)
    edge[left] = edge[right] = np.arange(len(left))
    first, steps = _steps_to_smallest(edge[down[end]])
    length = np.bincount(first, minlength=len(left))
    before = np.cumsum(length) - length
    hole = ~rightwards[first]
    output = 2 * (before[first] + np.where(steps, length[first] - steps, 0))
    # A hole runs its first edge from right to left. So its first corner is the edge's end; its last is the beginning.
    order = np.empty_like(across)
    order[output + 1 - hole] = end
    order[np.where(hole, np.where(steps, output, output + 2 * length[first]) - 1, output)] = begin
    rings = np.flatnonzero(length)
    return order, 2 * before[rings], ~rightwards[rings]


def _look_up(values: Sequence[int], index: NDArray[np.uint8]) -> Kinds:
    return np.array(values, dtype=np.uint8)[index]


def _is_one_of(wanted: Sequence[int], kinds: Kinds) -> NDArray[np.bool_]:
    return np.array([kind in wanted for kind in range(_ALL + 1)])[kinds]


def _partners(line: Indices, along: Indices, later: NDArray[np.bool_]) -> Indices:
    """Return, for each corner, the corner at the other end of its edge on this line."""
    # Of two corners at one place, the one for which `later` is true comes second.
    order = np.argsort((line * (along.max(initial=0) + 1) + along) * 2 + later, kind="stable")
    partner = np.empty_like(order)
    partner[order[0::2]] = order[1::2]
    partner[order[1::2]] = order[0::2]
    return partner


def _steps_to_smallest(successors: Indices) -> tuple[Indices, Indices]:
    """For each number, find the smallest number in its cycle of this permutation, and the number of steps to it.

    Each pass looks twice as far ahead as the one before. A Python loop would hold the GIL too long.
    """
    best = np.arange(len(successors)) << 32  # upper half: smallest number so far; lower half: steps to it
    seen = 1
    while seen < len(successors):
        best = np.minimum(best, best[successors] + seen)
        successors = successors[successors]
        seen *= 2
    return best >> 32, best & 0xFFFFFFFF
