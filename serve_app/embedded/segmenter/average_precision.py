"""Average precision by pycocotools, and the shapes that it reads. Source: cocodataset.org, "Data format"."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from serve_app.embedded.segmenter.matching import Rle


class Detection(TypedDict):
    """An entry of COCO's format of results: a mask, or a box as left, top, width and height."""

    image_id: int
    category_id: int
    score: float
    segmentation: NotRequired[Rle]
    bbox: NotRequired[list[float]]


class Annotation(TypedDict):
    """An entry of COCO's format of ground truth."""

    id: int
    image_id: int
    category_id: int
    segmentation: Rle
    area: float
    bbox: list[float]
    iscrowd: int


class Precision(TypedDict):
    """Average precision over IoUs of 0.5 to 0.95, and at 0.5 and 0.75."""

    ap: float
    ap50: float
    ap75: float


def average_precision(truth: COCO, detections: list[Detection], kind: Literal["segm", "bbox"]) -> Precision:
    """Compare detections with the objects by their masks or their boxes."""
    evaluation = COCOeval(truth, truth.loadRes(detections), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    ap, ap50, ap75 = map(float, evaluation.stats[:3])
    return {"ap": ap, "ap50": ap50, "ap75": ap75}
