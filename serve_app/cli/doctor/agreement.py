"""Whether two ways found the same objects. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve_app.masks.rle import area, iou_matrix
from serve_app.schemas.dicts import RleDict

BOX_PX = 1.0
LEAST_IOU = 0.99


@dataclass(frozen=True)
class Objects:
    """What one way found of one phrase in one image; N objects, in any order.

    Attributes:
        boxes: (N, 4) float xyxy in pixels, within the image.
        masks: N masks.
    """

    boxes: NDArray[np.float64]
    masks: Sequence[RleDict]


@dataclass(frozen=True)
class Agreement:
    """How two ways compare over all images and phrases.

    Attributes:
        objects: how many the plain loop found.
        missing: of them, how many the other way did not find.
        extra: how many only the other way found.
        moved: found by both, with a box over BOX_PX apart or a mask below LEAST_IOU.
        worst_box_px: largest distance of a box's side, over what both found.
        worst_iou: least IoU of their masks.
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
        """Add the comparison of another phrase or image."""
        return Agreement(
            self.objects + other.objects,
            self.missing + other.missing,
            self.extra + other.extra,
            self.moved + other.moved,
            max(self.worst_box_px, other.worst_box_px),
            min(self.worst_iou, other.worst_iou),
        )


def compare(ours: Objects, plain: Objects) -> Agreement:
    """Compare what two ways found of one phrase in one image; each object with its nearest by the masks."""
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
    """IoU of each pair of masks; 1 for two empty ones."""
    ious = iou_matrix(first, second)
    empty = [np.array([not area(mask) for mask in side], bool) for side in (first, second)]
    ious[np.ix_(*empty)] = 1.0
    return ious
