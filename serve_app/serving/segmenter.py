"""SegmenterDeployment: one image of one request at a time, batched with everybody else's.

The order of an image's work: decode and resize in a thread → vision pass in a batch → (the entities arrive) → phrase
embeddings → detector pass in a batch → masks and JSON in a thread. The event loop only waits. Thin by design: the
model is behind `models.interface`, batches in `replica.batching`, documents in `documents`.

Threads do the work on masks and overlays in steps, and requests take turns (see `replica.turns`), so one with the
largest images and the most masks delays another by the step under way, about a second at 50 megapixels; once nobody
waits, no further step begins. What is held at 50 megapixels, for T threads (one more than there are cores, eight at
most): T times 800 MB while they decode and resize (see `decoding.decode`), T times 200 MB of overlays that are drawn,
and for every image under way its masks as text, within `limits.max_mask_bytes`, and mask logits of its last detector
pass.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from ray import ObjectRef

from serve_app.config.schema import AppConfig, LimitsConfig
from serve_app.config.user_config import SegmenterSettings, UserConfig
from serve_app.errors import DeadlineExceeded, GensegError, InternalError
from serve_app.images import decoding, overlay
from serve_app.images.modes import RgbArray
from serve_app.images.palette import entity_colours
from serve_app.masks.steps import Steps
from serve_app.models.interface import Detections, Features, Pair, Segmenter
from serve_app.models.registry import load_segmenter
from serve_app.schemas.dicts import ObjectDict, SegmentedDict
from serve_app.serving import documents
from serve_app.serving.messages import ImageOutcome, ImageTask, InputsLost, ObjectOptions, ParsedPrompt
from serve_app.serving.ray_errors import RAY_ERRORS
from serve_app.serving.replica.batching import Device, PullBatcher
from serve_app.serving.replica.cache import ByteLru, CachedWork
from serve_app.serving.replica.health import ModelHealth
from serve_app.serving.replica.heap import give_back_free_memory
from serve_app.serving.replica.kept_pixels import KeptPixels, PixelBudget
from serve_app.serving.replica.metrics import Metrics
from serve_app.serving.replica.turns import FairSlots, FairThreads

logger = logging.getLogger("ray.serve")

Value = TypeVar("Value")

KEEPS_MOST = 0.05
"""Below this threshold a model keeps most of its queries: two hundred masks an entity in place of a few. So one
entity goes first, and the others in groups of HELD_BYTES by its measure."""
ENTRY_BYTES = 1024
"""What a cache's entry takes besides its features: key, objects, places in dicts."""
KEPT_PIXELS_BYTES = 256 * 1024 * 1024
"""Pixels that are kept for overlays, of all images under way; an image beyond that is decoded again."""
HELD_BYTES = 32 * 1024 * 1024
"""Mask logits of one image that are held at once: 170 entities of the embedded model, or one of 288 x 288 by 200."""


@dataclass(frozen=True)
class EncodedImage:
    """What the vision cache keeps of an image: its features and its size as people see it."""

    features: Features
    size_wh: tuple[int, int]


