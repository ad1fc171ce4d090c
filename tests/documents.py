"""Builds complete documents of the service for tests, so that each test names only the keys that it is about."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from serve_app.schemas.dicts import ErrorDict, ImageDict, MetaDict, ModelsDict, ObjectDict, ResultDict, VerdictDict
from serve_app.schemas.events import EventDict

FAILED: ErrorDict = {"code": "internal", "message": "the segmenter failed on this image", "field": None}
"""Why an image has no objects, in documents where it does not matter."""


def found_object(object_id: str, bbox: Sequence[int] = (0, 0, 4, 4), score: float = 0.9) -> ObjectDict:
    """An object without a mask; its label is its id up to the last underscore."""
    return {"object_id": object_id, "label": object_id.rpartition("_")[0], "bbox": [*bbox], "score": score}


def image(
    path: str,
    objects: list[ObjectDict] | None,
    size_wh: tuple[int, int] = (64, 48),
    presence: dict[str, float] | None = None,
    error: ErrorDict = FAILED,
) -> ImageDict:
    """One image.

    Args:
        path: the name of the image.
        objects: None for an image that failed.
        size_wh: width and height, in pixels.
        presence: by entity; empty where it is not given.
        error: why the image failed, if it did.
    """
    return {
        "path": path,
        "width": size_wh[0],
        "height": size_wh[1],
        "objects": objects,
        "presence": presence or {},
        "error": error if objects is None else None,
    }


def meta(models: ModelsDict | None = None, threshold: float = 0.5) -> MetaDict:
    """How a document came about; no request has thresholds of its own, and nothing is dropped."""
    return {
        "request_id": "fixed",
        "models": models or {"text_parser": "none", "segmentation": "none"},
        "threshold": threshold,
        "mask_threshold": 0.5,
        "thresholds": {},
        "unused_thresholds": [],
        "dropped": [],
        "timings_ms": {"parse": 12.0, "segment": 34.0, "total": 56.0},
    }


def result(
    prompt: str,
    entities: Sequence[str],
    contextual_images: Sequence[ImageDict] = (),
    generated_image: ImageDict | None = None,
    verdict: VerdictDict | None = None,
    how: MetaDict | None = None,
) -> ResultDict:
    """A result document.

    Args:
        prompt: the prompt of the request.
        entities: what was looked for.
        contextual_images: in the order of the request.
        generated_image: None where the request has none.
        verdict: None where it was not asked for.
        how: the document's `meta`; `meta()` where it is not given.
    """
    return {
        "prompt": prompt,
        "entities": [*entities],
        "contextual_images": [*contextual_images],
        "generated_image": generated_image,
        "verdict": verdict,
        "box_format": "xyxy",
        "coordinate_unit": "pixels",
        "meta": how or meta(),
    }


def as_json(document: ResultDict) -> dict[str, Any]:
    """Copy a document into plain dicts. Tests use it to write keys and values that this version does not know."""
    return dict(json.loads(json.dumps(document)))


def events_of(document: ResultDict) -> Iterator[EventDict]:
    """The events of the stream that ends with this document."""
    yield {"event": "entities", "entities": document["entities"], "dropped": document["meta"]["dropped"]}
    for index, each in enumerate(document["contextual_images"]):
        yield {"event": "image", "role": "contextual", "index": index, "image": each}
    if document["generated_image"] is not None:
        yield {"event": "image", "role": "generated", "index": 0, "image": document["generated_image"]}
    yield {"event": "result", "result": document}
