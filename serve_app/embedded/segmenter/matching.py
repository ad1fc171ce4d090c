"""Encodes, matches and compares the masks of detections and objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from pycocotools import mask as coco_mask

MATCH_IOU = 0.5
"""Smallest mask IoU of a match."""


class Rle(TypedDict):
    """A mask as pycocotools encodes it. `size` is height and width in pixels."""

    size: list[int]
    counts: bytes


def encode(mask: np.ndarray[Any, Any]) -> Rle:
    """Encode a mask (H, W) of any dtype, non-zero inside, as COCO RLE with counts as bytes."""
    rle: Rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return rle


@dataclass(frozen=True)
class Match:
    """A match: the indices of the detection and of its object, and the IoU of their masks."""

    found: int
    truth: int
    iou: float


def match_masks(found: Sequence[Rle], truth: Sequence[Rle]) -> list[Match]:
    """Match each detection, in order, to the unmatched object with the highest mask IoU, if it is at least MATCH_IOU.

    Args:
        found: masks of the detections, best first; may be empty.
        truth: masks of the objects; may be empty.
    """
    if not found or not truth:
        return []
    overlap = coco_mask.iou(list(found), list(truth), [0] * len(truth))
    matches = []
    for row in range(len(found)):
        best = int(overlap[row].argmax())
        if overlap[row, best] >= MATCH_IOU:
            matches.append(Match(row, best, float(overlap[row, best])))
            overlap[:, best] = 0
    return matches


def bounds_xyxy(rle: Rle) -> list[float]:
    """Return the bounding box of a mask that is not empty: xyxy in pixels, x2 and y2 exclusive."""
    left, top, width, height = coco_mask.toBbox(rle).tolist()
    return [left, top, left + width, top + height]


def box_iou(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the intersection over union of two xyxy boxes, in [0, 1]. At least one of them is not empty.

    >>> box_iou([0, 0, 2, 2], [1, 0, 3, 2])
    0.3333333333333333
    """
    overlap_wh = [min(first[i + 2], second[i + 2]) - max(first[i], second[i]) for i in (0, 1)]
    shared = max(0.0, overlap_wh[0]) * max(0.0, overlap_wh[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return shared / (sum(areas) - shared)
