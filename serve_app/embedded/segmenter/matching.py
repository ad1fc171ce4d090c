"""Masks of detections and of objects: encoded, matched and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from pycocotools import mask as coco_mask

MATCH_IOU = 0.5


class Rle(TypedDict):
    """A mask as pycocotools encodes it: `size` is height and width in pixels."""

    size: list[int]
    counts: bytes


def encode(mask: np.ndarray[Any, Any]) -> Rle:
    """Encode a mask (H, W) of any type, non-zero inside, as COCO RLE with byte counts."""
    rle: Rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return rle


@dataclass(frozen=True)
class Match:
    """A detection and the object it was matched to, by their numbers, and the IoU of their masks."""

    found: int
    truth: int
    iou: float


def match_masks(found: Sequence[Rle], truth: Sequence[Rle]) -> list[Match]:
    """Match detections, in order, each to the free object it overlaps best, where the IoU is at least 0.5."""
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
    """Bound a mask that is not empty: xyxy in pixels, the far edges exclusive."""
    left, top, width, height = coco_mask.toBbox(rle).tolist()
    return [left, top, left + width, top + height]


def box_iou(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union of two xyxy boxes, at least one of which is not empty."""
    overlap_wh = [min(first[i + 2], second[i + 2]) - max(first[i], second[i]) for i in (0, 1)]
    shared = max(0.0, overlap_wh[0]) * max(0.0, overlap_wh[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return shared / (sum(areas) - shared)
