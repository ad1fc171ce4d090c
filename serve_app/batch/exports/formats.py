"""The table of formats: what `genseg export --format` may be, and who writes it."""

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
    """What an export may use.

    Attributes:
        pictures: reads and draws the pictures; None to leave them out.
        max_pictures: how many a report shows.
    """

    pictures: Pictures | None
    max_pictures: int


Counts = Mapping[str, int]
"""What was written, in words; counts of 0 need not be told."""


@dataclass(frozen=True)
class ExportFormat:
    """A format.

    Attributes:
        about: what it is, in a few words.
        write: writes it to a path.
        endings: of the file's name; none where any will do.
        is_folder: it is a folder of files.
        uses_pictures: it draws or copies the pictures.
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
            "a row a job, image and entity", lambda path, results, _: write_table(path, results), (".csv", ".parquet")
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
