"""Shards of results as Parquet files beside them, one for each: `part-00000.jsonl` gives `part-00000.parquet`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, TypedDict

from serve_app.batch.output import OutputError
from serve_app.batch.shards import ResultLine, lines_of, shards
from serve_app.batch.whole_file import whole_file
from serve_app.schemas.dicts import ImageDict, ObjectDict
from serve_app.schemas.events import Role


def load_pyarrow() -> Any:
    """Import pyarrow.

    Raises:
        OutputError: it is not installed.
    """
    try:
        importlib.import_module("pyarrow.parquet")
        return importlib.import_module("pyarrow")
    except ImportError:
        raise OutputError("writing Parquet needs the package pyarrow: pip install 'genseg[batch]'") from None


def write_missing(folder: Path) -> int:
    """Write the Parquet file of every shard that has none; one shard at a time is in memory.

    A row is a job: `id` (text), `prompt`, `entities` and `images`; an image has its `role` and `index` besides the
    document's own keys, `presence` is a map, and `mask_rle` a struct (null where another format was asked for).

    Returns:
        How many were written.

    Raises:
        OutputError: pyarrow is missing, or a file cannot be written.
    """
    pyarrow = load_pyarrow()
    schema = _schema(pyarrow)
    written = 0
    for shard in shards(folder):
        target = shard.with_suffix(".parquet")
        if target.exists():
            continue
        table = pyarrow.Table.from_pylist([_job_row(line.result()) for line in lines_of(shard)], schema=schema)
        try:
            with whole_file(target) as file:
                pyarrow.parquet.write_table(table, file, compression="zstd")
        except OSError as error:
            raise OutputError(f"{target}: {error.strerror or error}") from None
        written += 1
    return written


class _ImageRow(TypedDict):
    role: Role
    index: int
    path: str
    width: int
    height: int
    objects: list[ObjectDict] | None
    presence: list[tuple[str, float]]


class _JobRow(TypedDict):
    id: str
    prompt: str
    entities: list[str]
    images: list[_ImageRow]
    box_format: str
    coordinate_unit: str


def _job_row(document: ResultLine) -> _JobRow:
    generated = document["generated_image"]
    images = [_image_row(image, "contextual", index) for index, image in enumerate(document["contextual_images"])]
    images += [] if generated is None else [_image_row(generated, "generated", 0)]
    return {
        "id": str(document["id"]),
        "prompt": document["prompt"],
        "entities": document["entities"],
        "images": images,
        "box_format": document["box_format"],
        "coordinate_unit": document["coordinate_unit"],
    }


def _image_row(image: ImageDict, role: Role, index: int) -> _ImageRow:
    return {
        "role": role,
        "index": index,
        "path": image["path"],
        "width": image["width"],
        "height": image["height"],
        "objects": image["objects"],
        "presence": [*image["presence"].items()],
    }


def _schema(pa: Any) -> Any:
    text, real, whole = pa.string(), pa.float64(), pa.int32()
    item = pa.struct(
        {
            "object_id": text,
            "label": text,
            "bbox": pa.list_(whole),
            "score": real,
            "mask_rle": pa.struct({"size": pa.list_(whole), "counts": text}),
        }
    )
    image = pa.struct(
        {
            "role": text,
            "index": whole,
            "path": text,
            "width": whole,
            "height": whole,
            "objects": pa.list_(item),
            "presence": pa.map_(text, real),
        }
    )
    fields = {"id": text, "prompt": text, "entities": pa.list_(text), "images": pa.list_(image)}
    return pa.schema({**fields, "box_format": text, "coordinate_unit": text})
