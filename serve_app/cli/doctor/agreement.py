"""Compares the objects that genseg finds with the objects of the plain loop. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve_app.masks.rle import area, iou_matrix
from serve_app.schemas.dicts import RleDict

BOX_PX = 1.0
"""Two boxes differ if one of their sides is further apart than this, in pixels."""
LEAST_IOU = 0.99
"""Two masks differ if their IoU is lower than this."""


@dataclass(frozen=True)
class Objects:
    """The N objects that one implementation found for a phrase in an image, in any order.

    Attributes:
        boxes: (N, 4) float xyxy in pixels, within the image.
        masks: N masks, as COCO RLE.
    """

    boxes: NDArray[np.float64]
    masks: Sequence[RleDict]


@dataclass(frozen=True)
class Agreement:
    """How our objects compare with the plain loop's, over all images and phrases. `compare` pairs them.

    Attributes:
        objects: how many objects the plain loop found.
        missing: how many only the plain loop found.
        extra: how many only we found.
        moved: how many pairs of objects have boxes more than BOX_PX apart, or a mask IoU below LEAST_IOU.
        worst_box_px: largest distance between the sides of the two boxes of a pair.
        worst_iou: lowest IoU of the two masks of a pair.
    """

    objects: int = 0
    missing: int = 0
    extra: int = 0
    moved: int = 0
    worst_box_px: float = 0.0
    worst_iou: float = 1.0

    @property
    def differing(self) -> int:
        """How many objects differ in any way."""
        return self.missing + self.extra + self.moved

    def plus(self, other: Agreement) -> Agreement:
        """Combine this comparison with that of another phrase or image: add the counts, keep the worst values."""
        return Agreement(
            self.objects + other.objects,
            self.missing + other.missing,
            self.extra + other.extra,
            self.moved + other.moved,
            max(self.worst_box_px, other.worst_box_px),
            min(self.worst_iou, other.worst_iou),
        )


def compare(ours: Objects, plain: Objects) -> Agreement:
    """Compare the objects of one phrase in one image. They are paired by mask IoU, the best pair first."""
    count = min(len(ours.masks), len(plain.masks))
    ious = _ious(ours.masks, plain.masks)
    moved, worst_box, worst_iou = 0, 0.0, 1.0
    for _ in range(count):
        row, column = np.unravel_index(int(ious.argmax()), ious.shape)
        iou = float(ious[row, column])
        distance = float(np.abs(ours.boxes[row] - plain.boxes[column]).max())
        moved += distance > BOX_PX or iou < LEAST_IOU
        worst_box, worst_iou = max(worst_box, distance), min(worst_iou, iou)
        ious[row, :] = ious[:, column] = -1.0
    return Agreement(
        objects=len(plain.masks),
        missing=len(plain.masks) - count,
        extra=len(ours.masks) - count,
        moved=moved,
        worst_box_px=worst_box,
        worst_iou=worst_iou,
    )


def _ious(first: Sequence[RleDict], second: Sequence[RleDict]) -> NDArray[np.float64]:
    """Return the IoU of each pair of masks, (N, M); 1 for two empty masks."""
    ious = iou_matrix(first, second)
    empty = [np.array([not area(mask) for mask in side], bool) for side in (first, second)]
    ious[np.ix_(*empty)] = 1.0
    return ious
