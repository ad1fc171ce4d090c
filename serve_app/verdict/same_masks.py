"""Objects whose masks are nearly the same: one thing counted twice, or one thing under two labels.

An image may have thousands of masks, so the work is done in steps (see `masks.steps`), by RLE, and pairs whose boxes or
areas differ too much are left out first.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serve_app.masks.rle import area, bounds, iou_matrix
from serve_app.masks.steps import Steps
from serve_app.verdict.evidence import Overlap, Seen

SAME_MASK_IOU = 0.8
"""Objects whose masks overlap by more than this are one thing."""
MOST_OVERLAPS = 100
MASKS_A_STEP = 64


class _Masks:
    """The masks of one image, with what tells quickly that two of them differ."""

    def __init__(self, objects: Sequence[Seen]) -> None:
        self._rles = [each.mask for each in objects]
        self._boxes = np.array([bounds(rle) for rle in self._rles], np.int64).reshape(-1, 4)
        self._areas = np.array([area(rle) for rle in self._rles], np.int64)

    def like(self, place: int, others: Sequence[int]) -> Steps[list[tuple[int, float]]]:
        """Find the masks that are nearly that of `place`.

        Args:
            place: of the mask.
            others: places of the masks that it is compared with.

        Returns:
            Place and IoU, over SAME_MASK_IOU, of each; in the order of `others`.
        """
        candidates = self._perhaps_like(place, np.array(others, np.int64))
        found = []
        yield
        for start in range(0, len(candidates), MASKS_A_STEP):
            group = candidates[start : start + MASKS_A_STEP]
            (row,) = iou_matrix([self._rles[place]], [self._rles[other] for other in group])
            found += [(other, float(iou)) for other, iou in zip(group, row, strict=True) if iou > SAME_MASK_IOU]
            yield
        return found

    def _perhaps_like(self, place: int, others: NDArray[np.int64]) -> list[int]:
        """Leave out the masks whose box or area alone says that the IoU is too small."""
        corner = np.minimum(self._boxes[others, 2:], self._boxes[place, 2:])
        sides = np.maximum(0, corner - np.maximum(self._boxes[others, :2], self._boxes[place, :2]))
        common = np.minimum(sides.prod(axis=1), np.minimum(self._areas[others], self._areas[place]))
        larger = np.maximum(self._areas[others], self._areas[place])
        chosen: list[int] = others[common > SAME_MASK_IOU * larger].tolist()
        return chosen


def compare_masks(objects: Sequence[Seen]) -> Steps[tuple[list[Seen], list[Overlap]]]:
    """Find what counts once, and what may be one thing under two labels.

    Bound: a step compares one mask with MASKS_A_STEP others. Each pair of alike boxes is compared once.

    Args:
        objects: of one image.

    Returns:
        The distinct objects, in order of descending score: within a label, none has nearly the mask of a better one.
        And the pairs of different labels with nearly the same mask, at most MOST_OVERLAPS, the largest first.
    """
    masks = _Masks(objects)
    ranked = sorted(range(len(objects)), key=lambda place: -objects[place].score)
    kept: list[int] = []
    pairs: list[tuple[float, int, int]] = []  # negative places: of equal pairs the first are the largest
    for rank, place in enumerate(ranked):
        alike = yield from masks.like(place, ranked[:rank])
        own = {other for other, _ in alike if objects[other].label == objects[place].label}
        if own.isdisjoint(kept):
            kept.append(place)
        for other, iou in alike:
            if other not in own:
                pairs.append((iou, -min(place, other), -max(place, other)))
        pairs = heapq.nlargest(MOST_OVERLAPS, pairs)
    overlaps = [Overlap((objects[-a].object_id, objects[-b].object_id), iou) for iou, a, b in pairs]
    return [objects[place] for place in kept], overlaps


def besides(bare: Sequence[Seen], listed: Sequence[Seen]) -> Steps[int]:
    """Count the distinct objects that are not in an image's list already, under whatever label.

    Args:
        bare: of one noun.
        listed: the image's objects.
    """
    candidates, _ = yield from compare_masks(bare)
    masks = _Masks([*candidates, *listed])
    places = range(len(candidates), len(candidates) + len(listed))
    count = 0
    for place in range(len(candidates)):
        alike = yield from masks.like(place, places)
        count += not alike
    return count
