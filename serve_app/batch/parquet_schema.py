"""The Parquet schema of results, and the conversion of a result document into a row. Knows no files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import JsonValue

from serve_app.batch.shards import Line, ResultLine
from serve_app.schemas.dicts import ImageDict

ColumnKind = Literal["bool", "int", "float", "text", "json"]
"""The type of an extra column (see `row`). `json` is the JSON text of lists, objects, or values of several types."""

PREFIX = "column."
"""The prefix of an extra column's name in tables of results."""

_INT64 = range(-(2**63), 2**63)
_OTHER_MASKS = ("mask_polygons", "mask_png")


class Contents:
    """The parts of a folder's results that its schema depends on.

    Attributes:
        columns: type of each extra column (see `row`), by its name.
        further: keys that some results have: `mask_polygons`, `mask_png`, `overlay`.
    """

    def __init__(self) -> None:
        self.columns: dict[str, ColumnKind] = {}
        self.further: set[str] = set()

    def note(self, line: Line) -> None:
        """Add a result."""
        self.note_columns(line.columns)
        # Inside a text, a quote is written as \\", so these bytes can only be the key.
        self.further.update(key for key in (*_OTHER_MASKS, "overlay") if f'"{key}": '.encode() in line.raw)

    def note_columns(self, columns: Mapping[str, JsonValue]) -> None:
        """Add the extra columns of a row."""
        for name, value in columns.items():
            kind = _kind(value)
            self.columns[name] = _both(self.columns.get(name, kind), kind)


def schema(pa: Any, contents: Contents) -> Any:
    """Build the schema of a table that has one row for each result.

    The columns are `id` (text), `prompt`, `entities`, `images`, `verdict`, `box_format`, `coordinate_unit`, `meta`, and
    `column.NAME` for every extra column. An image has `role` and `index` in addition to the document's keys; `presence`
    is a map. Each object has `mask_rle`, which is null if the row asked for another mask format. `mask_polygons`,
    `mask_png` and `overlay` exist if any row of the folder has them. `verdict` has the document's keys; it is null if
    the row did not ask for a verdict.

    Args:
        pa: the module pyarrow.
        contents: the contents of the folder's results.

    Returns:
        A `pyarrow.Schema`.
    """
    text, real, whole = pa.string(), pa.float64(), pa.int32()
    ring = pa.struct({"points": pa.list_(pa.list_(real)), "hole": pa.bool_()})
    further = {"mask_polygons": pa.list_(ring), "mask_png": text}
    item = {
        "object_id": text,
        "label": text,
        "bbox": pa.list_(whole),
        "score": real,
        "mask_rle": pa.struct({"size": pa.list_(whole), "counts": text}),
        **{key: further[key] for key in _OTHER_MASKS if key in contents.further},
    }
    image = {
        "role": text,
        "index": whole,
        "path": text,
        "width": whole,
        "height": whole,
        "objects": pa.list_(pa.struct(item)),
        "presence": pa.map_(text, real),
        **({"overlay": text} if "overlay" in contents.further else {}),
    }
    return pa.schema(
        {
            "id": text,
            "prompt": text,
            "entities": pa.list_(text),
            "images": pa.list_(pa.struct(image)),
            "verdict": _verdict(pa),
            "box_format": text,
            "coordinate_unit": text,
            "meta": _meta(pa),
            **column_types(pa, contents),
        }
    )


def column_types(pa: Any, contents: Contents) -> Any:
    """Return the pyarrow type of each of the rows' extra columns, by its name in tables."""
    text = pa.string()
    kinds = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64(), "text": text, "json": text}
    return {PREFIX + name: kinds[kind] for name, kind in contents.columns.items()}


def _verdict(pa: Any) -> Any:
    text, real, whole, truth = pa.string(), pa.float64(), pa.int64(), pa.bool_()
    entity = {
        "entity": text,
        "asked": whole,
        "exact": truth,
        "asked_as": text,
        "sources": pa.list_(whole),
        "found": whole,
        "status": text,
        "objects": pa.list_(text),
        "bare": pa.struct({"entity": text, "found": whole}),
    }
    reference = {
        "image": whole,
        "object_id": text,
        "individual": whole,
        "match": text,
        "similarity": real,
        "margin": real,
        "status": text,
    }
    return pa.struct(
        {
            "arrived": truth,
            "entities": pa.list_(pa.struct(entity)),
            "references": pa.list_(pa.struct(reference)),
            "overlaps": pa.list_(pa.struct({"image": text, "objects": pa.list_(text), "iou": real})),
            "scores": pa.struct({"entities": real, "identity": real, "collapsed": real}),
            "reasons": pa.list_(text),
            "identity": pa.struct({"model": text, "pooling": text, "crop": text, "threshold": real}),
        }
    )


def _meta(pa: Any) -> Any:
    text, real = pa.string(), pa.float64()
    return pa.struct(
        {
            "request_id": text,
            "models": pa.map_(text, text),
            "threshold": real,
            "mask_threshold": real,
            "thresholds": pa.map_(text, real),
            "unused_thresholds": pa.list_(text),
            "dropped": pa.list_(pa.struct({"entity": text, "reason": text})),
            "timings_ms": pa.map_(text, real),
        }
    )


def job_row(document: ResultLine, contents: Contents) -> dict[str, Any]:
    """Convert a result into a row of the table.

    Args:
        document: the result.
        contents: the contents of the folder's results, including this one.
    """
    generated = document["generated_image"]
    images = [_image_row(image, "contextual", index) for index, image in enumerate(document["contextual_images"])]
    images += [] if generated is None else [_image_row(generated, "generated", 0)]
    meta: Mapping[str, Any] = document["meta"]
    maps = {key: [*meta.get(key, {}).items()] for key in ("models", "thresholds", "timings_ms")}
    columns = document.get("columns", {})
    return {
        "id": str(document["id"]),
        "prompt": document["prompt"],
        "entities": document["entities"],
        "images": images,
        "verdict": document.get("verdict"),
        "box_format": document["box_format"],
        "coordinate_unit": document["coordinate_unit"],
        "meta": {**meta, **maps},
        **{PREFIX + name: column_cell(columns.get(name), kind) for name, kind in contents.columns.items()},
    }


def _image_row(image: ImageDict, role: str, index: int) -> dict[str, Any]:
    return {**image, "role": role, "index": index, "presence": [*image["presence"].items()]}


def _kind(value: JsonValue) -> ColumnKind:
    match value:
        case bool():
            return "bool"
        case int():
            return "int" if value in _INT64 else "json"
        case float():
            return "float"
        case str():
            return "text"
    return "json"


def _both(one: ColumnKind, other: ColumnKind) -> ColumnKind:
    if one == other:
        return one
    return "float" if {one, other} == {"int", "float"} else "json"


def column_cell(value: JsonValue, kind: ColumnKind) -> JsonValue:
    """Convert a value to the type of its column; None stays None.

    >>> column_cell(3, "float"), column_cell(["a"], "json"), column_cell("a", "text")
    (3.0, '["a"]', 'a')
    """
    if value is None:
        return None
    if kind == "json":
        return json.dumps(value, ensure_ascii=False)
    return float(value) if kind == "float" and isinstance(value, int) else value
