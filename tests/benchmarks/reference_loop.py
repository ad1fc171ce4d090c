"""The plain way to do the job, with its results as documents; what the benchmarks compare with.

The loop itself is `serve_app.models.plain_loop`; here `pycocotools.mask.encode` follows. The instruction, the reading
of the reply and the entity filter are the package's own on both sides: they cost microseconds, and without them the two
sides would segment different things.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from serve_app.config.schema import AppConfig
from serve_app.entities.chat import read_entities
from serve_app.entities.filter import EntityFilter
from serve_app.models.plain_loop import PlainParser, PlainSegmenter

FILTER = EntityFilter.of(AppConfig())


class ReferenceSegmenter(PlainSegmenter):
    """The documented loop over images and phrases."""

    def segment(
        self, image: Image.Image, phrase: str, *, threshold: float = 0.5, mask_threshold: float = 0.5
    ) -> list[dict[str, Any]]:
        """Find every instance of one phrase in one image.

        Args:
            image: RGB.
            phrase: what to look for.
            threshold: instances with a score above it are listed.
            mask_threshold: pixels with a mask probability above it belong to the instance.

        Returns:
            Objects with label, bbox (xyxy in pixels, floats), score and mask_rle, best first; may be empty.
        """
        found = self.find(self.inputs(image, phrase), (image.height, image.width), threshold, mask_threshold)
        objects = [
            {"label": phrase, "bbox": box.tolist(), "score": float(score), "mask_rle": encode(mask)}
            for box, score, mask in zip(found.boxes, found.scores, found.masks, strict=True)
        ]
        return sorted(objects, key=lambda found_object: -float(found_object["score"]))

    def segment_all(
        self, image: Image.Image, phrases: Sequence[str], *, threshold: float = 0.5, mask_threshold: float = 0.5
    ) -> list[dict[str, Any]]:
        """Run the loop over the phrases of one image; objects as in `segment`, phrase by phrase."""
        return [
            found
            for phrase in phrases
            for found in self.segment(image, phrase, threshold=threshold, mask_threshold=mask_threshold)
        ]


class ReferenceParser(PlainParser):
    """One greedy `generate` per prompt, and the entities in its reply."""

    def entities(self, prompt: str) -> list[str]:
        """List the entities of one prompt."""
        return FILTER.apply(read_entities(self.reply(prompt)), prompt).kept


def encode(mask: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Encode a mask (H, W), non-zero inside, as COCO RLE with text counts."""
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [*rle["size"]], "counts": rle["counts"].decode("ascii")}
