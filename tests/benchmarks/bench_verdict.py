"""What a verdict costs the segmenter: 3 images x 4 entities with 8 objects, with and without, in one run.

The embedded models in a segmenter's replica without Ray, with one torch thread. All objects are compared; one entity
with an adjective is not in the generated image, so that its bare noun is looked for besides. No image is in a cache;
phrases are.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import time
from collections.abc import Iterator

import numpy as np
import torch

from serve_app.config.schema import AppConfig
from serve_app.entities.mentions import Asked
from serve_app.serving.messages import ImageTask, JudgedImage, ObjectOptions, ParsedPrompt, SegmentedImage
from serve_app.serving.segmenter import SegmenterDeployment
from tests.benchmarks.pictures import SCENES, grainy
from tests.benchmarks.rows import Row, limited

CONTEXTUAL, GENERATED = ("scene_14.jpg", "scene_14.jpg"), "scene_01.jpg"
ENTITIES = ("cow", "yellow heart", "guitar", "bird")
OBJECTS = 8
REPEATS, QUICK_REPEATS = 40, 3
MAX_SHARE = 25.0


def tasks(images: list[bytes], keys: Iterator[int], *, verdict: bool) -> list[ImageTask]:
    """Make one request's tasks; no key comes twice."""
    count = len(images) - 1
    asked = tuple(Asked(entity, 1) for entity in ENTITIES) if verdict else ()
    return [
        ImageTask(
            f"image {next(keys)}",
            data,
            ParsedPrompt(ENTITIES, asked=asked),
            ObjectOptions(verdict=verdict),
            f"request {place}",
            60.0,
            judged=JudgedImage(place if place < count else None, count, True, 16) if verdict else None,
        )
        for place, data in enumerate(images)
    ]


async def seconds(replica: SegmenterDeployment, work: list[ImageTask]) -> tuple[float, list[SegmentedImage]]:
    """Segment the images of one request at the same time."""
    started = time.perf_counter()
    found = await asyncio.gather(*map(replica.segment, work))
    taken = time.perf_counter() - started
    assert all(isinstance(each, SegmentedImage) for each in found), found
    return taken, [each for each in found if isinstance(each, SegmentedImage)]


def compared(found: list[SegmentedImage]) -> int:
    """Count the objects that have an embedding."""
    pictures = [each.evidence.picture for each in found if each.evidence is not None]
    return sum(each.embedding is not None for picture in pictures for each in picture.objects or ())


async def measured(repeats: int) -> Row:
    """Run requests with and without a verdict in turns."""
    replica = SegmenterDeployment(AppConfig())
    rng = np.random.default_rng(0)
    images = [grainy(rng, SCENES / name) for name in (*CONTEXTUAL, GENERATED)]
    keys = itertools.count()
    taken: dict[bool, list[float]] = {False: [], True: []}
    objects = 0
    for _ in range(repeats + 2):
        for verdict in taken:
            duration, found = await seconds(replica, tasks(images, keys, verdict=verdict))
            taken[verdict].append(duration)
            objects = compared(found)
    assert objects == OBJECTS, "other objects than those of the title are compared"
    plain, judged = (statistics.median(times[2:]) for times in taken.values())  # the first two warm up
    return limited(
        f"verdict, 3 images x 4 entities, {OBJECTS} objects compared: what it adds to the segmenter's time",
        100 * (judged - plain) / plain,
        unit="%",
        at_most=MAX_SHARE,
        more={"seconds_without": plain, "seconds_with": judged},
    )


def run(quick: bool = False) -> list[Row]:
    """Measure it.

    Args:
        quick: a few repetitions.
    """
    torch.set_num_threads(1)
    return [asyncio.run(measured(QUICK_REPEATS if quick else REPEATS))]


if __name__ == "__main__":
    print(json.dumps(run()))
