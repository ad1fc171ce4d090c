"""How far a half-precision head moves the embedded model's answers on the held-out scenes from those of float32."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serve_app.config.models import SegmentationModel
from serve_app.config.schema import DeviceConfig, LimitsConfig
from serve_app.images.decoding import decode
from serve_app.models.interface import Detections, Pair
from serve_app.models.sam3 import Sam3Segmenter
from serve_app.models.sam3_features import ImageFeatures, PhraseFeatures

SCENES = Path(__file__).parent.parent / "data" / "scenes"
SCORE = 0.5
"""Objects of float32 above this score are compared."""
MARGIN = 0.1
"""How far below it their twins are looked for."""

Answers = Mapping[tuple[str, str], Detections]
"""By scene and phrase."""


@dataclass(frozen=True)
class HeadError:
    """What half precision changed.

    Attributes:
        objects: of float32, above SCORE.
        score_mean, score_95, score_max: difference of an object's score; 95 % of the objects move by at most score_95.
        box_max: difference of a box's edge, in widths or heights of the image.
        iou_min: of an object's two masks.
        presence_max: difference of a phrase's presence.
        flipped: scenes and phrases of which another number of objects is above SCORE.
    """

    objects: int
    score_mean: float
    score_95: float
    score_max: float
    box_max: float
    iou_min: float
    presence_max: float
    flipped: int


def answers(head_dtype: str, dtype: str = "float32") -> Answers:
    """Ask the embedded model for every entity of every scene."""
    config = SegmentationModel(device="cpu", dtype=dtype, head_dtype=head_dtype)
    segmenter = Sam3Segmenter.load(config, DeviceConfig())
    found: dict[tuple[str, str], Detections] = {}
    for entry in json.loads((SCENES / "scenes.json").read_text(encoding="utf-8")):
        picture = decode((SCENES / entry["file"]).read_bytes(), LimitsConfig())
        (image,) = segmenter.encode([segmenter.prepare(picture)])
        assert isinstance(image, ImageFeatures)
        pairs = []
        for phrase in segmenter.embed(entry["entities"]):
            assert isinstance(phrase, PhraseFeatures)
            pairs.append(Pair(image, phrase, SCORE - MARGIN))
        for pair, outcome in zip(pairs, segmenter.detect(pairs), strict=True):
            assert isinstance(outcome, Detections)
            found[entry["file"], pair.phrase.phrase] = outcome
    return found


def error_of(exact: Answers, rounded: Answers) -> HeadError:
    """Compare two sets of answers; an object's twin is the one whose box and score are nearest."""
    scores, boxes, ious = [], [], []
    for key, full in exact.items():
        half = rounded[key]
        for index in np.flatnonzero(full.scores > SCORE):
            distance = np.abs(half.boxes - full.boxes[index]).max(1) + np.abs(half.scores - full.scores[index])
            twin = int(distance.argmin())
            scores.append(abs(float(half.scores[twin] - full.scores[index])))
            boxes.append(float(np.abs(half.boxes[twin] - full.boxes[index]).max()))
            ious.append(_iou(half.mask_logits[twin] > 0, full.mask_logits[index] > 0))
    return HeadError(
        objects=len(scores),
        score_mean=float(np.mean(scores)),
        score_95=float(np.percentile(scores, 95)),
        score_max=max(scores),
        box_max=max(boxes),
        iou_min=min(ious),
        presence_max=max(abs(rounded[key].presence - full.presence) for key, full in exact.items()),
        flipped=sum(_count(full) != _count(rounded[key]) for key, full in exact.items()),
    )


def _count(found: Detections) -> int:
    return int((found.scores > SCORE).sum())


def _iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    union = np.logical_or(one, other).sum()
    return float(np.logical_and(one, other).sum() / union) if union else 1.0
