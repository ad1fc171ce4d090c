"""Find objects from features: run the detector for groups of phrases and encode the masks as COCO RLE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serve_app.models.interface import Detections, Features, Pair
from serve_app.schemas.dicts import SegmentedDict
from serve_app.serving import documents
from serve_app.serving.documents import MaskBytes
from serve_app.serving.messages import ImageTask, ObjectOptions
from serve_app.serving.replica.batching import PullBatcher
from serve_app.serving.replica.metrics import Metrics
from serve_app.serving.replica.turns import FairThreads

KEEPS_MOST = 0.05
"""Below this threshold a model keeps most of its queries: 200 masks of an entity instead of a few. So one entity is
detected first, and the size of its masks determines how many other entities fit into HELD_BYTES together."""
HELD_BYTES = 32 * 1024 * 1024
"""At most this many bytes of an image's mask logits are in memory at the same time, or the logits of one entity if they
are more. This is enough for 170 entities of the embedded model."""


class ObjectFinder:
    """Finds objects with one model.

    Args:
        detector: runs the detector in batches.
        threads: encode the masks.
        metrics: the replica's metrics.
    """

    def __init__(
        self, detector: PullBatcher[Pair[Any, Any], Detections], threads: FairThreads, metrics: Metrics
    ) -> None:
        self._detector = detector
        self._threads = threads
        self._metrics = metrics

    async def find(
        self,
        image: Features,
        size_wh: tuple[int, int],
        phrases: Mapping[str, Features],
        task: ImageTask,
        mask_bytes: MaskBytes,
    ) -> SegmentedDict:
        """Find every instance of every phrase in one image.

        Args:
            image: the image's features.
            size_wh: width and height of the image, in pixels.
            phrases: features by entity, in the document's order; may be empty.
            task: its request gets a turn of the threads; its options select the objects and say whether masks are
                needed.
            mask_bytes: counts the image's masks against their limit.

        Returns:
            The image's document; masks, if any, as RLE.

        Raises:
            GensegError: the model failed, or the masks are over the limit (TooLarge).
        """
        document = documents.empty_image_document(size_wh, [])
        options = task.options
        mask_threshold = options.mask_threshold if _needs_masks(options) else None
        left = [*phrases]
        together = _detected_together(left, options)
        while left:
            group, left = left[:together], left[together:]
            detections = await self._detect(image, {entity: phrases[entity] for entity in group}, task)
            with self._metrics.stage("masks") as masks:
                steps = documents.add_objects(document, detections, mask_threshold, mask_bytes)
                await self._threads.run_steps(steps, task.request_id)
                masks.set(objects=sum(len(found.scores) for found in detections.values()))
            together = max(1, HELD_BYTES // max(1, *(found.mask_logits.nbytes for found in detections.values())))
        return document

    async def _detect(self, image: Features, phrases: Mapping[str, Features], task: ImageTask) -> dict[str, Detections]:
        options = task.options
        masks = _needs_masks(options)
        pairs = [Pair(image, phrase, options.threshold_of(entity), masks) for entity, phrase in phrases.items()]
        detections = {}
        with self._metrics.stage("detect") as detect:
            detect.set(pairs=len(pairs))
            found = await self._detector.submit(pairs, task.request_id, detect.begins)
            for entity, outcome in zip(phrases, found, strict=True):
                if isinstance(outcome, BaseException):
                    raise outcome
                detections[entity] = outcome
        return detections


def _needs_masks(options: ObjectOptions) -> bool:
    return options.overlays or options.verdict or options.mask_format != "none"


def _detected_together(entities: Sequence[str], options: ObjectOptions) -> int:
    """Return how many entities to detect first: all, or one if a threshold is so low that most queries are kept."""
    return len(entities) if all(options.threshold_of(entity) >= KEEPS_MOST for entity in entities) else 1
