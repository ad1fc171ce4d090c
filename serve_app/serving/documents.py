"""Write the documents of objects, images and results from detections. Pure.

An image may have thousands of masks of 50 megapixels each. So functions that process masks work in steps (see
`masks.steps`), and `MaskBytes` limits how much text the masks of an image may take.
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
"""At most this many masks of an image are encoded together."""
GROUP_PIXELS = 1 << 24
"""Masks that are encoded together have at most this many pixels in all; a larger mask is encoded alone."""


class MaskBytes:
    """Counts the text of one image's masks against a limit.

    Args:
        max_bytes: the limit for all masks together; None sets no limit.
    """

    def __init__(self, max_bytes: int | None = None) -> None:
        self._max_bytes = max_bytes
        self._taken = 0

    def take(self, size: int) -> None:
        """Count another mask.

        Args:
            size: bytes of text.

        Raises:
            TooLarge: the masks are over the limit.
        """
        self._taken += size
        if self._max_bytes is not None and self._taken > self._max_bytes:
            raise TooLarge(
                f"the masks of this image take over {self._max_bytes} bytes of text; raise the threshold, "
                'name fewer entities, or ask for mask_format "none" without overlays and verdict'
            )


def empty_image_document(size_wh: tuple[int, int], objects: list[ObjectDict]) -> SegmentedDict:
    """Write an image's document with these objects and no presence; `add_objects` adds more."""
    return {"width": size_wh[0], "height": size_wh[1], "objects": objects, "presence": {}, "error": None}


def add_objects(
    document: SegmentedDict,
    detections: Mapping[str, Detections],
    mask_threshold: float | None,
    mask_bytes: MaskBytes,
) -> Steps[None]:
    """Add the objects and the presence of some entities to an image's document.

    Bound: a step is one pass over GROUP_MASKS masks of GROUP_PIXELS in all, or over one larger mask. It takes some tens
    of megabytes, one byte per pixel of one mask (50 MB at 50 megapixels), and the text within `mask_bytes`. Measured at
    50 megapixels: 0.01 s for an outline, 0.8 s for a mask of noise.

    Args:
        document: from `empty_image_document`.
        detections: by entity, in the document's order. The document must not have these entities yet.
        mask_threshold: probability in [0, 1]; None leaves the masks out.
        mask_bytes: counts the image's masks against their limit.

    Raises:
        TooLarge: the masks are over the limit.
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
    """Encode all masks in groups; what the masks of a group share is computed once."""
    rles: list[RleDict] = []
    for group in _groups(detections, size_wh):
        logits = group[0] if len(group) == 1 else np.concatenate(group)
        encoded = rles_from_logits(logits, (size_wh[1], size_wh[0]), mask_threshold)
        mask_bytes.take(sum(len(rle["counts"]) for rle in encoded))
        rles += encoded
        yield
    return rles


def _groups(detections: Sequence[Detections], size_wh: tuple[int, int]) -> Iterator[list[NDArray[np.float32]]]:
    """Group the detections' masks, up to GROUP_MASKS in a group; copying larger groups gains nothing."""
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
    # The shortest decimal number that rounds to this float32. So a score above a threshold is also written above it.
    return float(str(np.float32(value)))


def to_mask_format(
    objects: Sequence[ObjectDict],
    mask_format: MaskFormat,
    mask_bytes: MaskBytes,
    encodings: Mapping[MaskFormat, MaskEncoding[Any]] = ENCODINGS,
    *,
    packed: bool = False,
) -> Steps[list[ObjectDict]]:
    """Convert the masks of objects to the request's format, one mask per step.

    Bound: one mask at a time (see `masks.formats`), and the result within `mask_bytes`.

    Args:
        objects: with `mask_rle` as their last key.
        mask_format: the format's key replaces `mask_rle`; `none` removes the mask.
        mask_bytes: counts the converted masks against their limit.
        encodings: the known formats.
        packed: pack the masks for another process, which must call `unpack_masks`.

    Returns:
        New objects, in order.

    Raises:
        TooLarge: the masks are over the limit.
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
    return cast(ObjectDict, converted)  # a test checks that ObjectDict has the key of each format


def unpack_masks(document: SegmentedDict) -> SegmentedDict:
    """Unpack the masks of an image's document from another process.

    Bound: the masks, whose size the sender limited.

    Args:
        document: changed in place.

    Returns:
        The same document.
    """
    if document["objects"]:
        document["objects"] = [_unpacked(found) for found in document["objects"]]
    return document


def _unpacked(found: ObjectDict) -> ObjectDict:
    values = ((key, value.unpack() if isinstance(value, Packed) else value) for key, value in found.items())
    return cast(ObjectDict, dict(values))


def failed_image_document(size_wh: tuple[int, int], error: GensegError) -> SegmentedDict:
    """Write the document of an image whose segmentation failed. Its `objects` is null, not an empty list."""
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
    """Assemble the result document, with the keys in the documented order.

    Bound: the images' documents, each limited by `limits.max_mask_bytes`, and their overlays.
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
    """Run a request to its end.

    Args:
        events: the request's events; closed afterwards.

    Returns:
        The document of the `result` event.

    Raises:
        GensegError: the request as a whole failed.
    """
    async with aclosing(events):
        async for event in events:
            if event["event"] == "result":
                return event["result"]
    raise InternalError("the request ended without a result")
