"""Writes results as a YOLO segmentation data set: a folder with `data.yaml`, `labels/` and `images/`.

Each file in `images/` has a label file of the same name in `labels/`. A line of a label file has the class and the
corners of one polygon, as fractions of the image's width and height.
Source: Ultralytics, "Instance Segmentation Datasets Overview", https://docs.ultralytics.com/datasets/segment/
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import yaml

from serve_app.batch.exports.catalogue import Catalogue, Entry, Sighting
from serve_app.batch.exports.jobs import Job, Picture, Pictures, mask_of
from serve_app.batch.exports.reading import Results
from serve_app.batch.output import OutputError
from serve_app.errors import GensegError
from serve_app.masks.filled import Ring, fill_holes, one_ring
from serve_app.schemas.dicts import ObjectDict

FIRST_LINE = "# A YOLO segmentation data set, written by genseg export."
_UNSAFE = re.compile(r"[^\w.-]+")
_LONGEST_NAME = 80
_HEADER = f"""{FIRST_LINE}
# `path` is the place of this folder: change it if you move the folder. `train` and `val` name the same pictures: split
# them before you train.
"""


def write_yolo(folder: Path, results: Results, pictures: Pictures | None) -> dict[str, int]:
    """Write the data set. The folder appears when everything is written.

    `catalogue` determines the pictures and classes. Classes are counted from 0, in the order in which their entities
    first occur. A label file has the name of its picture; each run of characters other than letters, digits, `.`, `_`
    and `-` becomes `_`, and equal names get "_2", "_3", … A picture without objects has an empty label file. YOLO has
    one polygon for each object: the parts of a mask are joined by lines of no width, holes are filled, and objects with
    an empty mask are left out.

    Args:
        folder: the folder to write. It may be missing, empty, or an older data set of this command, which is replaced.
        results: the results.
        pictures: reads the files of the pictures, which are copied to `images/`; None leaves them out.

    Returns:
        The number of images, labels and classes, of files copied and not copied, of holes filled, and of objects left
        out.

    Raises:
        OutputError: the folder cannot be written, or an object has no mask.
    """
    target = folder.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as unfinished:
            inside = Path(unfinished) / "data"
            counts = _write(inside, target, results, pictures)
            if target.exists():
                target.rename(Path(unfinished) / "old")
            inside.rename(target)
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror or error}") from None
    return counts


def is_replaceable(folder: Path) -> bool:
    """Tell whether a data set may be written to this path: it is missing, an empty folder, or an older data set."""
    if not folder.exists():
        return True
    if not folder.is_dir():
        return False
    try:
        with (folder / "data.yaml").open(encoding="utf-8", errors="replace") as file:
            return file.readline().rstrip("\n") == FIRST_LINE
    except OSError:
        return next(folder.iterdir(), None) is None


def _write(inside: Path, target: Path, results: Results, pictures: Pictures | None) -> dict[str, int]:
    content = _Content(inside, pictures)
    for job in results.jobs():
        content.add(job)
    names = {number - 1: name for number, name in content.catalogue.categories.values()}
    described = {"path": str(target), "train": "images", "val": "images", "names": names}
    text = yaml.safe_dump(described, allow_unicode=True, sort_keys=False, width=1000)
    (inside / "data.yaml").write_text(_HEADER + text, encoding="utf-8", errors="backslashreplace")
    counted = content.counts
    return {
        "images": len(content.stems),
        "labels": counted["labels"],
        "classes": len(names),
        **({} if pictures is None else {"files copied": counted["copied"], "files not copied": counted["missing"]}),
        "holes filled": counted["holes"],
        "objects with an empty mask left out": counted["empty"],
    }


class _Content:
    def __init__(self, folder: Path, pictures: Pictures | None) -> None:
        self._folder = folder
        self._pictures = pictures
        self.stems: dict[int, str] = {}
        self._taken: dict[str, int] = {}  # taken names; for each stem, the last number added to it
        self.catalogue = Catalogue()
        self.counts: Counter[str] = Counter()
        for name in ("labels", *(() if pictures is None else ("images",))):
            (folder / name).mkdir(parents=True)

    def add(self, job: Job) -> None:
        for sighting in self.catalogue.add(job):
            if sighting.entry.number not in self.stems:
                self._begin(sighting.entry, sighting.picture)
            lines = [line for item in sighting.objects if (line := self._line(job, sighting, item)) is not None]
            with self._label_file(sighting.entry).open("a", encoding="ascii") as file:
                file.writelines(lines)
            self.counts["labels"] += len(lines)

    def _begin(self, entry: Entry, picture: Picture) -> None:
        """Choose the name of a picture's files, create its label file, and copy the picture."""
        name = Path(picture.name.partition("#")[0] if "://" in picture.name else picture.name)
        stem = self.stems[entry.number] = self._free(_UNSAFE.sub("_", name.stem)[:_LONGEST_NAME].strip(".") or "image")
        self._label_file(entry).touch()
        if self._pictures is None:
            return
        try:
            data = self._pictures.original(picture)
        except GensegError:
            self.counts["missing"] += 1
            return
        ending = _UNSAFE.sub("", name.suffix.lower())[:8]
        (self._folder / "images" / f"{stem}{ending}").write_bytes(data)
        self.counts["copied"] += 1

    def _free(self, stem: str) -> str:
        name, times = stem, self._taken.get(stem.casefold(), 1)
        while name.casefold() in self._taken:
            times += 1
            name = f"{stem}_{times}"
        self._taken[stem.casefold()] = times
        self._taken.setdefault(name.casefold(), 1)
        return name

    def _label_file(self, entry: Entry) -> Path:
        return self._folder / "labels" / f"{self.stems[entry.number]}.txt"

    def _line(self, job: Job, sighting: Sighting, item: ObjectDict) -> str | None:
        filled = fill_holes(mask_of(job, sighting.picture, item))
        if not filled.rings:
            self.counts["empty"] += 1
            return None
        self.counts["holes"] += filled.holes
        return f"{sighting.category - 1} {_shares(one_ring(filled.rings), sighting.entry)}\n"


def _shares(ring: Ring, entry: Entry) -> str:
    shares = ring / np.array([entry.width, entry.height])
    return " ".join(f"{value:.7f}".rstrip("0").rstrip(".") for value in shares.ravel().tolist())
