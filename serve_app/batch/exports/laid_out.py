"""Stores results so that each can be read by its number.

The documents are in a temporary file. Their positions in it and their summaries are in memory.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypedDict, cast

from serve_app.batch.exports.jobs import Job, JobId, Picture, mask_of
from serve_app.batch.exports.reading import Results
from serve_app.batch.output import OutputError
from serve_app.batch.verdict_means import group_of
from serve_app.masks.formats import ENCODINGS
from serve_app.schemas.dicts import ErrorDict, ImageDict, ObjectDict, VerdictScoresDict
from serve_app.schemas.events import Role

Status = Literal["arrived", "not_arrived", "unknown", "none", "failed"]
"""What the verdict says of a row. `unknown`: the verdict does not know. `none`: the row has no verdict. `failed`: the
row has no result."""


class RowSummary(TypedDict):
    """What the list of results shows of one result or failed row.

    `place` is its index in the list, from 0. `error` is null unless `status` is `failed`.
    """

    place: int
    id: JobId
    group: str
    status: Status
    scores: Mapping[str, float | None]
    error: ErrorDict | None


_STATUS: Mapping[bool | None, Status] = {True: "arrived", False: "not_arrived", None: "unknown"}


@dataclass(frozen=True)
class _Stored:
    """Where a document is in the file (offset and length in bytes), and its pictures without their objects."""

    offset: int
    length: int
    pictures: Mapping[tuple[Role, int], Picture]


class LaidOutResults:
    """The results of a batch, stored so that each can be read by its number.

    Args:
        results: the results; the constructor reads them all.

    Attributes:
        rows: a summary of each result in the order of `results.jobs`, then of each failed row.
    """

    def __init__(self, results: Results) -> None:
        self.rows: list[RowSummary] = []
        self._stored: list[_Stored] = []
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._lock = threading.Lock()  # between `seek` and `read`, no other thread may move the file's position
        for job in results.jobs():
            self._add(job)
        for failure in results.failures():
            error: ErrorDict = {"code": failure["code"], "message": failure["message"], "field": failure["field"]}
            self._append_row(failure["id"], group_of(failure.get("columns", {})), "failed", {}, error)

    def close(self) -> None:
        """Remove the file; no document can be read any more."""
        self._file.close()

    def document(self, place: int) -> bytes:
        """Return the document of a row as UTF-8 JSON, with masks as RLE.

        Args:
            place: `place` of the row's summary.

        Raises:
            OutputError: there is no such row, or it has no result.
        """
        stored = self._stored_at(place)
        with self._lock:
            self._file.seek(stored.offset)
            return self._file.read(stored.length)

    def picture(self, place: int, role: Role, index: int) -> Picture:
        """Return a picture of a row. Its objects are left out: `image["objects"]` is None.

        Args:
            place: `place` of the row's summary.
            role: the picture's role in the job.
            index: its index among the pictures of that role, counted from 0.

        Raises:
            OutputError: there is no such row or picture.
        """
        found = self._stored_at(place).pictures.get((role, index))
        if found is None:
            raise OutputError(f"the row has no {role} image with the index {index}")
        return found

    def _stored_at(self, place: int) -> _Stored:
        if not 0 <= place < len(self._stored):
            raise OutputError(f"there is no result with the index {place}")
        return self._stored[place]

    def _add(self, job: Job) -> None:
        document = job.document.copy()
        document["contextual_images"] = []
        # A document of an older service may have no `verdict` and lack some keys of `meta`.
        document["verdict"] = document.get("verdict")
        document["meta"] = {"thresholds": {}, "unused_thresholds": [], "dropped": [], **document["meta"]}
        pictures: dict[tuple[Role, int], Picture] = {}
        for picture in job.pictures:
            image = _with_rle(job, picture)
            empty = image.copy()
            empty["objects"] = None
            if picture.role == "generated":
                document["generated_image"] = image
            else:
                document["contextual_images"].append(image)
            pictures[picture.role, picture.index] = replace(picture, image=empty)
        raw = json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace")
        self._stored.append(_Stored(self._file.seek(0, 2), len(raw), pictures))
        self._file.write(raw)
        verdict = job.document.get("verdict")
        status: Status = "none" if verdict is None else _STATUS[verdict["arrived"]]
        scores = {} if verdict is None else _scores(verdict["scores"])
        self._append_row(job.id, group_of(job.columns), status, scores, None)

    def _append_row(
        self,
        job_id: JobId,
        group: str,
        status: Status,
        scores: Mapping[str, float | None],
        error: ErrorDict | None,
    ) -> None:
        row: RowSummary = {
            "place": len(self.rows),
            "id": job_id,
            "group": group,
            "status": status,
            "scores": scores,
            "error": error,
        }
        self.rows.append(row)


def _scores(scores: VerdictScoresDict) -> Mapping[str, float | None]:
    return {"entities": scores["entities"], "identity": scores["identity"], "collapsed": scores["collapsed"]}


def _with_rle(job: Job, picture: Picture) -> ImageDict:
    """Return the image with masks as RLE and without its overlay."""
    image = picture.image.copy()
    image.pop("overlay", None)
    if image["objects"] is not None:
        image["objects"] = [_object_with_rle(job, picture, item) for item in image["objects"]]
    return image


def _object_with_rle(job: Job, picture: Picture, item: ObjectDict) -> ObjectDict:
    keys = {encoding.key for encoding in ENCODINGS.values()}
    kept = cast(ObjectDict, {key: value for key, value in item.items() if key not in keys})
    if item.keys() & keys:
        kept["mask_rle"] = mask_of(job, picture, item)
    return kept
