"""A result with the paths of its pictures' files. Reads the file system only to resolve symbolic links.

In exports, a job is one row of a manifest with its result. The work on all rows is called a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pydantic import JsonValue

from serve_app.batch.output import OutputError
from serve_app.batch.row import Row
from serve_app.batch.source_names import WEB, file_key_of, scheme_of, shown
from serve_app.masks.formats import read_mask
from serve_app.masks.rle import check_rle
from serve_app.schemas.dicts import ImageDict, ObjectDict, ResultDict, RleDict
from serve_app.schemas.events import Role

JobId = str | int


@dataclass(frozen=True)
class Picture:
    """One picture of a job.

    Attributes:
        role: the picture's role in the job.
        index: its index among the pictures of that role, counted from 0.
        image: its part of the result document.
        name: the path or URI as results show it, without secrets.
        source: path or URI of its file; None if that is not known.
        file_key: a text that is equal for two pictures if they are the same file.
    """

    role: Role
    index: int
    image: ImageDict
    name: str
    source: str | None
    file_key: str

    @property
    def field_name(self) -> str:
        """The field of the document that describes the picture, for messages."""
        return "generated_image" if self.role == "generated" else f"contextual_images[{self.index}]"


@dataclass(frozen=True)
class Job:
    """A result with its pictures.

    Attributes:
        id: the row's id; for a document without one, the id of its request.
        document: the result document.
        pictures: all pictures of the document, the contextual ones first.
        columns: the row's extra columns; see `row`.
    """

    id: JobId
    document: ResultDict
    pictures: tuple[Picture, ...]
    columns: Mapping[str, JsonValue] = field(default_factory=dict)


class Pictures(Protocol):
    """Reads the files of pictures. If a picture cannot be read, both methods raise a GensegError that says why."""

    def original(self, picture: Picture) -> bytes:
        """Return the bytes of a picture's file. Raises if its width and height differ from the result's."""

    def drawn(self, job: Job, picture: Picture) -> bytes:
        """Return a small JPEG of the picture with its objects drawn."""


def job_of_row(row: Row, document: ResultDict, folder: Path) -> Job:
    """Build a job from a result and its row.

    Args:
        row: the row of the manifest, which names the files.
        document: the row's result.
        folder: the folder from which the row's relative paths start.
    """
    sources = {("contextual", index): source for index, source in enumerate(row.contextual)}
    if row.generated is not None:
        sources["generated", 0] = row.generated
    pictures = tuple(
        Picture(role, index, image, shown(source), source, file_key_of(source, folder))
        for role, index, image in _images(document)
        for source in [sources[role, index]]
    )
    return Job(row.id, document, pictures, row.columns)


def job_of_result(
    job_id: JobId, document: ResultDict, folder: Path, columns: Mapping[str, JsonValue], *, same_path_same_file: bool
) -> Job:
    """Build a job from a result without its row. The files are known only from the `path` of each image.

    Two pictures with the same path count as different pictures if the path does not identify a file. It does not if the
    query of a web address was removed, or if a caller of the service sent several pictures with one name. Only local
    files get a `source`, because an untrusted person may have written the document, who must not choose the addresses
    that are fetched.

    Args:
        job_id: the id of the job.
        document: the result.
        folder: the folder from which relative paths start.
        columns: the row's extra columns; see `row`.
        same_path_same_file: whether two equal paths mean the same file, also in different documents.
    """
    pictures = []
    for role, index, image in _images(document):
        path = image["path"]
        scheme = scheme_of(path)
        alone = scheme in WEB or not same_path_same_file or not _is_path(path)
        file_key = f"{job_id!r} {role} {index}" if alone else file_key_of(path, folder)
        pictures.append(
            Picture(role, index, image, path, path if scheme in {None, "file"} and _is_path(path) else None, file_key)
        )
    return Job(job_id, document, tuple(pictures), columns)


def _is_path(text: str) -> bool:
    """Tell whether a text can name a file: it is not empty, and has no NUL and no half of a surrogate pair."""
    try:
        return "\0" not in text and bool(text.encode())
    except UnicodeEncodeError:
        return False


def mask_of(job: Job, picture: Picture, item: ObjectDict) -> RleDict:
    """Return the mask of an object as COCO RLE, whichever mask format the document has.

    Args:
        job: the job, for messages.
        picture: the picture in which the object was found.
        item: the object.

    Raises:
        OutputError: the object has no mask, or the mask is malformed or has another size than the picture.
    """
    size_hw = picture.image["height"], picture.image["width"]
    where = f"job {job.id!r}, {picture.field_name}, {item['object_id']}"
    try:
        rle = read_mask(item, size_hw)
        if rle is not None:
            return check_rle(rle, size_hw)
    except ValueError as error:
        raise OutputError(f"{where}: its mask cannot be read: {error}") from None
    raise OutputError(f"{where}: has no mask (mask_format none), but this export needs masks")


def _images(document: ResultDict) -> Iterator[tuple[Role, int, ImageDict]]:
    for index, image in enumerate(document["contextual_images"]):
        yield "contextual", index, image
    if document["generated_image"] is not None:
        yield "generated", 0, document["generated_image"]
