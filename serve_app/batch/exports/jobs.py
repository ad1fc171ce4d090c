"""A result together with where the files of its pictures are. Pure, but for links, which identities follow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pydantic import JsonValue

from serve_app.batch.output import OutputError
from serve_app.batch.row import Row
from serve_app.batch.source_names import WEB, identity_of, scheme_of, shown
from serve_app.masks.formats import read_mask
from serve_app.masks.rle import check_rle
from serve_app.schemas.dicts import ImageDict, ObjectDict, ResultDict, RleDict
from serve_app.schemas.events import Role

JobId = str | int


@dataclass(frozen=True)
class Picture:
    """One picture of a job.

    Attributes:
        role: in the job.
        index: within the role, from 0.
        image: what the result says of it.
        name: as results show it.
        source: path or URI of its file; None where it is not known.
        identity: equal for pictures that are the same file.
    """

    role: Role
    index: int
    image: ImageDict
    name: str
    source: str | None
    identity: str

    @property
    def place(self) -> str:
        """Name its place in the document, as messages do."""
        return "generated_image" if self.role == "generated" else f"contextual_images[{self.index}]"


@dataclass(frozen=True)
class Job:
    """A result.

    Attributes:
        id: of the row; of a document without one, the id of its request.
        document: the result.
        pictures: contextual ones first.
        columns: the row's other columns.
    """

    id: JobId
    document: ResultDict
    pictures: tuple[Picture, ...]
    columns: Mapping[str, JsonValue] = field(default_factory=dict)


class Pictures(Protocol):
    """Reads the files of pictures; both raise GensegError, whose message says why there is no picture."""

    def original(self, picture: Picture) -> bytes:
        """Read a picture's file; it has the size that the result says."""

    def drawn(self, job: Job, picture: Picture) -> bytes:
        """Draw a picture's objects over it: a small JPEG."""


def job_of_row(row: Row, document: ResultDict, folder: Path) -> Job:
    """Take a result whose row is known.

    Args:
        row: names the files.
        document: the row's result.
        folder: what relative paths of the row start from.
    """
    sources = {("contextual", index): source for index, source in enumerate(row.contextual)}
    if row.generated is not None:
        sources["generated", 0] = row.generated
    pictures = tuple(
        Picture(role, index, image, shown(source), source, identity_of(source, folder))
        for role, index, image in _images(document)
        for source in [sources[role, index]]
    )
    return Job(row.id, document, pictures, row.columns)


def job_of_result(
    job_id: JobId, document: ResultDict, folder: Path, columns: Mapping[str, JsonValue], *, paths_are_files: bool
) -> Job:
    """Take a result whose row is not known: its `path`s are all that is left of the sources.

    A web address has lost its query, and a caller of the service may send several pictures under one name. Such
    pictures count as different ones. Only local files are looked for: the document may come from anybody.

    Args:
        job_id: its id.
        document: the result.
        folder: what relative paths start from.
        columns: the row's other columns.
        paths_are_files: equal paths name the same file, in this document and others.
    """
    pictures = []
    for role, index, image in _images(document):
        path = image["path"]
        scheme = scheme_of(path)
        alone = scheme in WEB or not paths_are_files
        identity = f"{job_id!r} {role} {index}" if alone else identity_of(path, folder)
        pictures.append(Picture(role, index, image, path, path if scheme in {None, "file"} else None, identity))
    return Job(job_id, document, tuple(pictures), columns)


def mask_of(job: Job, picture: Picture, item: ObjectDict) -> RleDict:
    """Read the mask of an object, whatever format it is in.

    Raises:
        OutputError: it has none, or the mask is malformed or of another size.
    """
    size_hw = picture.image["height"], picture.image["width"]
    where = f"job {job.id!r}, {picture.place}, {item['object_id']}"
    try:
        rle = read_mask(item, size_hw)
        if rle is not None:
            return check_rle(rle, size_hw)
    except ValueError as error:
        raise OutputError(f"{where}: its mask cannot be read: {error}") from None
    raise OutputError(f"{where}: has no mask (mask_format none), and this format needs one")


def _images(document: ResultDict) -> Iterator[tuple[Role, int, ImageDict]]:
    for index, image in enumerate(document["contextual_images"]):
        yield "contextual", index, image
    if document["generated_image"] is not None:
        yield "generated", 0, document["generated_image"]
