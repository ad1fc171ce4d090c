"""Our staged, batched path gives the reference loop's objects, on the held-out scenes and on random pictures."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from serve_app.config.models import EMBEDDED, SegmentationModel
from serve_app.config.schema import DeviceConfig, LimitsConfig
from serve_app.images.decoding import decode
from serve_app.models import locations
from serve_app.models.interface import Detections, Pair
from serve_app.models.sam3 import Sam3Segmenter
from serve_app.models.sam3_features import ImageFeatures, PhraseFeatures
from serve_app.schemas.dicts import ObjectDict
from tests.benchmarks.reference_loop import ReferenceSegmenter
from tests.image_document import image_document

SCENES = Path(__file__).parent.parent / "data" / "scenes"
SIZES_WH = ((320, 240), (97, 301), (640, 427))


@dataclass(frozen=True)
class Question:
    """A picture file and phrases; `threshold` None: wherever it keeps some queries and is near none."""

    name: str
    data: bytes
    phrases: tuple[str, ...]
    threshold: float | None

    @property
    def picture(self) -> Image.Image:
        return Image.open(io.BytesIO(self.data)).convert("RGB")


def scenes() -> list[Question]:
    entries = json.loads((SCENES / "scenes.json").read_text(encoding="utf-8"))
    return [Question(e["file"], (SCENES / e["file"]).read_bytes(), tuple(e["entities"]), 0.5) for e in entries]


def random_pictures() -> list[Question]:
    """Coloured blocks under noise: nothing that the checkpoint knows, so that the threshold has to be low."""
    rng = np.random.default_rng(11)
    questions = []
    for width, height in SIZES_WH:
        blocks = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        coarse = np.asarray(Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST), dtype=np.int16)
        pixels = np.clip(coarse + rng.integers(-40, 41, coarse.shape), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        questions.append(Question(f"random {width}x{height}", buffer.getvalue(), ("red square", "dog", "a key"), None))
    return questions


def ours(segmenter: Sam3Segmenter, question: Question, thresholds: Mapping[str, float]) -> list[ObjectDict]:
    """The package's way: one vision pass, all phrases in one batch, the document that users see."""
    pixels = decode(question.data, LimitsConfig())
    (image,) = segmenter.encode([segmenter.prepare(pixels)])
    assert isinstance(image, ImageFeatures)
    pairs = []
    for phrase in segmenter.embed(question.phrases):
        assert isinstance(phrase, PhraseFeatures)
        pairs.append(Pair(image, phrase, thresholds[phrase.phrase]))
    found: dict[str, Detections] = {}
    for pair, outcome in zip(pairs, segmenter.detect(pairs), strict=True):
        assert isinstance(outcome, Detections)
        found[pair.phrase.phrase] = outcome
    document = image_document(found, (pixels.shape[1], pixels.shape[0]))
    assert document["objects"] is not None
    return document["objects"]


class ReferenceAnswers:
    """Answers of the reference loop. It is slow, so each question is asked once."""

    def __init__(self, reference: ReferenceSegmenter) -> None:
        self._reference = reference
        self._known: dict[str, tuple[dict[str, float], list[dict[str, Any]]]] = {}

    def of(self, question: Question) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """The thresholds that the question is asked with, by phrase, and the objects found."""
        if question.name not in self._known:
            thresholds = {phrase: self._threshold(question, phrase) for phrase in question.phrases}
            objects = [
                found
                for phrase in question.phrases
                for found in self._reference.segment(question.picture, phrase, threshold=thresholds[phrase])
            ]
            self._known[question.name] = thresholds, objects
        return self._known[question.name]

    def _threshold(self, question: Question, phrase: str) -> float:
        """The question's own; where it has none, the middle of the widest gap below the second-best score."""
        if question.threshold is not None:
            return question.threshold
        scores = np.array([found["score"] for found in self._reference.segment(question.picture, phrase, threshold=0)])
        widest = int((scores[1:-1] - scores[2:]).argmax()) + 1
        return float(scores[widest] + scores[widest + 1]) / 2


def mask(found: Mapping[str, Any]) -> NDArray[np.bool_]:
    decoded: NDArray[np.bool_] = coco_mask.decode(found["mask_rle"]).astype(bool)
    return decoded


def inside(found: Mapping[str, Any]) -> NDArray[np.float64]:
    """The box, cut at the picture's edges: the stock post-processing leaves what hangs over, we do not."""
    height, width = found["mask_rle"]["size"]
    box: NDArray[np.float64] = np.clip(found["bbox"], 0, (width, height, width, height))
    return box


def iou(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    union = np.logical_or(mask(one), mask(other)).sum()
    return float(np.logical_and(mask(one), mask(other)).sum() / union) if union else 1.0


@pytest.fixture(scope="module")
def reference() -> ReferenceAnswers:
    return ReferenceAnswers(ReferenceSegmenter.load(locations.resolve(EMBEDDED, "segmenter")))


def load(dtype: str) -> Sam3Segmenter:
    return Sam3Segmenter.load(SegmentationModel(device="cpu", dtype=dtype), DeviceConfig())


@pytest.fixture(scope="module")
def full() -> Sam3Segmenter:
    return load("float32")


@pytest.fixture(scope="module")
def mixed() -> Sam3Segmenter:
    return load("bfloat16")


QUESTIONS = [*scenes(), *random_pictures()]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_segmenter_gives_the_reference_loops_objects(
    reference: ReferenceAnswers, full: Sam3Segmenter, question: Question
) -> None:
    thresholds, expected = reference.of(question)
    found = ours(full, question, thresholds)
    assert [one["label"] for one in found] == [one["label"] for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)
        np.testing.assert_allclose(one["bbox"], inside(other), atol=1)
        assert np.mean(mask(one) != mask(other)) < 1e-4


@pytest.mark.parametrize("question", scenes(), ids=lambda question: question.name)
def test_half_precision_vision_gives_the_reference_loops_objects(
    reference: ReferenceAnswers, mixed: Sam3Segmenter, question: Question
) -> None:
    thresholds, expected = reference.of(question)
    found = ours(mixed, question, thresholds)
    # A score this near the threshold may fall on either side of it.
    assert labels_away_from(found, thresholds) == labels_away_from(expected, thresholds)
    for one in found:
        twins = [other for other in expected if other["label"] == one["label"]]
        twin = max(twins, key=lambda other: iou(one, other), default=None)
        if twin is None:
            continue  # near the threshold, or the labels above would differ
        assert one["score"] == pytest.approx(twin["score"], abs=1e-2)
        assert iou(one, twin) >= 0.99


def labels_away_from(objects: Sequence[Mapping[str, Any]], thresholds: Mapping[str, float]) -> list[str]:
    """Labels of the objects whose score is farther from the threshold than half precision may move it."""
    return [one["label"] for one in objects if abs(one["score"] - thresholds[one["label"]]) > 1e-2]


def test_the_questions_are_not_empty(reference: ReferenceAnswers) -> None:
    """Comparing empty answers would prove nothing."""
    counts = [len(reference.of(question)[1]) for question in QUESTIONS]
    assert sum(counts) >= len(QUESTIONS)
    assert all(count >= 2 for count in counts[-len(SIZES_WH) :])
