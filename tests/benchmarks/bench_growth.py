"""Growth: what one (image, phrase) costs as requests grow, from 1 to 16 images and from 1 to 32 phrases.

The embedded segmenter, file bytes in, documents out, in the steps and batch sizes of the segmenter deployment; float32
on the CPU with one torch thread. It must fall from end to end and never rise on the way.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import TypeVar

import torch

from serve_app.config.models import SegmentationModel
from serve_app.config.schema import AppConfig, DeviceConfig
from serve_app.images import decoding
from serve_app.models.interface import Detections, Pair
from serve_app.models.sam3 import Sam3Segmenter
from serve_app.models.sam3_features import ImageFeatures, PhraseFeatures
from tests.benchmarks import pictures
from tests.benchmarks.rows import Row, compared
from tests.image_document import image_document

Value = TypeVar("Value")

IMAGES, PHRASES = (1, 2, 4, 8, 16), (1, 2, 4, 8, 16, 32)
PHRASES_OF_IMAGES, IMAGES_OF_PHRASES = 4, 1
REPEATS = 5
NOISE = 0.03
"""A step up smaller than this is the clock, not the code: the same work differs by as much from run to run."""


def job(segmenter: Sam3Segmenter, config: AppConfig, files: Sequence[bytes], phrases: Sequence[str]) -> None:
    """Do the work of one request with so many images and phrases."""
    decoded = [decoding.decode(data, config.limits) for data in files]
    tensors = [segmenter.prepare(pixels) for pixels in decoded]
    side_hw = segmenter.resolution_hw
    features = [
        _sound(outcome, ImageFeatures)
        for batch in _batches(tensors, max(1, config.batching.max_pixels // (side_hw[0] * side_hw[1])))
        for outcome in segmenter.encode(batch)
    ]
    embedded = [_sound(outcome, PhraseFeatures) for outcome in segmenter.embed(phrases)]
    pairs = [Pair(image, phrase, 0.5) for image in features for phrase in embedded]
    found = iter(
        _sound(outcome, Detections)
        for batch in _batches(pairs, config.batching.max_pairs)
        for outcome in segmenter.detect(batch)
    )
    for pixels in decoded:
        detections = {phrase: next(found) for phrase in phrases}
        image_document(detections, (pixels.shape[1], pixels.shape[0]))


def _batches(items: Sequence[Value], size: int) -> list[Sequence[Value]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _sound(outcome: object, kind: type[Value]) -> Value:
    if not isinstance(outcome, kind):
        raise SystemExit(f"the segmenter failed: {outcome}")
    return outcome


def seconds_per_pair(segmenter: Sam3Segmenter, sizes: Sequence[tuple[int, int]]) -> list[float]:
    """Time a pair in jobs of several sizes (images, phrases): the best of some rounds, each round through all sizes."""
    config = AppConfig()
    files = [data for seed in range(6) for data in _files(seed)][: max(images for images, _ in sizes)]
    best = [float("inf")] * len(sizes)
    for _ in range(REPEATS):
        for index, (image_count, phrase_count) in enumerate(sizes):
            started = time.perf_counter()
            job(segmenter, config, files[:image_count], pictures.GRID[:phrase_count])
            taken = (time.perf_counter() - started) / (image_count * phrase_count)
            best[index] = min(best[index], taken)
    return best


def _files(seed: int) -> tuple[bytes, ...]:
    made = pictures.request(seed)
    return (*made.contextual, made.generated)


def run(quick: bool = False) -> list[Row]:
    """Measure both directions.

    Args:
        quick: without the two largest sizes of each.

    Returns:
        A row each: the cost of a pair in the smallest job against the largest; `steps` has all.
    """
    torch.set_num_threads(1)
    segmenter = Sam3Segmenter.load(SegmentationModel(device="cpu", dtype="float32"), DeviceConfig())
    images, phrases = (IMAGES[:-2], PHRASES[:-2]) if quick else (IMAGES, PHRASES)
    over_images = [(count, PHRASES_OF_IMAGES) for count in images]
    over_phrases = [(IMAGES_OF_PHRASES, count) for count in phrases]
    rows = []
    for what, sizes in (
        (f"growth, {images[0]} to {images[-1]} images x {PHRASES_OF_IMAGES} phrases: time per pair", over_images),
        (f"growth, {phrases[0]} to {phrases[-1]} phrases x {IMAGES_OF_PHRASES} image: time per pair", over_phrases),
    ):
        taken = seconds_per_pair(segmenter, sizes)
        rises = [round(after / before, 3) for before, after in itertools.pairwise(taken)]
        steps = {
            f"{image_count}x{phrase_count}": seconds
            for (image_count, phrase_count), seconds in zip(sizes, taken, strict=True)
        }
        never_rises = max(rises) <= 1 + NOISE
        rows.append(
            compared(what, taken[0], taken[-1], target=1.0, also_met=never_rises, more={"steps": steps, "rises": rises})
        )
    return rows
