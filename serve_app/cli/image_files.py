"""Reads the images of a command line, as `genseg batch` does: from paths, web addresses and URIs of stores."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from pydantic import ValidationError

from serve_app.batch.source_names import scheme_of, shown, without_secrets
from serve_app.batch.sources import SourceReader, check_schemes
from serve_app.cli.options import CommandError
from serve_app.config.schema import AppConfig
from serve_app.errors import GensegError
from serve_app.images import decoding
from serve_app.schemas.requests import ImageInput


def read_images(sources: Sequence[str], config: AppConfig) -> list[ImageInput]:
    """Read images and check their headers.

    Args:
        sources: the images, as on the command line.
        config: for the limits on images.

    Returns:
        One image for each source. Its name is the source; user, query and fragment of a web address are left out.

    Raises:
        CommandError: a source cannot be read, is not an image, or is over a limit. The message names the first such
            source.
    """
    try:
        check_schemes(map(scheme_of, sources))
    except GensegError as error:
        raise CommandError(error.message) from None
    with closing(SourceReader(Path(), config.limits.max_image_bytes)) as reader:
        return [_read(source, reader, config) for source in sources]


def _read(source: str, reader: SourceReader, config: AppConfig) -> ImageInput:
    name = shown(source)
    if not source:
        raise CommandError("an image's path is empty", usage=True)
    try:
        data = reader.read(source)
    except GensegError as error:
        raise CommandError(without_secrets(error.message, source)) from None
    except ValueError as error:
        raise CommandError(f"{name!r}: {error}") from None
    try:
        decoding.read_header(data, config.limits)
        return ImageInput(data=data, name=name)
    except GensegError as error:
        raise CommandError(f"{name}: {error.message}") from None
    except ValidationError:
        raise CommandError(f"{name!r}: the name is not UTF-8, or too long") from None
