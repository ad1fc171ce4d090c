"""Reads the image files for an export, and draws small copies with the objects that were found."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from PIL import Image

from serve_app.batch.exports.jobs import Job, Picture
from serve_app.batch.source_names import scheme_of
from serve_app.batch.sources import SourceReader
from serve_app.config.schema import LimitsConfig
from serve_app.errors import FetchFailed, InvalidImage
from serve_app.images import decoding, overlay
from serve_app.images.marks import marks_of
from serve_app.images.palette import entity_colours
from serve_app.schemas.file_uri import local_path

_SIDE = 640
_QUALITY = 82


class FilePictures:
    """Reads pictures as `genseg batch` does. If `folder` has no file of a relative path, the current folder is tried.

    Args:
        folder: where relative paths start.
        limits: the limits on image files.
    """

    def __init__(self, folder: Path, limits: LimitsConfig) -> None:
        self._folder = folder
        self._limits = limits
        self._reader = SourceReader(folder, limits.max_image_bytes)
        self._here = SourceReader(Path.cwd(), limits.max_image_bytes)

    def original(self, picture: Picture) -> bytes:
        """Read a picture's file.

        Raises:
            GensegError: the file cannot be read, or its size in pixels is not the one in the result.
        """
        data = self._read(picture)
        header = decoding.read_header(data, self._limits)
        _check_size(picture, (header.width, header.height))
        return data

    def drawn(self, job: Job, picture: Picture) -> bytes:
        """Return a picture with its objects' outlines, as a JPEG of at most 640 pixels a side.

        Raises:
            GensegError: for the reasons of `original`, or a mask cannot be read.
        """
        pixels = decoding.decode(self._read(picture), self._limits)
        _check_size(picture, (pixels.shape[1], pixels.shape[0]))
        verdict = job.document.get("verdict")
        marks = None if verdict is None else replace(marks_of(verdict, picture.role, picture.index), lines=())
        colours = entity_colours(job.document["entities"])
        try:
            canvas = overlay.draw_objects(pixels, picture.image["objects"], colours, "outline", marks)
        except ValueError as error:
            raise InvalidImage(f"a mask cannot be read: {error}") from None
        canvas.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        canvas.save(buffer, format="JPEG", quality=_QUALITY)
        return buffer.getvalue()

    def close(self) -> None:
        """Close the connections."""
        self._reader.close()
        self._here.close()

    def _read(self, picture: Picture) -> bytes:
        source = picture.source
        if source is None:
            raise FetchFailed(f"{picture.name} is not a local path, and without the manifest its file is not known")
        if scheme_of(source) in {None, "file"}:
            path = self._folder / local_path(source)
            is_here = scheme_of(source) is None and not _exists(path) and _exists(Path(source))
            path = Path(source) if is_here else path
            if _exists(path) and not path.is_file():
                raise FetchFailed(f"{picture.name} is not a file")  # a pipe or a device might never end
            if is_here:
                return self._here.read(source)
        return self._reader.read(source)


def _exists(path: Path) -> bool:
    """Return whether a path exists. False for a name that is too long, for which pathlib raises an error."""
    try:
        return path.exists()
    except OSError:
        return False


def _check_size(picture: Picture, size_wh: tuple[int, int]) -> None:
    image = picture.image
    if size_wh != (image["width"], image["height"]):
        width, height = size_wh
        raise InvalidImage(
            f"the file has {width} x {height} pixels, but the result is of {image['width']} x {image['height']} pixels"
        )
