"""Full-size SAM3: the stock configuration with random weights, 1008 px, one image and ten phrases, half of them absent.

Against the reference loop, whose cost per phrase is measured on two phrases and scaled: in float32, and with our vision
encoder in bfloat16. Every round measures each side once; the row is the round with the middle ratio. Random weights
score everything alike, so the threshold of each phrase is put where a handful of its queries, or none, is above it.
Prints where the time goes. The two measured phrases must give the same objects on both sides in float32.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import Sam3Config, Sam3ImageProcessor, Sam3Model, Sam3Processor

from serve_app.models.interface import Detections, Pair
from serve_app.models.sam3 import Sam3Segmenter
from serve_app.models.sam3_features import ImageFeatures, PhraseFeatures
from serve_app.schemas.dicts import ObjectDict
from tests.benchmarks import machine
from tests.benchmarks.reference_loop import ReferenceSegmenter
from tests.benchmarks.rows import Row, compared
from tests.benchmarks.sizing import DETR_GFLOP, MASK_GFLOP, TEXT_GFLOP, VISION_GFLOP
from tests.image_document import image_document
from tests.models.small_segmenter import tokenizer

PHRASES = tuple(f"{colour} {thing}" for thing in ("dog", "car") for colour in ("red", "blue", "big", "old", "wet"))
MEASURED = 2
"""Phrases that the reference loop runs; the first is found, the second is not."""

FEWEST_KEPT, MOST_KEPT = 3, 8
SIZE_WH = (1280, 960)
TARGET_FP32, TARGET_BF16 = 5.9, 8.4
ROUNDS = 3
Stages = dict[str, float]
"""Seconds by name of the stage, in order."""


def build_model() -> tuple[Sam3Model, Sam3Processor]:
    """Build the full-size model: 840 million random weights, 3.4 GB."""
    torch.manual_seed(0)
    return Sam3Model(Sam3Config()).eval(), Sam3Processor(Sam3ImageProcessor(), tokenizer())


def picture() -> Image.Image:
    """Draw blocks of colour under noise."""
    rng = np.random.default_rng(3)
    blocks = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(SIZE_WH, Image.Resampling.NEAREST)
    noise = rng.integers(-30, 31, (SIZE_WH[1], SIZE_WH[0], 3))
    return Image.fromarray(np.clip(np.asarray(blocks, dtype=np.int16) + noise, 0, 255).astype(np.uint8))


@dataclass(frozen=True)
class Mark:
    """A moment in a forward: the first time that a module is entered, or the last that it is left."""

    name: str
    module: nn.Module
    leaving: bool = False


@contextmanager
def marked(marks: Sequence[Mark]) -> Iterator[dict[str, float]]:
    """Note the moments while the block runs; yields them by name, on the clock of `time.perf_counter`."""
    times: dict[str, float] = {}

    def enter(name: str) -> Callable[..., None]:
        def note(*_: object) -> None:
            times.setdefault(name, time.perf_counter())

        return note

    def leave(name: str) -> Callable[..., None]:
        return lambda *_: times.update({name: time.perf_counter()})

    hooks = [
        mark.module.register_forward_hook(leave(mark.name))
        if mark.leaving
        else mark.module.register_forward_pre_hook(enter(mark.name))
        for mark in marks
    ]
    try:
        yield times
    finally:
        for hook in hooks:
            hook.remove()


def stages_between(started: float, times: dict[str, float], ended: float) -> Stages:
    """Name each span after the moment that ends it; the last is `rest`."""
    stages: Stages = {}
    for name, moment in sorted(times.items(), key=lambda item: item[1]):
        stages[name] = moment - started
        started = moment
    return stages | {"rest": ended - started}


def head_marks(model: Sam3Model) -> list[Mark]:
    """Where the detector's head goes from encoder to decoder, from decoder to scores, from scores to masks."""
    return [
        Mark("encoder", model.detr_decoder.ref_point_head),
        Mark("decoder", model.detr_decoder.layers[-1], leaving=True),
        Mark("scores", model.mask_decoder.prompt_cross_attn_norm),
    ]


