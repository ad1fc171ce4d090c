"""A request's images as files: from what came with the request to bytes whose header is within the limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from serve_app.config.schema import LimitsConfig
from serve_app.errors import GensegError
from serve_app.images import decoding
from serve_app.images.base64 import decode_base64
from serve_app.images.files import is_jpeg
from serve_app.serving.checked_request import RequestImage

SMALL_BYTES = 256 * 1024
"""JPEGs up to this size are looked at on the event loop: a tenth of a millisecond, less than a thread costs. Headers of
other formats may hold much to inflate."""


@dataclass(frozen=True)
class LoadedImage:
    """An image file as it came.

    Attributes:
        data: the file's bytes.
        header: what the file says of itself; within the limits.
        key: content hash.
    """

    data: bytes
    header: decoding.ImageHeader
    key: str


async def load(image: RequestImage, limits: LimitsConfig, fetch: Callable[[str], Awaitable[bytes]]) -> LoadedImage:
    """Get an image's bytes and look at its header.

    Args:
        image: of the request.
        limits: of its bytes and pixels.
        fetch: URL to bytes.

    Raises:
        GensegError: placed at the image's field.
    """
    source = image.source
    try:
        if isinstance(source.data, str):
            return await asyncio.to_thread(_read_text, source.data, limits)
        data = await fetch(source.url or "") if source.data is None else source.data
        if len(data) <= SMALL_BYTES and is_jpeg(data):
            return _read(data, limits)
        return await asyncio.to_thread(_read, data, limits)
    except GensegError as error:
        raise error.at(image.field) from None


def _read_text(text: str, limits: LimitsConfig) -> LoadedImage:
    return _read(decode_base64(text, limits.max_image_bytes), limits)


def _read(data: bytes, limits: LimitsConfig) -> LoadedImage:
    return LoadedImage(data, decoding.read_header(data, limits), decoding.content_key(data))
