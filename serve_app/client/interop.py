"""Converts results to types of pandas and supervision. This package does not install these two libraries."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from serve_app.client.failures import InvalidAnswer
from serve_app.schemas.dicts import ResultDict
from serve_app.schemas.entity_rows import COLUMN_TYPES, entity_rows

if TYPE_CHECKING:
    from serve_app.client.objects import ObjectResult
    from serve_app.client.results import ImageResult

_NULLABLE = {"int64": "Int64"}
"""In pandas, int64 cannot hold null, but Int64 can."""
_ENTITY_COLUMNS = {**{name: _NULLABLE.get(kind, kind) for name, kind in COLUMN_TYPES.items()}, "index": "int64"}
_OBJECT_COLUMNS = {
    "object_id": "string",
    "label": "string",
    "score": "float64",
    "x1": "int64",
    "y1": "int64",
    "x2": "int64",
    "y2": "int64",
    "area": "Int64",
}


def entity_frame(document: ResultDict) -> Any:
    """Return a DataFrame with a row for each image and entity; see Result.to_frame."""
    from serve_app.masks.areas import covered_pixels

    pandas = _library("pandas", "to_frame")
    try:
        rows = [*entity_rows(document, covered_pixels)]
    except ValueError as error:
        raise InvalidAnswer(f"a mask cannot be read: {error}") from None
    return pandas.DataFrame(rows, columns=[*_ENTITY_COLUMNS]).astype(_ENTITY_COLUMNS)


def object_frame(objects: Sequence[ObjectResult]) -> Any:
    """Return a DataFrame with a row for each object; see ImageResult.to_frame."""
    pandas = _library("pandas", "to_frame")
    rows = [
        [each.object_id, each.label, each.score, *each.bbox, int(each.mask().sum()) if each.has_mask else None]
        for each in objects
    ]
    return pandas.DataFrame(rows, columns=[*_OBJECT_COLUMNS]).astype(_OBJECT_COLUMNS)


def detections_of(image: ImageResult) -> Any:
    """Return supervision's Detections; see ImageResult.to_supervision."""
    import numpy as np

    supervision = _library("supervision", "to_supervision")
    objects = image.objects
    numbers = {label: i for i, label in enumerate(dict.fromkeys([*image.presence, *(each.label for each in objects)]))}
    masks = None
    if all(each.has_mask for each in objects):
        masks = np.zeros((len(objects), *image.size_hw), np.bool_)
        for mask, each in zip(masks, objects, strict=True):
            mask[:] = each.mask()
    return supervision.Detections(
        xyxy=np.array([each.bbox for each in objects], np.float32).reshape(-1, 4),
        mask=masks,
        confidence=np.array([each.score for each in objects], np.float32),
        class_id=np.array([numbers[each.label] for each in objects], np.int64),
        data={
            "class_name": np.array([each.label for each in objects], np.str_),
            "object_id": np.array([each.object_id for each in objects], np.str_),
        },
    )


def _library(name: str, method: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ImportError(f"{method} needs the package {name}: pip install {name}", name=name) from None