def measure_reference(
    model: Sam3Model, processor: Sam3Processor, image: Image.Image, thresholds: Sequence[float]
) -> tuple[float, Stages, list[list[dict[str, Any]]]]:
    """Run the reference loop over the first phrases.

    Returns:
        Seconds for one phrase, its stages, and the objects of each phrase.
    """
    reference = ReferenceSegmenter(model, processor)
    marks = [
        Mark("pre-process", model.vision_encoder),
        Mark("vision", model.vision_encoder, leaving=True),
        Mark("text", model.text_encoder, leaving=True),
        *head_marks(model),
        Mark("masks", model.mask_decoder, leaving=True),
    ]
    total: Stages = {}
    objects = []
    started = time.perf_counter()
    for phrase, threshold in zip(PHRASES[:MEASURED], thresholds, strict=False):
        began = time.perf_counter()
        with marked(marks) as times:
            objects.append(reference.segment(image, phrase, threshold=threshold))
        for name, seconds in stages_between(began, times, time.perf_counter()).items():
            total[name] = total.get(name, 0.0) + seconds / MEASURED
    return (time.perf_counter() - started) / MEASURED, total, objects


def choose_thresholds(model: Sam3Model, segmenter: Sam3Segmenter, image: Tensor) -> list[float]:
    """Find a threshold for each phrase: in the widest gap under a handful of scores, or, every second, above all.

    Runs the head once, without masks, and so warms it up as well.
    """
    logits: list[Tensor] = []
    hook = model.dot_product_scoring.register_forward_hook(lambda _module, _args, output: logits.append(output))
    try:
        found = detect(segmenter, image, [1.0] * len(PHRASES))[0]
    finally:
        hook.remove()
    thresholds = []
    for index, row in enumerate(logits[-1][0, ..., 0]):
        scores = (row.sigmoid() * found[PHRASES[index]].presence).sort(descending=True).values
        candidates = scores[FEWEST_KEPT - 1 : MOST_KEPT + 1]
        widest = int((candidates[:-1] - candidates[1:]).argmax())
        handful = float(candidates[widest] + candidates[widest + 1]) / 2
        thresholds.append(handful if index % 2 == 0 else 1.0)
    return thresholds


def detect(
    segmenter: Sam3Segmenter, image: Tensor, thresholds: Sequence[float]
) -> tuple[dict[str, Detections], Stages]:
    """Run the three steps on one prepared image; answers by phrase, and the seconds of the steps."""
    started = time.perf_counter()
    (features,) = segmenter.encode([image])
    encoded = time.perf_counter()
    phrases = segmenter.embed(PHRASES)
    embedded = time.perf_counter()
    assert isinstance(features, ImageFeatures)
    pairs = []
    for phrase, threshold in zip(phrases, thresholds, strict=True):
        assert isinstance(phrase, PhraseFeatures)
        pairs.append(Pair(features, phrase, threshold))
    answers: dict[str, Detections] = {}
    for pair, answer in zip(pairs, segmenter.detect(pairs), strict=True):
        assert isinstance(answer, Detections)
        answers[pair.phrase.phrase] = answer
    steps = {"vision": encoded - started, "text": embedded - encoded, "head": time.perf_counter() - embedded}
    return answers, steps


def measure_ours(
    model: Sam3Model, segmenter: Sam3Segmenter, image: Image.Image, thresholds: Sequence[float]
) -> tuple[float, Stages, list[ObjectDict]]:
    """Run the package's path, from pixels to the document; returns its seconds, its stages and the objects."""
    started = time.perf_counter()
    prepared = segmenter.prepare(np.array(image))
    ready = time.perf_counter()
    with marked(head_marks(model)) as times:
        answers, steps = detect(segmenter, prepared, thresholds)
    detected = time.perf_counter()
    document = image_document(answers, image.size)
    ended = time.perf_counter()
    head = stages_between(ready + steps["vision"] + steps["text"], times, detected)
    stages = {"pre-process": ready - started, "vision": steps["vision"], "text": steps["text"], **head}
    stages["masks"] = stages.pop("rest")
    assert document["objects"] is not None
    return ended - started, stages | {"rest": ended - detected}, document["objects"]


def differences(expected: Sequence[Sequence[dict[str, Any]]], objects: Sequence[ObjectDict]) -> dict[str, float]:
    """Compare the objects of the measured phrases.

    Returns:
        How many there are, and the largest difference of a score, a box edge in pixels and a mask's share of pixels.

    Raises:
        SystemExit: there are not as many, or not of the same labels: what was measured is not the same job.
    """
    from pycocotools import mask as coco

    theirs = [one for found in expected for one in found]
    ours = [one for one in objects if one["label"] in PHRASES[:MEASURED]]
    if [one["label"] for one in ours] != [one["label"] for one in theirs] or not ours:
        raise SystemExit(f"full size: {len(ours)} objects, the reference loop finds {len(theirs)}")
    edges = np.array(SIZE_WH * 2)
    largest = {"objects": float(len(ours)), "score": 0.0, "box_px": 0.0, "mask_share": 0.0}
    for one, other in zip(ours, theirs, strict=True):
        box = np.abs(np.clip(other["bbox"], 0, edges) - one["bbox"]).max()
        mask = np.mean(coco.decode(one["mask_rle"]) != coco.decode(other["mask_rle"]))
        largest["score"] = max(largest["score"], abs(one["score"] - other["score"]))
        largest["box_px"] = max(largest["box_px"], float(box))
        largest["mask_share"] = max(largest["mask_share"], float(mask))
    return largest


