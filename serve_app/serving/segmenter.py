"""SegmenterDeployment: segments one image per call, in batches with the images of other requests.

Steps for an image: decode and resize in a thread → vision pass in a batch → (wait for the entities) → phrase embeddings
→ detector pass in a batch → masks and JSON in a thread → for a verdict, its evidence (see `serving.evidence`). The
event loop only waits. Other modules do most of the work: `models.interface` describes the model, `replica.batching`
forms the batches, `documents` writes the result.

Threads work on masks and overlays in steps, and requests take turns (see `replica.turns`). So a request with the
largest images and the most masks delays another one by a single step, about a second at 50 megapixels. After a request
is cancelled, none of its steps begins.

Memory at 50 megapixels, for T threads (one more than there are cores, at most eight): T times 800 MB for decoding and
resizing (see `decoding.decode`), T times 200 MB for overlays, and for each image in progress its masks as text, within
`limits.max_mask_bytes`, and the mask logits of its last detector pass.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from serve_app.config.schema import AppConfig, LimitsConfig
from serve_app.config.user_config import SegmenterSettings, UserConfig
from serve_app.errors import DeadlineExceeded, GensegError, InternalError
from serve_app.images import decoding
from serve_app.images.modes import RgbArray
from serve_app.models.interface import Detections, Features, IdentityModel, Pair, PhraseChecker, Segmenter
from serve_app.models.registry import load_identity, load_segmenter
from serve_app.serving import documents
from serve_app.serving.autoscaling import THREADS_S
from serve_app.serving.embeddings import identity_embedder
from serve_app.serving.evidence import EvidenceFinder, FoundImage
from serve_app.serving.messages import (
    ImageOutcome,
    ImageTask,
    InputsLost,
    OtherModel,
    OverlayTask,
    ParsedPrompt,
    SegmentedImage,
)
from serve_app.serving.objects import ObjectFinder
from serve_app.serving.overlays import OverlayPainter
from serve_app.serving.ray_errors import RAY_ERRORS
from serve_app.serving.replica.batching import ModelThread, PullBatcher
from serve_app.serving.replica.cache import CachedWork
from serve_app.serving.replica.health import ModelHealth
from serve_app.serving.replica.heap import give_back_free_memory
from serve_app.serving.replica.kept_pixels import KeptPixels, PixelBudget
from serve_app.serving.replica.metrics import Metrics
from serve_app.serving.replica.model_steps import model_step, step_cache, watch_model
from serve_app.serving.replica.phrases import PhraseReading
from serve_app.serving.replica.turns import FairSlots, FairThreads
from serve_app.serving.stamp import stamp_now
from serve_app.verdict.evidence import Evidence

logger = logging.getLogger("ray.serve")

Value = TypeVar("Value")

PHRASES = 256
"""At most this many phrases in one batch of the text encoder."""

ENTRY_BYTES = 1024
"""Memory of a cache entry besides its features: the key, the objects and the entries in dicts."""
KEPT_PIXELS_BYTES = 256 * 1024 * 1024
"""Limit of the pixels kept for overlays and identity, of all images in progress; other images are decoded again."""


@dataclass(frozen=True)
class EncodedImage:
    """An entry of the vision cache: an image's features, and its width and height after EXIF rotation."""

    features: Features
    size_wh: tuple[int, int]