class SegmenterDeployment:
    """Serves a Segmenter.

    Args:
        config: everything.
        load: makes the model; tests put a fake in its place.
        read: decodes an image file.
        kept_pixels_bytes: pixels that are kept for overlays, of all images under way.
    """

    def __init__(
        self,
        config: AppConfig,
        load: Callable[[AppConfig], Segmenter[Any, Any, Any]] = load_segmenter,
        *,
        read: Callable[[bytes, LimitsConfig], RgbArray] = decoding.decode,
        kept_pixels_bytes: int = KEPT_PIXELS_BYTES,
    ) -> None:
        give_back_free_memory()
        self._args = config
        self._config = config
        self._user_config = UserConfig("SegmenterDeployment", SegmenterSettings)
        self._metrics = Metrics()
        self._segmenter = load(config)
        self._device = Device(ThreadPoolExecutor(1, "segmenter-model"))
        threads = min(8, (os.cpu_count() or 2) + 1)
        self._threads = FairThreads(threads, "segmenter-cpu")
        self._canvases = FairSlots(threads, each=1)
        self._read = read
        self._pixel_budget = PixelBudget(kept_pixels_bytes)
        self._health = ModelHealth()
        pixels = self._segmenter.resolution_hw[0] * self._segmenter.resolution_hw[1]
        self._encoder: PullBatcher[Any, Features] = PullBatcher(
            self._device,
            self._segmenter.encode,
            budget=config.batching.max_pixels,
            cost=lambda _: pixels,
            observe=self._batch_observer("images"),
            note=self._health.note,
        )
        self._embedder: PullBatcher[str, Features] = PullBatcher(
            self._device,
            self._segmenter.embed,
            budget=256,
            observe=self._batch_observer("phrases"),
            note=self._health.note,
        )
        self._detector: PullBatcher[Pair[Any, Any], Detections] = PullBatcher(
            self._device,
            self._segmenter.detect,
            budget=config.batching.max_pairs,
            observe=self._batch_observer("pairs"),
            note=self._health.note,
        )
        self._images: CachedWork[EncodedImage] = CachedWork(
            ByteLru(config.cache.vision_bytes, lambda _, encoded: ENTRY_BYTES + encoded.features.nbytes),
            lambda hit: self._metrics.cache_lookup("vision", hit),
        )
        self._phrases: CachedWork[Features] = CachedWork(
            ByteLru(config.cache.phrase_bytes, lambda _, phrase: ENTRY_BYTES + phrase.nbytes),
            lambda hit: self._metrics.cache_lookup("phrase", hit),
        )
        self._metrics.watch_cache("vision", lambda: self._images.cache.nbytes)
        self._metrics.watch_cache("phrase", lambda: self._phrases.cache.nbytes)
        for axis, batcher in (("images", self._encoder), ("phrases", self._embedder), ("pairs", self._detector)):
            self._metrics.watch_queue(axis, partial(getattr, batcher, "queued"))

    def _batch_observer(self, axis: str) -> Callable[[int], None]:
        return lambda size: self._metrics.batch_size.observe(size, tags={"axis": axis})

    def reconfigure(self, user_config: object) -> None:
        """Take new batch budgets and limits without a restart; see UserConfig for what happens to wrong ones."""
        self._user_config.take(user_config, self._apply)

    def _apply(self, settings: SegmenterSettings) -> None:
        self._config = settings.apply_to(self._args)
        self._encoder.budget = self._config.batching.max_pixels
        self._detector.budget = self._config.batching.max_pairs

    def check_health(self) -> None:
        """Called by Serve: a replica whose model keeps failing or answering nonsense is replaced."""
        self._health.check()

    async def model_name(self) -> str:
        """Name of the model, as configured; that it answers at all says that the model is loaded."""
        return self._config.models.segmentation.model_name

    async def segment(self, task: ImageTask) -> ImageOutcome:
        """Find every instance of every entity in one image.

        Args:
            task: the image and what to look for.

        Returns:
            An image document without `path`; or the error, as a value; or InputsLost.
        """
        try:
            async with asyncio.timeout(task.timeout_s):
                return await self._segment(task)
        except TimeoutError:
            return DeadlineExceeded("the deadline passed before the image was segmented")
        except GensegError as error:
            return error
        except RAY_ERRORS as error:
            logger.warning("request %s: its image or entities are lost: %s", task.request_id, type(error).__name__)
            return InputsLost()
        except Exception:
            logger.exception("request %s: an image failed", task.request_id)
            return InternalError("the segmentation of an image failed")

    async def _segment(self, task: ImageTask) -> ImageOutcome:
        with KeptPixels(self._pixel_budget, wanted=task.options.overlays) as kept:
            encoded = await self._images.get(task.key, lambda: self._encode(task, kept))
            entities = await _entities(task.entities)
            if isinstance(entities, InputsLost):
                return entities
            return await self._find(task, encoded, entities, kept)

    async def _find(
        self, task: ImageTask, encoded: EncodedImage, entities: Sequence[str], kept: KeptPixels
    ) -> SegmentedDict:
        objects: list[ObjectDict] = []
        document = documents.empty_image_document(encoded.size_wh, objects)
        limit = self._config.limits.max_mask_bytes
        mask_bytes = documents.MaskBytes(limit)
        wanted = task.options.overlays or task.options.mask_format != "none"
        together = _detected_together(entities, task.options)
        left = [*entities]
        while True:
            group, left = left[:together], left[together:]
            detections = await self._detect(encoded, group, task)
            with self._metrics.stage("masks"):
                await self._in_thread(
                    documents.add_objects(
                        document, detections, task.options.mask_threshold if wanted else None, mask_bytes
                    ),
                    task,
                )
            if not left:
                break
            together = max(1, HELD_BYTES // max(1, *(found.mask_logits.nbytes for found in detections.values())))
        if task.options.overlays:
            document["overlay"] = await self._overlay(task, objects, entities, kept)
        if task.options.mask_format != "rle":
            document["objects"] = await self._in_thread(
                documents.to_mask_format(objects, task.options.mask_format, documents.MaskBytes(limit)),
                task,
            )
        self._metrics.segmented(len(objects))
        return document

    async def _encode(self, task: ImageTask, kept: KeptPixels) -> EncodedImage:
        data = await _resolved(task.data)
        with self._metrics.stage("decode"):
            # One step: an image that waited between decoding and resizing would be held meanwhile.
            image, prepared = await self._threads.run(partial(self._decode, data), task.request_id)
        kept.offer(image)
        with self._metrics.stage("encode"):
            (features,) = await self._encoder.submit([prepared], task.request_id)
        return EncodedImage(_value(features), (image.shape[1], image.shape[0]))

    def _decode(self, data: bytes) -> tuple[RgbArray, Any]:
        image = self._read(data, self._config.limits)
        return image, self._segmenter.prepare(image)

    async def _detect(self, encoded: EncodedImage, entities: Sequence[str], task: ImageTask) -> dict[str, Detections]:
        phrases = await asyncio.gather(*(self._embed(entity, task.request_id) for entity in entities))
        pairs = [
            Pair(encoded.features, phrase, task.options.threshold_of(entity))
            for entity, phrase in zip(entities, phrases, strict=True)
        ]
        with self._metrics.stage("detect"):
            found = await self._detector.submit(pairs, task.request_id)
        return {entity: _value(outcome) for entity, outcome in zip(entities, found, strict=True)}

    async def _embed(self, entity: str, request_id: str) -> Features:
        async def make() -> Features:
            (features,) = await self._embedder.submit([entity], request_id)
            return _value(features)

        return await self._phrases.get(entity, make)

    async def _overlay(
        self, task: ImageTask, objects: Sequence[ObjectDict], entities: Sequence[str], kept: KeptPixels
    ) -> str:
        data = b"" if kept.pixels is not None else await _resolved(task.data)
        # A canvas is held from step to step, so there are few at a time.
        async with self._canvases.hold(task.request_id):
            with self._metrics.stage("overlay"):
                pixels = kept.pixels
                read = partial(self._read, data, self._config.limits) if pixels is None else lambda: pixels
                return await self._in_thread(_drawn(read, objects, entities), task)

    async def _in_thread(self, steps: Steps[Value], task: ImageTask) -> Value:
        return await self._threads.run_steps(steps, task.request_id)


def _drawn(read: Callable[[], RgbArray], objects: Sequence[ObjectDict], entities: Sequence[str]) -> Steps[str]:
    picture = yield from overlay.draw_steps(read(), objects, entity_colours(entities))
    yield
    return overlay.overlay_data_uri(picture)


def _detected_together(entities: Sequence[str], options: ObjectOptions) -> int:
    """How many entities to begin with, since their mask logits are held at once: all, or one where most are kept."""
    return len(entities) if all(options.threshold_of(entity) >= KEEPS_MOST for entity in entities) else 1


async def _resolved(value: Any) -> Any:
    """Wait for a reference into the object store; anything else is itself."""
    return await value if isinstance(value, ObjectRef) else value


async def _entities(value: Any) -> Sequence[str] | InputsLost:
    """Read the task's entities; the parser's answer may be an error, which its caller deals with."""
    answer = await _resolved(value)
    if isinstance(answer, ParsedPrompt):
        return answer.entities
    return InputsLost() if isinstance(answer, GensegError) else answer


def _value(outcome: Value | BaseException) -> Value:
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome
