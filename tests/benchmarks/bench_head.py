"""SAM3's detector head: what masks cost that nobody looks at, and what half precision costs in accuracy.

The first row runs the head and the mask decoder of the stock configuration, with random weights, on features of one
1008-pixel image: eight phrases that are all found. The second compares the embedded model's answers on the held-out
scenes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict

import torch
from transformers import Sam3Config, Sam3ImageProcessor, Sam3Model, Sam3Processor

from serve_app.masks.steps import finish
from serve_app.models.interface import Detections
from serve_app.models.sam3 import Sam3Segmenter
from serve_app.models.sam3_features import ImageFeatures, Pair, PhraseFeatures
from serve_app.serving.documents import MaskBytes, add_objects, empty_image_document
from tests.benchmarks.rows import Row, compared, limited
from tests.models.head_error import answers, error_of
from tests.models.small_segmenter import tokenizer

PHRASES = 8
KEPT = 3
"""Objects of each phrase."""
SIZE_WH = (1920, 1080)
REPEATS = 3
TARGET = 1.3
MEAN_SCORE_ERROR, LEAST_IOU = 0.001, 0.99


def build() -> tuple[Sam3Segmenter, ImageFeatures, list[PhraseFeatures]]:
    """Build the full-size head behind a vision encoder of one layer, and random features for it."""
    torch.manual_seed(0)
    config = Sam3Config()
    config.vision_config.backbone_config.num_hidden_layers = 1
    config.text_config.num_hidden_layers = 1
    segmenter = Sam3Segmenter(Sam3Model(config).eval(), Sam3Processor(Sam3ImageProcessor(), tokenizer()))
    fine = tuple(torch.randn(256, side, side) for side in (288, 144))
    mask = torch.arange(32) < 4
    phrases = [PhraseFeatures(f"thing {index}", torch.randn(32, 256), mask) for index in range(PHRASES)]
    return segmenter, ImageFeatures(fine, torch.randn(72 * 72, 256)), phrases


def document_s(segmenter: Sam3Segmenter, pairs: Sequence[Pair]) -> float:
    """Run the head and write the objects; seconds."""
    started = time.perf_counter()
    found: dict[str, Detections] = {}
    for pair, outcome in zip(pairs, segmenter.detect(pairs), strict=True):
        assert isinstance(outcome, Detections)
        found[pair.phrase.phrase] = outcome
    document = empty_image_document(SIZE_WH, [])
    finish(add_objects(document, found, 0.5 if pairs[0].masks else None, MaskBytes()))
    assert len(document["objects"] or ()) == KEPT * len(pairs)
    return time.perf_counter() - started


def without_masks(count: int, repeats: int) -> Row:
    """Compare `mask_format: none` with `rle`."""
    segmenter, image, phrases = build()
    everything = segmenter.detect([Pair(image, phrase, -1.0, masks=False) for phrase in phrases[:count]])
    limits = []
    for found in everything:
        assert isinstance(found, Detections)
        limits.append(float(found.scores[KEPT - 1] + found.scores[KEPT]) / 2)
    times: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(repeats):
        for masks, seconds in times.items():
            pairs = [Pair(image, *each, masks) for each in zip(phrases[:count], limits, strict=True)]
            seconds.append(document_s(segmenter, pairs))
    what = f"head and objects of {count} found pairs: mask_format none against rle"
    return compared(what, min(times[True]), min(times[False]), target=TARGET)


def accuracy() -> list[Row]:
    """Compare a head in half precision with float32, on the held-out scenes."""
    exact = answers("float32")
    rows = []
    for head_dtype in ("float16", "bfloat16"):
        error = error_of(exact, answers(head_dtype))
        # bfloat16 is there to be told apart; `auto` never takes it.
        limit = MEAN_SCORE_ERROR if head_dtype == "float16" else None
        row = limited(
            f"head in {head_dtype}, {error.objects} objects of the held-out scenes: mean error of a score",
            error.score_mean,
            unit="",
            at_most=limit,
            more=asdict(error),
        )
        row["met"] = row["met"] and error.iou_min >= LEAST_IOU and error.flipped == 0
        rows.append(row)
    return rows


def run(quick: bool = False) -> list[Row]:
    """Measure both.

    Args:
        quick: two phrases, once, and no accuracy.
    """
    return [without_masks(2, 1)] if quick else [without_masks(PHRASES, REPEATS), *accuracy()]
