"""Computes average precision with pycocotools. Source of the types: cocodataset.org, "Data format"."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from serve_app.embedded.segmenter.matching import Rle


class Detection(TypedDict):
    """A detection in COCO's results format, with a mask or with a box (left, top, width, height)."""

    image_id: int
    category_id: int
    score: float
    segmentation: NotRequired[Rle]
    bbox: NotRequired[list[float]]


class Annotation(TypedDict):
    """An object in COCO's ground-truth format."""

    id: int
    image_id: int
    category_id: int
    segmentation: Rle
    area: float
    bbox: list[float]
    iscrowd: int


class Precision(TypedDict):
    """Average precision in [0, 1]: mean over IoU thresholds of 0.5 to 0.95, and at 0.5 and 0.75."""

    ap: float
    ap50: float
    ap75: float


def average_precision(truth: COCO, detections: list[Detection], kind: Literal["segm", "bbox"]) -> Precision:
    """Compute the average precision of detections.

    Args:
        truth: the ground truth, indexed.
        detections: at least one.
        kind: "segm" compares masks, "bbox" compares boxes.
    """
    evaluation = COCOeval(truth, truth.loadRes(detections), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    ap, ap50, ap75 = map(float, evaluation.stats[:3])
    return {"ap": ap, "ap50": ap50, "ap75": ap75}
