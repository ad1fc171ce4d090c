"""Results as one COCO instances file, written while they are read: memory holds one entry a picture, and no masks.

Source: the format as pycocotools.COCO reads it, https://cocodataset.org/#format-data; `neg_category_ids` as LVIS has
it, https://www.lvisdataset.org/dataset
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

_SURROGATES = "backslashreplace"
"""Ids may hold half of a surrogate pair: as an escape of JSON, which the shards have, too."""


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
    segmentation: RleDict | list[list[int]]
    area: int
    bbox: list[int]
    iscrowd: int
    score: float
    object_id: str
    job_id: JobId


@dataclass(frozen=True)
class _Segmentation:
    """A mask as COCO writes it, with its pixels; `holes` were filled."""

    value: RleDict | list[list[int]]
    pixels: int
    holes: int = 0


def _as_rle(rle: RleDict) -> _Segmentation:
    return _Segmentation(rle, area(rle))


def _as_polygons(rle: RleDict) -> _Segmentation | None:
    """Write the outer rings of a mask; None for an empty one, which polygons cannot express."""
    filled = fill_holes(rle)
    if not filled.rings:
        return None
    return _Segmentation([ring.ravel().tolist() for ring in filled.rings], area(filled.mask), filled.holes)


def write_coco(path: Path, jobs: Iterable[Job]) -> dict[str, int]:
    """Write results as a COCO instances file with masks as RLE.

    Images get ids in the order in which the jobs name them, categories in the order in which the entities come up;
    both from 1; see `catalogue`. An image's further keys are `job_id` and `role` of the first job that names it, and
    `neg_category_ids`: what was looked for in it and not found. An annotation's are `score`, `object_id` and the
    `job_id` of its job. The area of an object with an empty mask is its box's.

    Args:
        path: a reader sees the old file or the new one.
        jobs: the results.

    Returns:
        How many images, annotations and categories there are.

    Raises:
        OutputError: the file cannot be written, or an object has no mask.
    """
    return _write(path, jobs, _as_rle).counts()


def write_coco_polygons(path: Path, jobs: Iterable[Job]) -> dict[str, int]:
    """Write the same with masks as polygons, which tools for labelling import.

    A polygon runs along the edges of pixels; a mask has one for each of its parts. COCO's polygons have no holes, so
    holes are filled, and `area` is that of the filled mask. Objects with an empty mask are left out.

    Returns:
        The counts of `write_coco`, how many holes were filled, and how many objects were left out.

    Raises:
        OutputError: as `write_coco`.
    """
    content = _write(path, jobs, _as_polygons)
    return {**content.counts(), "holes filled": content.holes, "objects with an empty mask left out": content.empty}


def _write(path: Path, jobs: Iterable[Job], write_mask: Callable[[RleDict], _Segmentation | None]) -> _Content:
    if path.exists() and not path.is_file():
        raise OutputError(f"{path}: not a file")
    try:
        with (
            whole_file(path) as whole,
            tempfile.TemporaryFile(
                "w+", encoding="utf-8", errors=_SURROGATES, dir=path.resolve().parent
            ) as annotations,
        ):
            content = _Content(annotations, write_mask)
            for job in jobs:
                content.add(job)
            file = io.TextIOWrapper(whole, encoding="utf-8", errors=_SURROGATES, write_through=True)
            content.write(file)
            file.detach()  # `whole_file` closes what is below it
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}") from None
    return content


class _Content:
    """What the file will hold.

    Args:
        file: takes the annotations until the images are known.
        write_mask: writes the segmentation of an annotation; None leaves the object out.
    """

    def __init__(self, file: IO[str], write_mask: Callable[[RleDict], _Segmentation | None]) -> None:
        self._file = file
        self._write_mask = write_mask
        self._catalogue = Catalogue()
        self._annotations = 0
        self.holes = self.empty = 0

    def add(self, job: Job) -> None:
        """Take in a result."""
        for sighting in self._catalogue.add(job):
            for item in sighting.objects:
                self._annotate(job, sighting, item)

    def counts(self) -> dict[str, int]:
        """Count what the file holds."""
        return {
            "images": len(self._catalogue.pictures),
            "annotations": self._annotations,
            "categories": len(self._catalogue.categories),
        }

    def write(self, file: IO[str]) -> None:
        """Write all of it."""
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
