"""The table of formats: the values of `genseg export --format`, and the functions that write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from serve_app.batch.exports.coco import write_coco, write_coco_polygons
from serve_app.batch.exports.jobs import Pictures
from serve_app.batch.exports.reading import Results
from serve_app.batch.exports.report import write_report
from serve_app.batch.exports.table import write_table
from serve_app.batch.exports.yolo import write_yolo


@dataclass(frozen=True)
class Means:
    """The options of an export.

    Attributes:
        pictures: reads and draws the pictures; None leaves them out.
        max_pictures: largest number of pictures in a report.
    """

    pictures: Pictures | None
    max_pictures: int


Counts = Mapping[str, int]
"""The number of things of each kind that were written, by the kind's name, such as "images"."""


@dataclass(frozen=True)
class ExportFormat:
    """A format of an export.

    Attributes:
        about: description in a few words, for the help.
        write: writes results to a path and returns the counts.
        endings: allowed endings of the file's name; empty if any is allowed.
        is_folder: whether the path is a folder of files.
        uses_pictures: whether the format draws or copies the pictures.
    """

    about: str
    write: Callable[[Path, Results, Means], Counts]
    endings: tuple[str, ...] = ()
    is_folder: bool = False
    uses_pictures: bool = False


def _report(path: Path, results: Results, means: Means) -> Counts:
    return write_report(path, results, means.pictures, means.max_pictures)


FORMATS: Mapping[str, ExportFormat] = MappingProxyType(
    {
        "table": ExportFormat(
            "one row for each manifest row, image and entity", lambda path, results, _: write_table(path, results),
            (".csv", ".parquet"),
        ),
        "html": ExportFormat("one report with pictures", _report, uses_pictures=True),
        "coco": ExportFormat("COCO instances, masks as RLE", lambda path, results, _: write_coco(path, results.jobs())),
        "coco-polygon": ExportFormat(
            "the same with polygons, holes filled", lambda path, results, _: write_coco_polygons(path, results.jobs())
        ),
        "yolo": ExportFormat(
            "a YOLO segmentation data set", lambda path, results, means: write_yolo(path, results, means.pictures),
            is_folder=True, uses_pictures=True,
        ),
    }
)  # fmt: skip