class SegmenterDeployment:
    """Serves a segmentation model.

    Args:
        config: the whole configuration.
        load: loads the model; tests pass a fake.
        load_identity: loads the identity model; returns None if none is configured.
        read: decodes an image file.
        kept_pixels_bytes: limit of the pixels kept for overlays and identity, of all images in progress.
    """

    def __init__(
        self,
        config: AppConfig,
        load: Callable[[AppConfig], Segmenter[Any, Any, Any]] = load_segmenter,
        *,
        load_identity: Callable[[AppConfig], IdentityModel | None] = load_identity,
        read: Callable[[bytes, LimitsConfig], RgbArray] = decoding.decode,
        kept_pixels_bytes: int = KEPT_PIXELS_BYTES,
    ) -> None:
        give_back_free_memory()
        self._args = config
        self._config = config
        self._user_config = UserConfig("SegmenterDeployment", SegmenterSettings)
        self._metrics = Metrics()
        self._stamp = stamp_now(config)
        self._segmenter = load(config)
        self._model_thread = ModelThread(ThreadPoolExecutor(1, "segmenter-model"))
        threads = min(8, (os.cpu_count() or 2) + 1)
        self._threads = FairThreads(threads, "segmenter-cpu")
        self._canvases = FairSlots(threads, per_caller=1)
        self._read = read
        self._pixel_budget = PixelBudget(kept_pixels_bytes)
        self._health = ModelHealth()
        pixels = self._segmenter.resolution_hw[0] * self._segmenter.resolution_hw[1]
        step = partial(model_step, thread=self._model_thread, health=self._health, metrics=self._metrics)
        self._encoder: PullBatcher[Any, Features] = step(
            "images", self._segmenter.encode, config.batching.max_pixels, lambda _: pixels
        )
        self._embedder: PullBatcher[str, Features] = step("phrases", self._segmenter.embed, PHRASES)
        self._detector: PullBatcher[Pair[Any, Any], Detections] = step(
            "pairs", self._segmenter.detect, config.batching.max_pairs
        )
        self._images: CachedWork[EncodedImage] = step_cache(
            "vision",
            config.cache.vision_bytes,
            lambda _, encoded: ENTRY_BYTES + encoded.features.nbytes,
            metrics=self._metrics,
        )
        self._phrases: CachedWork[Features] = step_cache(
            "phrase", config.cache.phrase_bytes, lambda _, phrase: ENTRY_BYTES + phrase.nbytes, metrics=self._metrics
        )
        self._identity = identity_embedder(config, self._model_thread, self._threads, self._metrics, load_identity)
        self._painter = OverlayPainter(self._threads, self._canvases, self._metrics)
        checker = self._segmenter if isinstance(self._segmenter, PhraseChecker) else None
        self._objects = ObjectFinder(self._detector, self._threads, self._metrics)
        self._reading = PhraseReading(self._embedder, self._phrases, checker)
        self._evidence = EvidenceFinder(self._objects, self._reading, self._threads, self._identity, self._metrics)
        watch_model(self._model_thread, self._metrics)
        self._metrics.watch_busy("threads", lambda: self._threads.busy_s)

    def reconfigure(self, user_config: object) -> None:
        """Apply new batch budgets and limits without a restart; UserConfig describes what happens to wrong ones."""
        self._user_config.take(user_config, self._apply)

    def _apply(self, settings: SegmenterSettings) -> None:
        self._config = settings.apply_to(self._args)
        self._encoder.budget = self._config.batching.max_pixels
        self._detector.budget = self._config.batching.max_pairs

    def check_health(self) -> None:
        """Raise RuntimeError if a model keeps failing. Serve calls this and replaces the replica."""
        self._health.check()
        if self._identity is not None:
            self._identity.check_health()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Return the work of the models and the threads (see `serving.autoscaling`). Serve calls this."""
        return {**self._model_thread.work.report(), THREADS_S: self._threads.busy_s}

    async def model_name(self) -> str:
        """Return the model's configured name. An answer means that the model is loaded."""
        return self._config.models.segmentation.model_name

    async def check_phrases(
        self, phrases: Sequence[str], request_id: str, timeout_s: float
    ) -> dict[str, str] | GensegError:
        """Find the phrases that the model cannot read.

        Args:
            phrases: distinct entities.
            request_id: the request that asks.
            timeout_s: seconds until the caller stops waiting.

        Returns:
            The reason for each phrase that cannot be read; or an error, which is returned and not raised.
        """
        outcome = await self._in_time(self._reading.unreadable(phrases, request_id), timeout_s, request_id)
        return InternalError("the entities could not be checked") if isinstance(outcome, InputsLost) else outcome

    async def segment(self, task: ImageTask) -> ImageOutcome:
        """Find every instance of every entity in one image.

        Args:
            task: the image and the entities.

        Returns:
            The segmented image; OtherModel if the task requires another version than this replica has; InputsLost if
            Ray's object store has lost an input of the task; or an error, which is returned and not raised.
        """
        if task.version not in (None, self._stamp.version):
            return OtherModel(self._stamp)
        return await self._in_time(self._segment(task), task.timeout_s, task.request_id)

    async def overlay(self, task: OverlayTask) -> str | GensegError | InputsLost:
        """Draw the overlay of one image again, with the verdict.

        Returns:
            A data URI of a JPEG; InputsLost; or an error, which is returned and not raised.
        """
        pixels = partial(self._pixels, task)
        work = self._painter.draw(pixels, task.objects, task.entities, task.style, task.request_id, task.marks)
        return await self._in_time(work, task.timeout_s, task.request_id)

    async def _in_time(
        self, work: Coroutine[Any, Any, Value], timeout_s: float, request_id: str
    ) -> Value | GensegError | InputsLost:
        """Run work within the request's deadline, and return an error instead of raising it (see ImageOutcome)."""
        try:
            async with asyncio.timeout(timeout_s):
                return await work
        except TimeoutError:
            return DeadlineExceeded("the deadline passed before the image was segmented")
        except GensegError as error:
            return error
        except RAY_ERRORS as error:
            logger.warning("request %s: the image or the entities are lost: %s", request_id, type(error).__name__)
            return InputsLost()
        except Exception:
            logger.exception("request %s: the segmentation of an image failed", request_id)
            return InternalError("the segmentation of an image failed")

    async def _segment(self, task: ImageTask) -> ImageOutcome:
        wanted = task.options.overlays or self._evidence.needs_pixels(task.judged)
        with KeptPixels(self._pixel_budget, wanted=wanted) as kept:
            encoded = await self._images.get(task.key, lambda: self._encode(task, kept))
            parsed = await _resolved(task.parsed)
            if isinstance(parsed, GensegError):
                return InputsLost()  # the ingress gets the parser's error itself
            return await self._find(task, encoded, parsed, partial(self._pixels, task, kept))

    async def _find(
        self, task: ImageTask, encoded: EncodedImage, parsed: ParsedPrompt, pixels: Callable[[], Awaitable[RgbArray]]
    ) -> SegmentedImage:
        phrases, unreadable = await self._reading.read(parsed.entities, task.request_id)
        options, limit = task.options, self._config.limits.max_mask_bytes
        document = await self._objects.find(
            encoded.features, encoded.size_wh, phrases, task, documents.MaskBytes(limit)
        )
        evidence: Evidence | None = None
        if task.judged is not None:
            found = FoundImage(encoded.features, document, pixels)
            asked = parsed.without(unreadable).asked
            evidence = await self._evidence.find(found, asked, task, task.judged, limit)
        objects = document["objects"] or []
        if options.overlays:
            document["overlay"] = await self._painter.draw(
                pixels, objects, [*phrases], options.overlay_style, task.request_id
            )
        if options.mask_format != "rle":
            mask_bytes = documents.MaskBytes(limit)
            steps = documents.to_mask_format(objects, options.mask_format, mask_bytes, packed=True)
            document["objects"] = await self._threads.run_steps(steps, task.request_id)
        self._metrics.segmented(len(objects))
        drawn = objects if options.overlays and evidence is not None else None
        return SegmentedImage(document, self._stamp, unreadable, evidence, drawn)

    async def _pixels(self, task: ImageTask | OverlayTask, kept: KeptPixels | None = None) -> RgbArray:
        """Return the kept pixels of an image; if there are none, decode the image again."""
        if kept is not None and kept.pixels is not None:
            return kept.pixels
        data = await _resolved(task.data)
        return await self._threads.run(partial(self._read, data, self._config.limits), task.request_id)

    async def _encode(self, task: ImageTask, kept: KeptPixels) -> EncodedImage:
        data = await _resolved(task.data)
        with self._metrics.stage("decode") as decode:
            # In one step, because an image that waits between decoding and resizing would take memory meanwhile.
            image, prepared = await self._threads.run(partial(self._decode, data), task.request_id)
            decode.set(bytes=len(data), pixels=image.shape[0] * image.shape[1])
        kept.offer(image)
        with self._metrics.stage("encode", span="vision") as vision:
            (features,) = await self._encoder.submit([prepared], task.request_id, vision.begins)
            if isinstance(features, BaseException):
                raise features
        return EncodedImage(features, (image.shape[1], image.shape[0]))

    def _decode(self, data: bytes) -> tuple[RgbArray, Any]:
        image = self._read(data, self._config.limits)
        return image, self._segmenter.prepare(image)


async def _resolved(value: Any) -> Any:
    """Wait for an object reference or another awaitable; return any other value as it is."""
    return await value if isinstance(value, Awaitable) else value
