"""Results as one COCO instances file, written while they are read: memory holds categories, no images and no masks.

Source: the format as pycocotools.COCO reads it, https://cocodataset.org/#format-data
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TypedDict

from serve_app.batch.output import OutputError
from serve_app.batch.shards import ResultLine
from serve_app.batch.whole_file import whole_file
from serve_app.masks.rle import area
from serve_app.schemas.dicts import ImageDict, ObjectDict, ResultDict, RleDict
from serve_app.schemas.events import Role


class _CocoImage(TypedDict):
    """An image as COCO writes it; the last two keys are ours."""

    id: int
    file_name: str
    width: int
    height: int
    job_id: str | int
    role: Role


class _CocoAnnotation(TypedDict):
    """An object as COCO writes it; the last two keys are ours."""

    id: int
    image_id: int
    category_id: int
    segmentation: RleDict
    area: int
    bbox: list[int]
    iscrowd: int
    score: float
    object_id: str


def write_coco(path: Path, documents: Iterable[ResultLine]) -> dict[str, int]:
    """Write results as a COCO instances file.

    Images get ids in the order of the documents, categories in the order in which the entities come up; both from 1.
    An image's further keys are `job_id` and `role`, an annotation's `score` and `object_id`.

    Args:
        path: a reader sees the old file or the new one.
        documents: results with their `id`, masks as RLE.

    Returns:
        How many images, annotations and categories there are.

    Raises:
        OutputError: the file cannot be written, or a mask is not in RLE.
    """
    if path.exists() and not path.is_file():
        raise OutputError(f"{path}: not a file")
    categories: dict[str, int] = {}
    try:
        with (
            whole_file(path) as whole,
            tempfile.TemporaryFile("w+", encoding="utf-8", dir=path.resolve().parent) as annotations,
        ):
            file = io.TextIOWrapper(whole, encoding="utf-8", write_through=True)
            file.write('{"info": {"description": "genseg"}, "licenses": [],\n"images": [')
            images, objects = _write_images(documents, categories, file, annotations)
            file.write('\n],\n"annotations": [')
            annotations.seek(0)
            shutil.copyfileobj(annotations, file)
            file.write('\n],\n"categories": ')
            named = [{"id": number, "name": name, "supercategory": ""} for name, number in categories.items()]
            file.write(json.dumps(named, ensure_ascii=False) + "}\n")
            file.detach()  # `whole_file` closes what is below it
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}") from None
    return {"images": images, "annotations": objects, "categories": len(categories)}


def _write_images(
    documents: Iterable[ResultLine], categories: dict[str, int], file: IO[str], annotations: IO[str]
) -> tuple[int, int]:
    images = objects = 0
    for document in documents:
        for entity in document["entities"]:
            categories.setdefault(entity, len(categories) + 1)
        for role, image in _images(document):
            images += 1
            entry: _CocoImage = {
                "id": images,
                "file_name": image["path"],
                "width": image["width"],
                "height": image["height"],
                "job_id": document["id"],
                "role": role,
            }
            file.write(("," if images > 1 else "") + "\n" + json.dumps(entry, ensure_ascii=False))
            for item in image["objects"] or ():
                objects += 1
                annotation = _annotation(item, objects, images, categories, document["id"])
                annotations.write(("," if objects > 1 else "") + "\n" + json.dumps(annotation, ensure_ascii=False))
    return images, objects


def _images(document: ResultDict) -> Iterator[tuple[Role, ImageDict]]:
    yield from (("contextual", image) for image in document["contextual_images"])
    if document["generated_image"] is not None:
        yield "generated", document["generated_image"]


def _annotation(
    item: ObjectDict, number: int, image: int, categories: dict[str, int], job_id: str | int
) -> _CocoAnnotation:
    rle: RleDict | None = item.get("mask_rle")
    if rle is None:
        raise OutputError(f"row {job_id!r}: a COCO file needs masks as RLE, this row asked for another mask_format")
    x1, y1, x2, y2 = item["bbox"]
    return {
        "id": number,
        "image_id": image,
        "category_id": categories.setdefault(item["label"], len(categories) + 1),
        "segmentation": rle,
        "area": area(rle),
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "iscrowd": 0,
        "score": item["score"],
        "object_id": item["object_id"],
    }
