"""Reads result documents from the Parquet files of `genseg batch --format parquet`; see `batch.parquet_schema`."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from serve_app.batch.output import OutputError
from serve_app.batch.parquet import load_pyarrow
from serve_app.batch.parquet_schema import PREFIX
from serve_app.batch.shards import ResultLine
from serve_app.masks.formats import ENCODINGS

_ROWS = 16
_OF_MASKS = frozenset(encoding.key for encoding in ENCODINGS.values())


def parquet_documents(path: Path) -> Iterator[ResultLine]:
    """Yield the documents of a file.

    Every id is text. The file does not have the errors of images, so `error` of a failed image is null.

    Raises:
        OutputError: pyarrow is missing, or `genseg batch` did not write the file.
    """
    load_pyarrow()
    parquet: Any = importlib.import_module("pyarrow.parquet")
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS):
                for row in batch.to_pylist(maps_as_pydicts="strict"):
                    yield _document(row)
    except (KeyError, TypeError):
        raise OutputError(f"{path}: does not have the columns of genseg batch --format parquet") from None
    except ValueError as error:  # pyarrow.ArrowInvalid is one
        raise OutputError(f"{path}: cannot be read: {str(error).splitlines()[0][:200]}") from None


def _document(row: Any) -> ResultLine:
    images = [(each["role"], _image(each)) for each in row["images"]]
    generated = [image for role, image in images if role == "generated"]
    columns = {name.removeprefix(PREFIX): value for name, value in row.items() if name.startswith(PREFIX)}
    columns = {name: value for name, value in columns.items() if value is not None}
    document = {
        "id": row["id"],
        **({"columns": columns} if columns else {}),
        "prompt": row["prompt"],
        "entities": row["entities"],
        "contextual_images": [image for role, image in images if role == "contextual"],
        "generated_image": generated[0] if generated else None,
        "verdict": row.get("verdict"),
        "box_format": row["box_format"],
        "coordinate_unit": row["coordinate_unit"],
        "meta": row["meta"],
    }
    return cast(ResultLine, document)


def _image(row: Any) -> Any:
    image = {name: value for name, value in row.items() if name not in {"role", "index"}}
    image.setdefault("error", None)
    if image["objects"] is not None:
        image["objects"] = [_without_nulls(item) for item in image["objects"]]
    return image


def _without_nulls(item: Any) -> Any:
    return {name: value for name, value in item.items() if name not in _OF_MASKS or value is not None}
