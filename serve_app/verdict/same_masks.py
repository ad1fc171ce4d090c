"""Objects whose masks are nearly the same: one thing counted twice, or one thing under two labels.

An image may have thousands of masks, so the work is done in steps (see `masks.steps`), by RLE, and pairs whose boxes or
areas differ too much are left out first.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from serve_app.masks.rle import area, bounds, iou_matrix
from serve_app.masks.steps import Steps
from serve_app.schemas.dicts import RleDict
from serve_app.verdict.evidence import Overlap, Seen

SAME_MASK_IOU = 0.8
"""Objects whose masks overlap by more than this are one thing."""
MOST_OVERLAPS = 100
MASKS_A_STEP = 64
BYTES_A_STEP = 4 * 1024 * 1024
"""Of text of the masks that one is compared with."""


class _Masks:
    """The masks of one image, with what tells quickly that two of them differ: (N, 4) boxes, and (N,) areas."""

    def __init__(self, rles: Sequence[RleDict], boxes: NDArray[np.int64], areas: NDArray[np.int64]) -> None:
        self._rles, self._boxes, self._areas = rles, boxes, areas

    @classmethod
    def of(cls, objects: Sequence[Seen]) -> Steps[_Masks]:
        """Measure the masks, a step each."""
        boxes, areas = np.zeros((len(objects), 4), np.int64), np.zeros(len(objects), np.int64)
        for place, each in enumerate(objects):
            boxes[place], areas[place] = bounds(each.mask), area(each.mask)
            yield
        return cls([each.mask for each in objects], boxes, areas)

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
        for group in self._groups(candidates):
            (row,) = iou_matrix([self._rles[place]], [self._rles[other] for other in group])
            found += [(other, float(iou)) for other, iou in zip(group, row, strict=True) if iou > SAME_MASK_IOU]
            yield
        return found

    def _groups(self, places: Sequence[int]) -> Iterator[list[int]]:
        """Cut a list into parts whose masks are of MASKS_A_STEP, and of BYTES_A_STEP unless it is one mask."""
        group: list[int] = []
        size = 0
        for place in places:
            own = len(self._rles[place]["counts"])
            if group and (len(group) == MASKS_A_STEP or size + own > BYTES_A_STEP):
                yield group
                group, size = [], 0
            group.append(place)
            size += own
        if group:
            yield group

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

    Bound: a step compares one mask with MASKS_A_STEP others, or BYTES_A_STEP of them. Each pair of alike boxes is
    compared once. Measured: 1 ms for 12 discs at 8 megapixels, 0.8 s for 200 that overlap; 6 s for 12 masks of noise
    at 8 megapixels, 0.2 s a step.

    Args:
        objects: of one image.

    Returns:
        The distinct objects, in order of descending score: within a label, none has nearly the mask of a better one.
        And the pairs of different labels with nearly the same mask, at most MOST_OVERLAPS, the largest first.
    """
    masks = yield from _Masks.of(objects)
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


def besides(bare: Mapping[str, Sequence[Seen]], listed: Sequence[Seen]) -> Steps[dict[str, int]]:
    """Count the distinct objects that are not in an image's list already, under whatever label.

    Args:
        bare: what was found of the nouns of some entities, by the entity.
        listed: the image's objects; each is measured once.

    Returns:
        The number by the entity.
    """
    candidates: list[Seen] = []
    entities: list[str] = []
    for entity, objects in bare.items():
        distinct, _ = yield from compare_masks(objects)
        candidates += distinct
        entities += [entity] * len(distinct)
    masks = yield from _Masks.of([*candidates, *listed])
    places = range(len(candidates), len(candidates) + len(listed))
    counts = dict.fromkeys(bare, 0)
    for place, entity in enumerate(entities):
        alike = yield from masks.like(place, places)
        counts[entity] += not alike
    return counts
