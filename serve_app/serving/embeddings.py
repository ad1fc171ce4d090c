"""Embed objects in a segmenter replica: crop them out of the image, run the identity model in batches, and cache.

The identity model runs in the segmenter's replica, which has the pixels and the masks. Its batches share the model's
thread with the vision encoder and the detector. Memory: at most PICTURES decoded images at a time, each until the last
of its objects is cropped, and for each image the CROPS crops of one batch, 150 KB each at 224 x 224 pixels.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from serve_app.config.schema import AppConfig
from serve_app.images.crops import object_crop
from serve_app.images.modes import RgbArray
from serve_app.masks.rle import bounds, decode_box
from serve_app.masks.steps import Steps
from serve_app.models.interface import Embedding, IdentityModel
from serve_app.models.registry import load_identity
from serve_app.schemas.dicts import RleDict
from serve_app.serving.replica.batching import ModelThread, PullBatcher
from serve_app.serving.replica.cache import ByteLru, CachedWork
from serve_app.serving.replica.health import ModelHealth
from serve_app.serving.replica.metrics import Metrics
from serve_app.serving.replica.model_steps import model_step
from serve_app.serving.replica.turns import FairSlots, FairThreads
from serve_app.verdict.evidence import Seen

CROPS = 32
"""At most this many crops in one batch of the identity model."""

PICTURES = 4
"""At most this many decoded images are cropped at the same time: 600 MB at 50 megapixels."""

ENTRY_BYTES = 256
"""Memory of a cache entry besides the key and the embedding: the array object and the entries in dicts."""


def identity_embedder(
    config: AppConfig,
    model_thread: ModelThread,
    threads: FairThreads,
    metrics: Metrics,
    load: Callable[[AppConfig], IdentityModel | None] = load_identity,
) -> IdentityEmbedder | None:
    """Load the identity model and make its embedder.

    Args:
        config: the whole configuration.
        model_thread: the thread of the models in the segmenter's replica.
        threads: crop the objects.
        metrics: the replica's metrics.
        load: loads the model; tests pass a fake.

    Returns:
        The embedder; None if `models.identity` names no model. Then nothing is loaded or imported for it.

    Raises:
        GensegError: the model cannot be loaded.
    """
    model = load(config)
    if model is None:
        return None
    return IdentityEmbedder(model, model_thread, threads, metrics, config.cache.identity_bytes)


class IdentityEmbedder:
    """Embeds objects of images.

    Args:
        model: computes the embeddings of crops.
        model_thread: the thread of the models in the segmenter's replica.
        threads: crop the objects.
        metrics: the replica's metrics.
        cache_bytes: size of the cache of embeddings.

    Attributes:
        described: the model's name and settings, for the verdict.
    """

    def __init__(
        self, model: IdentityModel, model_thread: ModelThread, threads: FairThreads, metrics: Metrics, cache_bytes: int
    ) -> None:
        self.described = model.described
        self._side = model.side
        # The embedding of an object whose mask is empty; the verdict does not compare it.
        self._nothing: Embedding = np.zeros(model.dimension, np.float32)
        self._threads = threads
        self._metrics = metrics
        self._health = ModelHealth()
        self._pictures = FairSlots(PICTURES, per_caller=PICTURES - 1)
        self._cache: ByteLru[Embedding] = ByteLru(
            cache_bytes, lambda key, embedding: ENTRY_BYTES + len(key) + embedding.nbytes
        )
        # Concurrent requests for the same objects share one computation. It stores its results in _cache, not here.
        self._flights: CachedWork[Mapping[str, Embedding]] = CachedWork(ByteLru(0, lambda *_: 1))
        self._batcher: PullBatcher[NDArray[np.uint8], Embedding] = model_step(
            "crops", model.embed, CROPS, thread=model_thread, health=self._health, metrics=metrics
        )
        metrics.watch_cache("identity", lambda: self._cache.nbytes)

    @property
    def queued(self) -> int:
        """The number of crops that wait for a pass, plus the images that wait to be cropped."""
        return self._batcher.queued + self._pictures.queued

    def check_health(self) -> None:
        """Raise RuntimeError if the model keeps failing; see ModelHealth."""
        self._health.check()

    async def embed(
        self,
        image_key: str,
        pixels: Callable[[], Awaitable[RgbArray]],
        objects: Sequence[Seen],
        request_id: str,
    ) -> list[Seen]:
        """Embed the objects of one image.

        Args:
            image_key: content hash of the image file.
            pixels: decodes the image; called at most once, and only if an embedding is not in the cache.
            objects: with masks of the image's size; may be empty.
            request_id: the request that gets a turn of the threads and the model.

        Returns:
            The objects, in order, each with its embedding: (D,) float32 of length 1, read-only. It is all 0 if the
            mask is empty; such an object cannot be compared.

        Raises:
            GensegError: the model failed on an object, or the queues are full (Overloaded).
            Exception: any error that `pixels` raises.
        """
        if not objects:
            return []
        # In a thread, because the masks of an image may be 32 MB of text.
        keys = await self._threads.run_steps(_keys(image_key, objects), request_id)
        found: dict[str, Embedding] = {}
        missing: dict[str, RleDict] = {}
        for key, each in zip(keys, objects, strict=True):
            if key in found or key in missing:
                continue
            cached = self._cache.get(key)
            self._metrics.cache_lookup("identity", cached is not None)
            if cached is None:
                missing[key] = each.mask
            else:
                found[key] = cached
        if missing:
            found.update(await self._flights.get(" ".join(missing), lambda: self._make(missing, pixels, request_id)))
        return [replace(each, embedding=found[key]) for key, each in zip(keys, objects, strict=True)]

    async def _make(
        self, missing: Mapping[str, RleDict], pixels: Callable[[], Awaitable[RgbArray]], request_id: str
    ) -> Mapping[str, Embedding]:
        boxes = await self._threads.run_steps(_boxes(missing), request_id)
        made = {key: self._nothing for key, box in boxes.items() if not any(box)}
        shown = [key for key in missing if key not in made]
        if not shown:
            return made
        # Crop for one pass at a time, so that an image with many objects fills neither the memory nor the queue.
        *groups, last = [shown[start : start + CROPS] for start in range(0, len(shown), CROPS)]
        # The decoded image stays in memory while its crops wait for a thread, so only a few images are here at a time.
        async with self._pictures.hold(request_id):
            image = await pixels()
            for group in groups:
                crops = await self._cut(image, [(missing[key], boxes[key]) for key in group], request_id)
                made.update(await self._embedded(group, crops, request_id))
            crops = await self._cut(image, [(missing[key], boxes[key]) for key in last], request_id)
            del image
        made.update(await self._embedded(last, crops, request_id))
        return made

    async def _embedded(
        self, keys: Sequence[str], crops: Sequence[NDArray[np.uint8]], request_id: str
    ) -> dict[str, Embedding]:
        """Embed crops and cache the embeddings; if several crops fail, raise the first error."""
        with self._metrics.stage("identity") as identity:
            identity.set(objects=len(crops))
            outcomes = await self._batcher.submit(crops, request_id, identity.begins)
        made: dict[str, Embedding] = {}
        failure: BaseException | None = None
        for key, outcome in zip(keys, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                failure = failure or outcome
                continue
            outcome.flags.writeable = False  # several requests may share it
            made[key] = outcome
            self._cache.put(key, outcome)
        if failure is not None:
            raise failure
        return made

    async def _cut(
        self, image: RgbArray, objects: Sequence[tuple[RleDict, tuple[int, int, int, int]]], request_id: str
    ) -> list[NDArray[np.uint8]]:
        with self._metrics.stage("crops") as crops:
            crops.set(objects=len(objects))
            return await self._threads.run_steps(_crops(image, objects, self._side), request_id)


def _keys(image_key: str, objects: Sequence[Seen]) -> Steps[list[str]]:
    keys = []
    for each in objects:
        keys.append(f"{image_key}:{blake2b(each.mask['counts'].encode(), digest_size=16).hexdigest()}")
        yield
    return keys


def _boxes(masks: Mapping[str, RleDict]) -> Steps[dict[str, tuple[int, int, int, int]]]:
    boxes = {}
    for key, mask in masks.items():
        boxes[key] = bounds(mask)
        yield
    return boxes


def _crops(
    image: RgbArray, objects: Sequence[tuple[RleDict, tuple[int, int, int, int]]], side: int
) -> Steps[list[NDArray[np.uint8]]]:
    crops = []
    for mask, box in objects:
        x1, y1, x2, y2 = box
        crops.append(object_crop(image[y1:y2, x1:x2], decode_box(mask, box), side))
        yield
    return crops
