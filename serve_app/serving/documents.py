"""From detections to documents: objects of an image, images of a result. Pure; knows no Ray, no HTTP and no model.

An image may have thousands of masks of 50 megapixels each, so what is done mask by mask is a piece of work in steps
(see `masks.steps`), and the masks of an image, as text, stay within one bound, `MaskBytes`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from serve_app.errors import GensegError, InternalError, TooLarge
from serve_app.masks.boxes import pixel_boxes
from serve_app.masks.formats import ENCODINGS, MaskEncoding, Packed
from serve_app.masks.from_logits import rles_from_logits
from serve_app.masks.steps import Steps
from serve_app.models.interface import Detections
from serve_app.schemas.base import MaskFormat
from serve_app.schemas.dicts import (
    ImageDict,
    MetaDict,
    ObjectDict,
    ResultDict,
    RleDict,
    SegmentedDict,
    VerdictDict,
    error_body,
)
from serve_app.schemas.events import EventDict

GROUP_MASKS = 32
"""Masks of an image that are encoded in one pass."""
GROUP_PIXELS = 1 << 24
"""Pixels of the masks of one pass; one mask may have more."""


class MaskBytes:
    """How much the masks of one image may still take.

    Args:
        max_bytes: of text, all masks together; None sets no bound.
    """

    def __init__(self, max_bytes: int | None = None) -> None:
        self._max_bytes = max_bytes
        self._taken = 0

    def take(self, size: int) -> None:
        """Count another mask.

        Raises:
            TooLarge: the masks are over the bound.
        """
        self._taken += size
        if self._max_bytes is not None and self._taken > self._max_bytes:
            raise TooLarge(
                f"the masks of this image take over {self._max_bytes} bytes of text; raise the threshold, "
                'name fewer entities, or ask for mask_format "none" without overlays and verdict'
            )


def empty_image_document(size_wh: tuple[int, int], objects: list[ObjectDict]) -> SegmentedDict:
    """Write an image's document around an empty list of objects, for `add_objects` to fill."""
    return {"width": size_wh[0], "height": size_wh[1], "objects": objects, "presence": {}, "error": None}


def add_objects(
    document: SegmentedDict,
    detections: Mapping[str, Detections],
    mask_threshold: float | None,
    mask_bytes: MaskBytes,
) -> Steps[None]:
    """Add the objects and the presence of some entities to an image's document.

    Bound: a step is one pass over GROUP_MASKS masks of GROUP_PIXELS in all, or one larger mask; some tens of megabytes
    beside a byte a pixel of one mask (50 MB at 50 megapixels), and the text within `mask_bytes`. Measured at 50
    megapixels: 0.01 s for an outline, 0.8 s for a mask of noise.

    Args:
        document: from `empty_image_document`.
        detections: by entity, in the document's order; of entities that the document does not have yet.
        mask_threshold: probability in [0, 1]; None leaves the masks out.
        mask_bytes: what the image's masks may still take.

    Raises:
        TooLarge: the masks are over the bound.
    """
    size_wh = document["width"], document["height"]
    boxes = _boxes([*detections.values()], size_wh)
    objects = document["objects"]
    assert objects is not None
    rles: list[RleDict] = []
    if mask_threshold is not None:
        rles = yield from _rles([*detections.values()], size_wh, mask_threshold, mask_bytes)
    written = 0
    for label, found in detections.items():
        for index, score in enumerate(found.scores):
            item: ObjectDict = {
                "object_id": f"{label}_{index}",
                "label": label,
                "bbox": boxes[written],
                "score": _fraction(score),
            }
            if rles:
                item["mask_rle"] = rles[written]
            objects.append(item)
            written += 1
        document["presence"][label] = _fraction(found.presence)


def _boxes(detections: Sequence[Detections], size_wh: tuple[int, int]) -> list[list[int]]:
    found = [each.boxes for each in detections if len(each.scores)]
    if not found:
        return []
    return pixel_boxes(np.concatenate(found), size_wh)


def _rles(
    detections: Sequence[Detections], size_wh: tuple[int, int], mask_threshold: float, mask_bytes: MaskBytes
) -> Steps[list[RleDict]]:
    """Encode all masks, one after another; what the masks of a group share is computed once."""
    rles: list[RleDict] = []
    for group in _groups(detections, size_wh):
        logits = group[0] if len(group) == 1 else np.concatenate(group)
        encoded = rles_from_logits(logits, (size_wh[1], size_wh[0]), mask_threshold)
        mask_bytes.take(sum(len(rle["counts"]) for rle in encoded))
        rles += encoded
        yield
    return rles


