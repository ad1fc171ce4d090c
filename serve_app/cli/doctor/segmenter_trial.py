"""Measures the configured segmenter (times, images per second, memory), and compares it with the plain loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from serve_app.cli.doctor.agreement import Agreement, Objects, compare
from serve_app.cli.doctor.budgets import SegmenterBytes
from serve_app.cli.doctor.samples import IN_THE_IMAGES, PHRASES
from serve_app.config.schema import AppConfig
from serve_app.errors import GensegError
from serve_app.images.modes import RgbArray
from serve_app.masks.from_logits import rles_from_logits
from serve_app.masks.rle import encode_rle
from serve_app.models import device_memory, devices, locations
from serve_app.models.checkpoints import explain
from serve_app.models.interface import Detections, Pair, Segmenter
from serve_app.models.plain_loop import PlainObjects, PlainSegmenter
from serve_app.models.precision import allow_tf32
from serve_app.models.registry import load_segmenter
from serve_app.schemas.dicts import RleDict

Value = TypeVar("Value")

COUNTS = (1, 4, 16)
"""The numbers of phrases with which the images per second are measured."""
ROUNDS = 3
ENOUGH_S = 3.0
"""A measurement has up to ROUNDS rounds. After this many seconds no further round starts."""


@dataclass(frozen=True)
class SegmenterTrial:
    """The measurements of the segmenter.

    Attributes:
        load_s: seconds of loading.
        stage_s: seconds of each stage: "prepare" and "vision" per image, "text" per phrase, "head" per pair of image
            and phrase. "masks" is per object, and left out if no object was found.
        images_per_s: images per second, by the number of phrases.
        peak_bytes: see device_memory.peak_bytes.
        agreement: how our objects compare with those of the plain loop in float32.
        exact: whether everything is computed in float32, so that no object may differ.
        image_pixels: pixels of one image after it is resized for the model.
        card_bytes: memory of the GPU; None on a CPU.
        memory: the segmenter's memory on a GPU; None on a CPU.
    """

    load_s: float
    stage_s: Mapping[str, float]
    images_per_s: Mapping[int, float]
    peak_bytes: int
    agreement: Agreement
    exact: bool
    image_pixels: int
    card_bytes: int | None = None
    memory: SegmenterBytes | None = None


class _Work:
    """Runs the steps of the service's segmenter in one thread and without caches."""

    def __init__(self, segmenter: Segmenter[Any, Any, Any], config: AppConfig, device: Any) -> None:
        self._segmenter = segmenter
        self._defaults = config.segmentation
        self.device = device
        height, width = segmenter.resolution_hw
        self.most_images = max(1, config.batching.max_pixels // (height * width))
        self.most_pairs = config.batching.max_pairs

    def prepare(self, images: Sequence[RgbArray]) -> list[Any]:
        return [self._segmenter.prepare(image) for image in images]

    def encode(self, prepared: Sequence[Any]) -> list[Any]:
        found = [each for part in _parts(prepared, self.most_images) for each in _valid(self._segmenter.encode(part))]
        device_memory.finish(self.device)
        return found

    def embed(self, phrases: Sequence[str]) -> list[Any]:
        found = _valid(self._segmenter.embed(phrases))
        device_memory.finish(self.device)
        return found

    def detect(self, images: Sequence[Any], phrases: Sequence[Any], *, masks: bool) -> list[Detections]:
        pairs = [Pair(image, phrase, self._defaults.threshold, masks) for image in images for phrase in phrases]
        return [each for part in _parts(pairs, self.most_pairs) for each in _valid(self._segmenter.detect(part))]

    def encode_masks(self, found: Sequence[Detections], images: Sequence[RgbArray]) -> list[list[RleDict]]:
        """Encode the masks of each pair of image and phrase, in the order of `detect`."""
        each = len(found) // len(images)
        return [
            rles_from_logits(one.mask_logits, images[index // each].shape[:2], self._defaults.mask_threshold)
            for index, one in enumerate(found)
        ]

    def all(self, images: Sequence[RgbArray], phrases: Sequence[str]) -> list[tuple[Detections, list[RleDict]]]:
        """Run all steps. Returns one result for each pair of image and phrase, in the order of `detect`."""
        found = self.detect(self.encode(self.prepare(images)), self.embed(phrases), masks=True)
        return [*zip(found, self.encode_masks(found, images), strict=True)]


def try_segmenter(
    config: AppConfig, images: Sequence[RgbArray], step: Callable[[str], AbstractContextManager[None]]
) -> SegmenterTrial:
    """Measure the segmenter, and compare its objects with the plain loop's.

    Args:
        config: the configuration.
        images: (H, W, 3) uint8 RGB each.
        step: reports a step while it runs.

    Raises:
        GensegError: the segmenter cannot be loaded, or fails.
    """
    model = config.models.segmentation
    device = devices.resolve_device(model.device, config.device.cuda_device)
    device_memory.start_peak(device)
    started = time.perf_counter()
    with step("loading the segmenter"):
        segmenter = load_segmenter(config)
    load_s = time.perf_counter() - started
    work = _Work(segmenter, config, device)
    with step("segmenting"):
        memory = _memory(work, images)
        stages = _stages(work, images)
        speeds = {count: _speed(work, images, PHRASES[:count]) for count in COUNTS}
        ours = work.all(images, PHRASES[:IN_THE_IMAGES])
    pixels = segmenter.resolution_hw[0] * segmenter.resolution_hw[1]
    peak = device_memory.peak_bytes(device)
    del segmenter, work
    device_memory.release(device)
    device_memory.lift_wall(device)
    allow_tf32(False)  # loading the segmenter may have allowed it for the whole process
    with step("segmenting with the plain loop"), explain(f"{model.model_name}, in the plain loop"):
        plain = PlainSegmenter.load(locations.resolve(model.model_name, "segmenter"), device)
        agreement = _agreement(plain, images, ours, config)
    del plain
    device_memory.release(device)
    types = devices.resolve_dtype(model.dtype, device), devices.resolve_head_dtype(model.head_dtype, device)
    return SegmenterTrial(
        load_s=load_s,
        stage_s=stages,
        images_per_s=speeds,
        peak_bytes=peak,
        agreement=agreement,
        exact=all(map(devices.is_exact, types)) and not (device.type == "cuda" and model.tf32),
        image_pixels=pixels,
        card_bytes=device_memory.total_bytes(device),
        memory=memory,
    )


def _stages(work: _Work, images: Sequence[RgbArray]) -> dict[str, float]:
    """Return the seconds of each stage in its fastest round, with the phrases that are in the images."""
    phrases = PHRASES[:IN_THE_IMAGES]
    best = _Best()
    found: list[Detections] = []
    for _ in _rounds():  # the first round includes PyTorch's one-time work
        prepared = best.of("prepare", partial(work.prepare, images))
        encoded = best.of("vision", partial(work.encode, prepared))
        embedded = best.of("text", partial(work.embed, phrases))
        best.of("head", partial(work.detect, encoded, embedded, masks=False))
        found = best.of("with masks", partial(work.detect, encoded, embedded, masks=True))
        best.of("encode masks", partial(work.encode_masks, found, images))
    seconds = best.seconds
    masks_s = max(0.0, seconds["with masks"] - seconds["head"]) + seconds["encode masks"]
    objects = sum(len(each.scores) for each in found)
    return {
        "prepare": seconds["prepare"] / len(images),
        "vision": seconds["vision"] / len(images),
        "text": seconds["text"] / len(phrases),
        "head": seconds["head"] / (len(images) * len(phrases)),
        **({"masks": masks_s / objects} if objects else {}),
    }


class _Best:
    """Keeps the shortest time of each step that is run several times."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def of(self, name: str, run: Callable[[], Value]) -> Value:
        """Run a step once more, and return its value."""
        started = time.perf_counter()
        value = run()
        took = time.perf_counter() - started
        self.seconds[name] = min(self.seconds.get(name, took), took)
        return value


def _speed(work: _Work, images: Sequence[RgbArray], phrases: Sequence[str]) -> float:
    """Return how many images per second all steps process, in the fastest round."""
    seconds = []
    for _ in _rounds():
        started = time.perf_counter()
        work.all(images, phrases)
        seconds.append(time.perf_counter() - started)
    return len(images) / min(seconds)


def _memory(work: _Work, images: Sequence[RgbArray]) -> SegmenterBytes | None:
    """Measure the segmenter's memory on a GPU; None on a CPU."""
    weights = device_memory.held_bytes(work.device)
    if weights is None:
        return None
    loading = device_memory.peak_bytes(work.device)
    prepared = work.prepare(images)
    work.all(images[:1], PHRASES[:1])

    def peak_of(run: Callable[[], object]) -> int:
        device_memory.start_peak(work.device)
        run()
        return device_memory.peak_bytes(work.device)

    encoded, embedded = work.encode(prepared[:1]), work.embed(PHRASES[:8])
    held = device_memory.held_bytes(work.device) or 0
    image = one_more(lambda count: peak_of(lambda: work.encode(prepared[:count])), min(2, work.most_images), held)
    pair = one_more(
        lambda count: peak_of(lambda: work.detect(encoded, embedded[:count], masks=True)), min(8, work.most_pairs), held
    )
    return SegmenterBytes(
        loading=loading,
        weights=weights,
        image=image,
        pair=pair,
        features=max(1, int(encoded[0].nbytes)),
    )


def one_more(peak_of: Callable[[int], int], most: int, held: int) -> int:
    """Return how much memory one more item takes in a pass.

    Args:
        peak_of: measures the peak memory of a number of items, in bytes.
        most: the largest number of items in one pass. Further items go into another pass, and take no more memory.
        held: bytes in use before the pass.

    Returns:
        Bytes, at least 1. If `most` is 1, the memory of the only item.
    """
    one = peak_of(1)
    return max(1, (peak_of(most) - one) // (most - 1) if most > 1 else one - held)


def _agreement(
    plain: PlainSegmenter,
    images: Sequence[RgbArray],
    ours: Sequence[tuple[Detections, Sequence[RleDict]]],
    config: AppConfig,
) -> Agreement:
    defaults = config.segmentation
    total = Agreement()
    answers = iter(ours)
    for image in images:
        height, width = image.shape[:2]
        size = np.array([width, height, width, height])
        for phrase in PHRASES[:IN_THE_IMAGES]:
            inputs = plain.inputs(Image.fromarray(image), phrase)
            found = plain.find(inputs, (height, width), defaults.threshold, defaults.mask_threshold)
            detections, masks = next(answers)
            boxes = np.clip(detections.boxes.astype(np.float64) * size, 0, size)
            total = total.plus(compare(Objects(boxes, masks), _plain_objects(found, size)))
    return total


def _plain_objects(found: PlainObjects, size: Any) -> Objects:
    boxes = np.clip(found.boxes.astype(np.float64), 0, size)
    return Objects(boxes, [encode_rle(mask.astype(bool)) for mask in found.masks])


def _rounds() -> Iterator[int]:
    """Yield up to ROUNDS numbers. Stop early after ENOUGH_S seconds."""
    started = time.perf_counter()
    for number in range(ROUNDS):
        yield number
        if time.perf_counter() - started > ENOUGH_S:
            return


def _valid(items: Sequence[Any]) -> list[Any]:
    """Return a batch's results, or raise its first error."""
    for item in items:
        if isinstance(item, GensegError):
            raise item
    return [*items]


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
