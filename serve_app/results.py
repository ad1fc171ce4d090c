"""From detections to documents: objects of an image, images of a result. Pure; knows no Ray, no HTTP and no model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve_app import masks, polygons
from serve_app.errors import GensegError, error_body
from serve_app.models.detections import Detections
from serve_app.schemas import MaskFormat
from serve_app.tasks import SegmentOptions

GROUP_MASKS = 32
"""Masks of an image that are encoded in one pass."""


def image_document(
    detections: Mapping[str, Detections], size_wh: tuple[int, int], options: SegmentOptions
) -> dict[str, Any]:
    """Write one image's objects.

    Args:
        detections: by entity, in the document's order.
        size_wh: width and height of the image, in pixels.
        options: mask threshold and format.

    Returns:
        An ImageDocument as a dict, without `path`; its objects carry their RLE under `mask_rle` whatever the format,
        see `with_mask_format`.
    """
    boxes, rles = _boxes_and_rles([*detections.values()], size_wh, options.mask_threshold)
    objects = [
        {
            "object_id": f"{label}_{index}",
            "label": label,
            "bbox": next(boxes),
            "score": _fraction(score),
            "mask_rle": next(rles),
        }
        for label, found in detections.items()
        for index, score in enumerate(found.scores)
    ]
    return {
        "width": size_wh[0],
        "height": size_wh[1],
        "objects": objects,
        "presence": {label: _fraction(found.presence) for label, found in detections.items()},
        "error": None,
    }


def _boxes_and_rles(
    detections: Sequence[Detections], size_wh: tuple[int, int], mask_threshold: float
) -> tuple[Iterator[list[int]], Iterator[dict[str, Any]]]:
    """Write boxes and masks of all detections, one after another: what all masks share is computed once."""
    found = [each for each in detections if len(each.scores)]
    if not found:
        return iter(()), iter(())
    width, height = size_wh
    # Python floats first: float32 products round, and a box of the whole image must end at its last pixel.
    scaled = np.concatenate([each.boxes for each in found]).astype(np.float64) * (width, height, width, height)
    boxes = np.clip(np.rint(scaled), 0, (width, height, width, height)).astype(int).tolist()
    rles: list[dict[str, Any]] = []
    for group in _groups(found):
        logits = group[0] if len(group) == 1 else np.concatenate(group)
        rles += masks.rles_from_logits(logits, (height, width), mask_threshold)
    return iter(boxes), iter(rles)


def _groups(found: Sequence[Detections]) -> Iterator[list[NDArray[np.float32]]]:
    """Put the detections' masks together, up to GROUP_MASKS: more would be copied for no gain."""
    group: list[NDArray[np.float32]] = []
    for each in found:
        if group and sum(map(len, group)) + len(each.mask_logits) > GROUP_MASKS:
            yield group
            group = []
        group.append(each.mask_logits)
    yield group


def _fraction(value: float | np.floating[Any]) -> float:
    # The shortest number that is this float32 and no other: a score above a threshold stays above it when written.
    return float(str(np.float32(value)))


def with_mask_format(objects: Sequence[dict[str, Any]], mask_format: MaskFormat) -> list[dict[str, Any]]:
    """Write the masks of objects in the request's format.

    Args:
        objects: with `mask_rle` as their last key.
        mask_format: `rle` leaves them; `polygon` and `png` put their key in its place; `none` drops it.
    """
    if mask_format == "rle":
        return [*objects]
    return [_converted(document, mask_format) for document in objects]


def _converted(document: dict[str, Any], mask_format: MaskFormat) -> dict[str, Any]:
    rest = {key: value for key, value in document.items() if key != "mask_rle"}
    if mask_format == "polygon":
        rest["mask_polygons"] = polygons.polygons_from_rle(document["mask_rle"])
    elif mask_format == "png":
        rest["mask_png"] = masks.png_base64(document["mask_rle"])
    return rest


def failed_image_document(size_wh: tuple[int, int], error: GensegError) -> dict[str, Any]:
    """Write an image whose segmentation failed: `objects` is null, since nobody knows them."""
    return {
        "width": size_wh[0],
        "height": size_wh[1],
        "objects": None,
        "presence": {},
        "error": error_body(error),
    }


def result_document(
    *,
    prompt: str,
    entities: Sequence[str],
    contextual_images: Sequence[dict[str, Any]],
    generated_image: dict[str, Any] | None,
    meta: dict[str, Any],
) -> dict[str, Any]:
    """Put the whole document together, keys in the documented order."""
    return {
        "prompt": prompt,
        "entities": [*entities],
        "contextual_images": [*contextual_images],
        "generated_image": generated_image,
        "box_format": "xyxy",
        "coordinate_unit": "pixels",
        "meta": meta,
    }
