"""Results as one COCO instances file, written while they are read: memory holds one entry a picture, and no masks.

A picture that many rows share is one image with the annotations of all of them. Where several rows look for the same
thing in it, the first row's objects count: the others found the same ones again.

Source: the format as pycocotools.COCO reads it, https://cocodataset.org/#format-data; `neg_category_ids` as LVIS has
it, https://www.lvisdataset.org/dataset
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypedDict

from serve_app.batch.output import OutputError
from serve_app.batch.row import Row
from serve_app.batch.shards import ResultLine
from serve_app.batch.source_names import identity_of, shown
from serve_app.batch.whole_file import whole_file
from serve_app.masks.rle import area
from serve_app.schemas.dicts import ImageDict, ObjectDict, RleDict
from serve_app.schemas.events import Role
from serve_app.schemas.phrase_key import phrase_key

JobId = str | int


class _CocoImage(TypedDict):
    """An image as COCO writes it; the last three keys are ours and LVIS's."""

    id: int
    file_name: str
    width: int
    height: int
    job_id: JobId
    role: Role
    neg_category_ids: list[int]


class _CocoAnnotation(TypedDict):
    """An object as COCO writes it; the last three keys are ours."""

    id: int
    image_id: int
    category_id: int
    segmentation: RleDict
    area: int
    bbox: list[int]
    iscrowd: int
    score: float
    object_id: str
    job_id: JobId


@dataclass
class _Picture:
    """One picture: its first row and role, and whether each category that was looked for was found in it."""

    number: int
    file_name: str
    width: int
    height: int
    job_id: JobId
    role: Role
    found: dict[int, bool] = field(default_factory=dict)

    def entry(self) -> _CocoImage:
        return {
            "id": self.number,
            "file_name": self.file_name,
            "width": self.width,
            "height": self.height,
            "job_id": self.job_id,
            "role": self.role,
            "neg_category_ids": sorted(category for category, found in self.found.items() if not found),
        }


def write_coco(path: Path, results: Iterable[tuple[Row, ResultLine]], folder: Path = Path()) -> dict[str, int]:
    """Write results as a COCO instances file.

    Images get ids in the order in which the rows name them, categories in the order in which the entities come up;
    both from 1. Entities that differ in case or composition only are one category, called as the first of them is.
    An image's further keys are `job_id` and `role` of the first row that names it, and `neg_category_ids`: what was
    looked for in it and not found. An annotation's are `score`, `object_id` and the `job_id` of its row. The area of
    an object with an empty mask is its box's.

    Args:
        path: a reader sees the old file or the new one.
        results: rows with their results, masks as RLE.
        folder: what relative paths of the rows start from.

    Returns:
        How many images, annotations and categories there are.

    Raises:
        OutputError: the file cannot be written, or a mask is not in RLE.
    """
    if path.exists() and not path.is_file():
        raise OutputError(f"{path}: not a file")
    try:
        with (
            whole_file(path) as whole,
            tempfile.TemporaryFile("w+", encoding="utf-8", dir=path.resolve().parent) as annotations,
        ):
            content = _Content(folder, annotations)
            for row, document in results:
                content.add(row, document)
            file = io.TextIOWrapper(whole, encoding="utf-8", write_through=True)
            content.write(file)
            file.detach()  # `whole_file` closes what is below it
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}") from None
    return {
        "images": len(content.pictures),
        "annotations": content.annotations,
        "categories": len(content.categories),
    }


class _Content:
    """What the file will hold.

    Args:
        folder: what relative paths of the rows start from.
        file: takes the annotations until the images are known.
    """

    def __init__(self, folder: Path, file: IO[str]) -> None:
        self._folder = folder
        self._file = file
        self._names: set[str] = set()
        self.pictures: dict[tuple[str, int, int], _Picture] = {}
        self.categories: dict[str, tuple[int, str]] = {}
        self.annotations = 0

    def add(self, row: Row, document: ResultLine) -> None:
        """Take in a row's result."""
        for entity in document["entities"]:
            self._category(entity)
        for source, role, image in _images(row, document):
            picture = self._picture(source, image, document["id"], role)
            objects = image["objects"] or ()
            by_label: dict[str, list[ObjectDict]] = {entity: [] for entity in document["entities"]}
            for item in objects:
                by_label.setdefault(item["label"], []).append(item)
            for label, items in by_label.items():
                category = self._category(label)
                if category not in picture.found:
                    picture.found[category] = bool(items)
                    for item in items:
                        self._annotate(item, picture.number, category, document["id"])

    def write(self, file: IO[str]) -> None:
        """Write all of it."""
        file.write('{"info": {"description": "genseg"}, "licenses": [],\n"images": [')
        for picture in self.pictures.values():
            entry = json.dumps(picture.entry(), ensure_ascii=False)
            file.write(("," if picture.number > 1 else "") + "\n" + entry)
        file.write('\n],\n"annotations": [')
        self._file.seek(0)
        shutil.copyfileobj(self._file, file)
        file.write('\n],\n"categories": ')
        named = [{"id": number, "name": name, "supercategory": ""} for number, name in self.categories.values()]
        file.write(json.dumps(named, ensure_ascii=False) + "}\n")

    def _category(self, name: str) -> int:
        return self.categories.setdefault(phrase_key(name), (len(self.categories) + 1, name))[0]

    def _picture(self, source: str, image: ImageDict, job_id: JobId, role: Role) -> _Picture:
        width, height = image["width"], image["height"]
        key = (identity_of(source, self._folder), width, height)
        if key not in self.pictures:
            number = len(self.pictures) + 1
            name = self._file_name(shown(source))
            self.pictures[key] = _Picture(number, name, width, height, job_id, role)
        return self.pictures[key]

    def _file_name(self, path: str) -> str:
        """Name a new picture; "#2", … tells apart those whose paths are the same: addresses with other queries."""
        name, times = path, 1
        while name in self._names:
            times += 1
            name = f"{path}#{times}"
        self._names.add(name)
        return name

    def _annotate(self, item: ObjectDict, image: int, category: int, job_id: JobId) -> None:
        rle: RleDict | None = item.get("mask_rle")
        if rle is None:
            raise OutputError(f"row {job_id!r}: a COCO file needs masks as RLE, this row asked for another mask_format")
        x1, y1, x2, y2 = item["bbox"]
        self.annotations += 1
        annotation: _CocoAnnotation = {
            "id": self.annotations,
            "image_id": image,
            "category_id": category,
            "segmentation": rle,
            "area": area(rle) or (x2 - x1) * (y2 - y1),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "iscrowd": 0,
            "score": item["score"],
            "object_id": item["object_id"],
            "job_id": job_id,
        }
        self._file.write(("," if self.annotations > 1 else "") + "\n" + json.dumps(annotation, ensure_ascii=False))


def _images(row: Row, document: ResultLine) -> Iterator[tuple[str, Role, ImageDict]]:
    for source, image in zip(row.contextual, document["contextual_images"], strict=True):
        yield source, "contextual", image
    generated = document["generated_image"]
    if row.generated is not None and generated is not None:
        yield row.generated, "generated", generated
