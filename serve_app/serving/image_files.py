"""Load a request's images: decode base64 or fetch the URL, then check the file's header against the limits."""

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
"""The headers of JPEGs up to this size are read on the event loop: that takes 0.1 ms, less than a thread costs. Headers
of other formats may contain compressed data that takes longer."""


@dataclass(frozen=True)
class LoadedImage:
    """An image file, not decoded yet.

    Attributes:
        data: the file's bytes.
        header: format and size from the file's header; within the limits.
        key: content hash of the file.
    """

    data: bytes
    header: decoding.ImageHeader
    key: str


async def load(image: RequestImage, limits: LimitsConfig, fetch: Callable[[str], Awaitable[bytes]]) -> LoadedImage:
    """Load an image's bytes and check its header.

    Args:
        image: one image of the request.
        limits: the limits on its bytes and pixels.
        fetch: downloads the bytes of a URL.

    Raises:
        GensegError: the image cannot be loaded or is over a limit; its `field` is the image's.
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
