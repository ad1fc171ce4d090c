"""Writes results as one COCO instances file. Memory holds one entry for each picture, and no masks.

Source: COCO, "Data format", https://cocodataset.org/#format-data, as pycocotools.COCO reads it; for `neg_category_ids`:
LVIS, https://www.lvisdataset.org/dataset
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypedDict

from serve_app.batch.exports.catalogue import Catalogue, Entry, Sighting
from serve_app.batch.exports.jobs import Job, JobId, mask_of
from serve_app.batch.output import OutputError
from serve_app.batch.whole_file import whole_file
from serve_app.masks.filled import fill_holes
from serve_app.masks.rle import area
from serve_app.schemas.dicts import ObjectDict, RleDict
from serve_app.schemas.events import Role

HALF_PAIRS = "backslashreplace"
"""Python's error handler for half of a surrogate pair in an id or name; its escape `\\udc80` is also valid JSON."""


class _CocoImage(TypedDict):
    """An image of COCO, with our keys `job_id` and `role`, and LVIS's `neg_category_ids`."""

    id: int
    file_name: str
    width: int
    height: int
    job_id: JobId
    role: Role
    neg_category_ids: list[int]


class _CocoAnnotation(TypedDict):
    """An annotation of COCO, with our keys `score`, `object_id` and `job_id`."""

    id: int
    image_id: int
    category_id: int
    segmentation: RleDict | list[list[int]]
    area: int
    bbox: list[int]
    iscrowd: int
    score: float
    object_id: str
    job_id: JobId


@dataclass(frozen=True)
class _Segmentation:
    """A mask in COCO's form, with its area in pixels and the number of holes that were filled."""

    value: RleDict | list[list[int]]
    pixels: int
    holes: int = 0


def _as_rle(rle: RleDict) -> _Segmentation:
    return _Segmentation(rle, area(rle))


def _as_polygons(rle: RleDict) -> _Segmentation | None:
    """Convert a mask to its outer rings; None for an empty mask, which polygons cannot express."""
    filled = fill_holes(rle)
    if not filled.rings:
        return None
    return _Segmentation([ring.ravel().tolist() for ring in filled.rings], area(filled.mask), filled.holes)


def write_coco(path: Path, jobs: Iterable[Job]) -> dict[str, int]:
    """Write results as a COCO instances file with masks as RLE.

    Ids are counted from 1. Images have them in the order in which jobs name the images, categories in the order in
    which their entities first occur; see `catalogue`. An image also has `job_id` and `role` of the first job that names
    it, and `neg_category_ids`: the categories that were looked for in it and not found. An annotation also has `score`,
    `object_id` and `job_id`. The area of an object with an empty mask is the area of its box.

    Args:
        path: the file to write; see `whole_file`.
        jobs: the results.

    Returns:
        The number of images, annotations and categories.

    Raises:
        OutputError: the file cannot be written, or an object has no mask.
    """
    return _write(path, jobs, _as_rle).counts()


def write_coco_polygons(path: Path, jobs: Iterable[Job]) -> dict[str, int]:
    """Write results as `write_coco` does, but with masks as polygons, for labelling tools that do not import RLE.

    A mask has one polygon for each of its parts, which follows the edges of the pixels. COCO's polygons have no holes,
    so holes are filled, and `area` is that of the filled mask. Objects with an empty mask are left out.

    Args:
        path: the file to write; see `whole_file`.
        jobs: the results.

    Returns:
        The counts of `write_coco`, the number of holes filled, and the number of objects left out.

    Raises:
        OutputError: as in `write_coco`.
    """
    content = _write(path, jobs, _as_polygons)
    return {**content.counts(), "holes filled": content.holes, "objects with an empty mask left out": content.empty}


def _write(path: Path, jobs: Iterable[Job], write_mask: Callable[[RleDict], _Segmentation | None]) -> _Content:
    if path.exists() and not path.is_file():
        raise OutputError(f"{path}: not a file")
    try:
        with (
            whole_file(path) as whole,
            tempfile.TemporaryFile("w+", encoding="utf-8", errors=HALF_PAIRS, dir=path.resolve().parent) as annotations,
        ):
            content = _Content(annotations, write_mask)
            for job in jobs:
                content.add(job)
            file = io.TextIOWrapper(whole, encoding="utf-8", errors=HALF_PAIRS, write_through=True)
            content.write(file)
            file.detach()  # `whole_file` closes the binary file
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}") from None
    return content


class _Content:
    """The content of the file.

    Args:
        file: temporary file for the annotations, which come after the images in the final file.
        write_mask: converts a mask; it returns None to leave the object out.
    """

    def __init__(self, file: IO[str], write_mask: Callable[[RleDict], _Segmentation | None]) -> None:
        self._file = file
        self._write_mask = write_mask
        self._catalogue = Catalogue()
        self._annotations = 0
        self.holes = self.empty = 0

    def add(self, job: Job) -> None:
        """Add a result."""
        for sighting in self._catalogue.add(job):
            for item in sighting.objects:
                self._annotate(job, sighting, item)

    def counts(self) -> dict[str, int]:
        """Return the number of images, annotations and categories."""
        return {
            "images": len(self._catalogue.pictures),
            "annotations": self._annotations,
            "categories": len(self._catalogue.categories),
        }

    def write(self, file: IO[str]) -> None:
        """Write the whole COCO file."""
        file.write('{"info": {"description": "genseg"}, "licenses": [],\n"images": [')
        for picture in self._catalogue.pictures.values():
            file.write(("," if picture.number > 1 else "") + "\n" + json.dumps(_image(picture), ensure_ascii=False))
        file.write('\n],\n"annotations": [')
        self._file.seek(0)
        shutil.copyfileobj(self._file, file)
        file.write('\n],\n"categories": ')
        categories = self._catalogue.categories.values()
        named = [{"id": number, "name": name, "supercategory": ""} for number, name in categories]
        file.write(json.dumps(named, ensure_ascii=False) + "}\n")

    def _annotate(self, job: Job, sighting: Sighting, item: ObjectDict) -> None:
        mask = self._write_mask(mask_of(job, sighting.picture, item))
        if mask is None:
            self.empty += 1
            return
        self.holes += mask.holes
        self._annotations += 1
        x1, y1, x2, y2 = item["bbox"]
        annotation: _CocoAnnotation = {
            "id": self._annotations,
            "image_id": sighting.entry.number,
            "category_id": sighting.category,
            "segmentation": mask.value,
            "area": mask.pixels or (x2 - x1) * (y2 - y1),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "iscrowd": 0,
            "score": item["score"],
            "object_id": item["object_id"],
            "job_id": job.id,
        }
        self._file.write(("," if self._annotations > 1 else "") + "\n" + json.dumps(annotation, ensure_ascii=False))


def _image(entry: Entry) -> _CocoImage:
    return {
        "id": entry.number,
        "file_name": entry.file_name,
        "width": entry.width,
        "height": entry.height,
        "job_id": entry.job_id,
        "role": entry.role,
        "neg_category_ids": sorted(category for category, found in entry.found.items() if not found),
    }
