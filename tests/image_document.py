"""Writes the document of one image from all its detections, for tests and benchmarks without a deployment."""

from __future__ import annotations

from collections.abc import Mapping

from serve_app.masks.steps import finish
from serve_app.models.interface import Detections
from serve_app.schemas.dicts import SegmentedDict
from serve_app.serving.documents import MaskBytes, add_objects, empty_image_document


def image_document(
    detections: Mapping[str, Detections], size_wh: tuple[int, int], mask_threshold: float = 0.5
) -> SegmentedDict:
    """Write one image's objects, with RLE masks, without a bound.

    Args:
        detections: by entity, in the document's order.
        size_wh: width and height of the image, in pixels.
        mask_threshold: probability in [0, 1].
    """
    document = empty_image_document(size_wh, [])
    finish(add_objects(document, detections, mask_threshold, MaskBytes()))
    return document