def floor(vision_gflop_s: float, head_gflop_s: float) -> dict[str, float]:
    """Count the least that either side must compute, and the seconds of ours at the speed of plain matrix products."""
    absent = len(PHRASES) // 2
    head = len(PHRASES) * (TEXT_GFLOP + DETR_GFLOP) + (len(PHRASES) - absent) * MASK_GFLOP
    reference = len(PHRASES) * (VISION_GFLOP + TEXT_GFLOP + DETR_GFLOP + MASK_GFLOP)
    return {
        "reference_gflop": reference,
        "ours_gflop": VISION_GFLOP + head,
        "flop_ratio": reference / (VISION_GFLOP + head),
        "ours_floor_s": VISION_GFLOP / vision_gflop_s + head / head_gflop_s,
    }


def print_profile(title: str, seconds: float, stages: Stages) -> None:
    """Print where the time went."""
    parts = ", ".join(f"{name} {taken:.2f}" for name, taken in stages.items())
    print(f"  {title}: {seconds:.1f} s ({parts})", flush=True)


@dataclass(frozen=True)
class Side:
    """A vision encoder's type, our segmenter with it, its thresholds, and the least ratio."""

    dtype: str
    model: Sam3Model
    segmenter: Sam3Segmenter
    thresholds: Sequence[float]
    target: float | None


def build_side(dtype: str, image: Image.Image, target: float | None) -> tuple[Side, Sam3Processor]:
    """Build the model for one type; a model of its own, since a half-precision encoder's weights are cast."""
    model, processor = build_model()
    segmenter = Sam3Segmenter(model, processor, getattr(torch, dtype))
    thresholds = choose_thresholds(model, segmenter, segmenter.prepare(np.array(image)))
    return Side(dtype, model, segmenter, thresholds, target), processor


def run(quick: bool = False) -> list[Row]:
    """Measure float32 and bfloat16 vision against the reference loop.

    Args:
        quick: float32 only, one round.

    Returns:
        A row each, with the stages of both sides, the FLOP floor, every round's ratio and, for float32, how far the
        objects differ.
    """
    image = picture()
    rates = {dtype: machine.matmul_gflops(dtype) for dtype in ("float32", "bfloat16")}
    print(f"  matrix products: {rates['float32']:.0f} GFLOP/s float32, {rates['bfloat16']:.0f} bfloat16", flush=True)
    exact, processor = build_side("float32", image, TARGET_FP32)
    sides = [exact]
    if not quick:
        sides.append(build_side("bfloat16", image, TARGET_BF16 if machine.has_bf16() else None)[0])
    rounds: dict[str, list[Row]] = {side.dtype: [] for side in sides}
    for _ in range(1 if quick else ROUNDS):
        phrase_s, phrase_stages, expected = measure_reference(exact.model, processor, image, exact.thresholds)
        print_profile("reference loop, one phrase", phrase_s, phrase_stages)
        for side in sides:
            ours_s, stages, objects = measure_ours(side.model, side.segmenter, image, side.thresholds)
            print_profile(f"ours, {side.dtype} vision", ours_s, stages)
            more: dict[str, Any] = {"objects": len(objects), "stages": stages}
            more |= {"reference_stages_of_a_phrase": phrase_stages, **floor(rates[side.dtype], rates["float32"])}
            if side is exact:
                more["differences"] = differences(expected, objects)
            what = f"full-size SAM3, 1 image, {len(PHRASES)} phrases, half absent, {side.dtype} vision"
            reference_s = phrase_s * len(PHRASES)
            rounds[side.dtype].append(compared(what, reference_s, ours_s, target=side.target, more=more))
    return [middle(rows) for rows in rounds.values()]


def middle(rows: Sequence[Row]) -> Row:
    """Return the row with the middle ratio, and every ratio in it."""
    ordered = sorted(rows, key=lambda row: float(row["ratio"]))
    return {**ordered[len(ordered) // 2], "ratios": [row["ratio"] for row in rows]}
