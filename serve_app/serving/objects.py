"""From features to objects: detector passes for groups of phrases, and the masks of what they find, as COCO RLE."""

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
"""Below this threshold a model keeps most of its queries: two hundred masks an entity in place of a few. So one
entity goes first, and the others in groups of HELD_BYTES by its measure."""
HELD_BYTES = 32 * 1024 * 1024
"""Mask logits of one image that are held at once: 170 entities of the embedded model, or one of 288 x 288 by 200."""


class ObjectFinder:
    """Finds objects with one model.

    Args:
        detector: runs the detector pass.
        threads: encode the masks.
        metrics: of the replica.
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
            image: its features.
            size_wh: width and height of the picture, in pixels.
            phrases: features by entity, in the document's order; may be none.
            task: whose turn it is, and the options; without a use for masks none are encoded.
            mask_bytes: what the image's masks may take.

        Returns:
            The image's document; masks, if any, as RLE.

        Raises:
            GensegError: what the model answered, or TooLarge.
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
    """How many entities to begin with, since their mask logits are held at once: all, or one where most are kept."""
    return len(entities) if all(options.threshold_of(entity) >= KEEPS_MOST for entity in entities) else 1