def _groups(detections: Sequence[Detections], size_wh: tuple[int, int]) -> Iterator[list[NDArray[np.float32]]]:
    """Put the detections' masks together, up to GROUP_MASKS: more would be copied for no gain."""
    most = max(1, min(GROUP_MASKS, GROUP_PIXELS // (size_wh[0] * size_wh[1])))
    group: list[NDArray[np.float32]] = []
    for each in detections:
        for start in range(0, len(each.mask_logits), most):
            part = each.mask_logits[start : start + most]
            if group and sum(map(len, group)) + len(part) > most:
                yield group
                group = []
            group.append(part)
    if group:
        yield group


def _fraction(value: float | np.floating[Any]) -> float:
    # The shortest number that is this float32 and no other: a score above a threshold stays above it when written.
    return float(str(np.float32(value)))


def to_mask_format(
    objects: Sequence[ObjectDict],
    mask_format: MaskFormat,
    mask_bytes: MaskBytes,
    encodings: Mapping[MaskFormat, MaskEncoding[Any]] = ENCODINGS,
    *,
    packed: bool = False,
) -> Steps[list[ObjectDict]]:
    """Write the masks of objects in the request's format, a step a mask.

    Bound: a mask at a time, see `masks.formats`; the result within `mask_bytes`.

    Args:
        objects: with `mask_rle` as their last key.
        mask_format: its key takes the place of `mask_rle`; `none` drops the mask.
        mask_bytes: what the masks may take in their new form.
        encodings: the formats that there are.
        packed: the objects go to another process, which unpacks them by `unpack_masks`.

    Raises:
        TooLarge: the masks are over the bound.
    """
    encoding = None if mask_format == "none" else encodings[mask_format]
    converted = []
    for found in objects:
        converted.append(_converted(found, encoding, mask_bytes, packed))
        yield
    return converted


def _converted(
    found: ObjectDict, encoding: MaskEncoding[Any] | None, mask_bytes: MaskBytes, packed: bool
) -> ObjectDict:
    converted = {key: value for key, value in found.items() if key != "mask_rle"}
    if encoding is not None:
        write = encoding.pack if packed and encoding.pack is not None else encoding.write
        converted[encoding.key] = write(found["mask_rle"], mask_bytes.take)
    return cast(ObjectDict, converted)  # a test holds that the table's keys are keys of an object


def unpack_masks(document: SegmentedDict) -> SegmentedDict:
    """Unpack the masks of an image's document that came from another process.

    Bound: the masks, which the sender counted.

    Args:
        document: its objects are replaced.

    Returns:
        The document itself.
    """
    if document["objects"]:
        document["objects"] = [_unpacked(found) for found in document["objects"]]
    return document


def _unpacked(found: ObjectDict) -> ObjectDict:
    values = ((key, value.unpack() if isinstance(value, Packed) else value) for key, value in found.items())
    return cast(ObjectDict, dict(values))


def failed_image_document(size_wh: tuple[int, int], error: GensegError) -> SegmentedDict:
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
    contextual_images: Sequence[ImageDict],
    generated_image: ImageDict | None,
    verdict: VerdictDict | None = None,
    meta: MetaDict,
) -> ResultDict:
    """Put the whole document together, keys in the documented order.

    Bound: none of its own: it holds the images' documents, each within `limits.max_mask_bytes` and its overlay.
    """
    return {
        "prompt": prompt,
        "entities": [*entities],
        "contextual_images": [*contextual_images],
        "generated_image": generated_image,
        "verdict": verdict,
        "box_format": "xyxy",
        "coordinate_unit": "pixels",
        "meta": meta,
    }


async def result_of(events: AsyncGenerator[EventDict, None]) -> ResultDict:
    """Run a request's events to their end.

    Returns:
        The document of the last one.

    Raises:
        GensegError: the request as a whole failed.
    """
    async with aclosing(events):
        async for event in events:
            if event["event"] == "result":
                return event["result"]
    raise InternalError("the request ended without a result")
