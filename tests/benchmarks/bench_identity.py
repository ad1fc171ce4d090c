"""What comparing individuals costs beside segmentation: timed on the embedded models, counted at full size.

Both sides run in this process, one after the other, on the same pictures: three images and four phrases for the
segmenter, from decoded pictures to masks, and eight of the found objects for the identity model, from masks and decoded
pictures to embeddings. Fresh weights of the embedded architecture take as long as trained ones. Times are CPU seconds
of one thread, as many as torch gets in a replica of configs/embedded.yaml: other work on the machine does not count.
"""

from __future__ import annotations

import io
import re
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from serve_app.config.schema import AppConfig
from serve_app.embedded.identity.model import build_model, build_processor
from serve_app.images.crops import object_crop
from serve_app.masks.from_logits import rles_from_logits
from serve_app.masks.rle import bounds, decode_box
from serve_app.models.identity import DinoIdentity
from serve_app.models.interface import Pair
from serve_app.models.registry import load_segmenter
from serve_app.schemas.dicts import RleDict
from tests.benchmarks import pictures, sizing
from tests.benchmarks.rows import Row, limited

OBJECTS = 8
REPEATS = 15
TARGET_PERCENT, COUNTED_PERCENT = 25.0, 3.0
Found = list[tuple[NDArray[np.uint8], RleDict]]
"""Objects: the picture that each is in, and its mask."""


def segment(segmenter: Any, images: Sequence[NDArray[np.uint8]], phrases: Sequence[str]) -> Found:
    """Find every instance of every phrase in every image, masks included."""
    encoded = segmenter.encode([segmenter.prepare(image) for image in images])
    embedded = segmenter.embed(phrases)
    pairs = [Pair(features, phrase, 0.3) for features in encoded for phrase in embedded]
    found: Found = []
    for place, detections in enumerate(segmenter.detect(pairs)):
        image = images[place // len(phrases)]
        rles = rles_from_logits(detections.mask_logits, (image.shape[0], image.shape[1]), 0.5)
        found += [(image, rle) for rle in rles if any(bounds(rle))]
    return found


def compare(model: DinoIdentity, objects: Found) -> None:
    """Cut objects out and embed them."""
    crops = []
    for image, mask in objects:
        x1, y1, x2, y2 = box = bounds(mask)
        crops.append(object_crop(image[y1:y2, x1:x2], decode_box(mask, box), model.side))
    assert all(isinstance(row, np.ndarray) for row in model.embed(crops))


def run(quick: bool = False) -> list[Row]:
    """Measure, and count.

    Args:
        quick: with few repeats.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    segmenter = load_segmenter(AppConfig())
    model = DinoIdentity(build_model().eval(), build_processor(), "fresh weights")
    times: list[tuple[float, float]] = []
    for seed in range(3 if quick else REPEATS):
        request = pictures.request(seed)
        files = (*request.contextual, request.generated)
        images = [np.array(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]
        phrases = re.split(r" next to an? |, with an? | and an? ", re.sub("^An? ", "", request.prompt))
        started = time.thread_time()
        found = segment(segmenter, images, phrases)
        segmented = time.thread_time()
        compare(model, [found[i % len(found)] for i in range(OBJECTS)])
        times.append((segmented - started, time.thread_time() - segmented))
    segmented_s, compared_s = (statistics.median(column) for column in zip(*times, strict=True))
    percent = 100 * compared_s / segmented_s
    counted = 100 * sizing.identity_share(sizing.TYPICAL, sizing.OBJECTS)
    more = {"segmented_s": segmented_s, "compared_s": compared_s, "objects": OBJECTS}
    return [
        limited(
            "verdict, 8 objects of 3 images x 4 phrases, of the segmenter's time",
            percent,
            unit="%",
            at_most=TARGET_PERCENT,
            more=more,
        ),
        limited("verdict, 12 objects at full size, of the FLOP", counted, unit="%", at_most=COUNTED_PERCENT),
    ]
