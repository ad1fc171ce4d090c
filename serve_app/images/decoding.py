"""Decodes the bytes of an image file to an RGB array, within limits, as a viewer shows the picture.

The models and the overlays both get their pixels from `decode`, so boxes fit the picture that the user sees. EXIF
orientation is applied, transparency is put on white, and an animation is reduced to its first frame. Embedded colour
profiles are not applied. The module opens no files, keeps no state and changes no global settings of Pillow, so any
thread may call it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFile

from serve_app.config.schema import LimitsConfig
from serve_app.errors import GensegError, InvalidImage, TooLarge
from serve_app.images.base64 import check_bytes
from serve_app.images.files import FORMATS, ImageFormat, refuse_slow_decoder, webp_orientation
from serve_app.images.modes import RgbArray, rgb_converter
from serve_app.images.plugins import Gif
from serve_app.images.structure import containers, jpeg

_BAND_PIXELS = 1 << 20
"""Number of pixels that are converted at once. It limits the memory of a conversion."""
_READ_FORMATS = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC and binary PPM"


_NOT_READ = re.compile(r"unsupported|not (yet )?supported|unknown|cannot handle", re.IGNORECASE)
"""Words in errors of Pillow and its codecs for whole files that they do not support. Other errors mean damage."""


@dataclass(frozen=True)
class ImageHeader:
    """Size and format from a file's header.

    Attributes:
        width: pixels from left to right, as displayed.
        height: pixels from top to bottom, as displayed.
        format: JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF, HEIF or PPM.
    """

    width: int
    height: int
    format: str


def content_key(data: bytes) -> str:
    """Return a digest of some bytes, as a key for caches.

    Args:
        data: any bytes; may be empty.

    Returns:
        32 hexadecimal digits (BLAKE2b, 128 bits): the same for the same bytes, another for other bytes.
    """
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def read_header(data: bytes, limits: LimitsConfig) -> ImageHeader:
    """Check an image file's header and read its size, without decoding pixels.

    Memory: two copies of the file (four of a HEIC). Work: at most about 70,000 steps of the format's check in
    `images.structure`. Measured for 32 MiB: 0.2 s and 63 MB for a JPEG that consists of its EXIF block, 0.2 s and 23 MB
    for a TIFF of 65,000 strips, under 0.2 s for other files.

    Args:
        data: the whole file.
        limits: the largest allowed file, in bytes, megapixels and pixels per side.

    Returns:
        The size as displayed, and the format.

    Raises:
        TooLarge: the file has more bytes or pixels than allowed.
        InvalidImage: the file is empty, is not an image of a supported format, or has a broken header.
    """
    kind = _identify(data, limits)
    if kind.name == "WEBP":  # opening it allocates the canvas: 15 ms for 8 megapixels
        (width, height), orientation = containers.webp_size(data), webp_orientation(data)
    else:
        picture, orientation = _open(data, kind, limits)
        width, height = picture.size
    if orientation >= 5:
        width, height = height, width
    return ImageHeader(width, height, kind.name)


def decode(data: bytes, limits: LimitsConfig) -> RgbArray:
    """Decode an image file to the picture that a viewer shows.

    How samples become 8 bits:

        samples                                        | range that becomes 0 to 255
        -----------------------------------------------+------------------------------------
        unsigned, up to 16 bits                        | 0 to the largest number of that depth
        floats, if all are in [0, 1]                   | 0 to 1
        signed, deeper than 16 bits, and other floats  | the smallest to the largest value

    Pixels that the first frame of a GIF or an animated WebP does not cover are white.

    Memory: the file and one copy of it, Pillow's picture (4 bytes per pixel), the result (3), and what the codec
    needs. The time is proportional to the number of pixels; in a JPEG, also to the number of scans. Peak memory and
    time at the limit of 50 megapixels, measured for the most expensive file that was found in each format:

        JPEG, baseline      360 MB  0.6 s      PNG, RGB            360 MB  0.8 s
        JPEG, 40 scans      500 MB  2.1 s      PNG, 16-bit RGBA    375 MB  1.5 s
        TIFF, 16-bit RGBA   590 MB  1.5 s      BMP, run-length     210 MB  0.8 s
        TIFF, 65,000 strips 210 MB  1.8 s      AVIF                530 MB  1.0 s
        WebP                800 MB  1.8 s      PPM, 16-bit (33 MB) 170 MB  0.4 s
        TIFF, 3 floats      860 MB  2.8 s      PNG, 16-bit, key    410 MB  1.9 s
        HEIC (30 MB)        440 MB  3.9 s, as processor time of several threads

    Pillow holds the GIL while it copies the canvas of a WebP: for 0.1 s, or 0.7 s on a busy machine.

    Args:
        data: the whole file.
        limits: the largest allowed file, in bytes, megapixels and pixels per side.

    Returns:
        (height, width, 3) uint8 RGB, C-contiguous and writable, at least 1 x 1.

    Raises:
        TooLarge: the file has more bytes or pixels than allowed, or needs too much memory.
        InvalidImage: the file cannot be decoded for any other reason.
    """
    kind = _identify(data, limits)
    picture, orientation = _open(data, kind, limits)
    if kind.name == "JPEG":
        jpeg.check_jpeg_scans(data)
    with _pillow_errors(kind.name):
        picture.load()
        return _assemble(picture, orientation)


def _identify(data: bytes, limits: LimitsConfig) -> ImageFormat:
    """Find the format by its signature, and run all checks that do not need Pillow."""
    if not data:
        raise InvalidImage("empty")
    check_bytes(len(data), limits.max_image_bytes)
    kind = next((each for each in FORMATS if each.accepts(data[:64])), None)
    if kind is None:
        raise InvalidImage(f"not an image of a supported format ({_READ_FORMATS})")
    size = kind.check(data)
    if isinstance(size, tuple):
        _check_pixels(size, limits)
    return kind


def _open(data: bytes, kind: ImageFormat, limits: LimitsConfig) -> tuple[ImageFile.ImageFile, int]:
    """Open the picture without decoding its pixels, and read its orientation."""
    with _pillow_errors(kind.name):
        picture = kind.open(data)
        refuse_slow_decoder(picture)
        orientation = kind.orientation(data, picture)
    _check_pixels(picture.size, limits)
    return picture, orientation


def _check_pixels(size: tuple[int, int], limits: LimitsConfig) -> None:
    width, height = size
    if width * height > limits.max_megapixels * 1e6:
        raise TooLarge(f"{width} x {height} pixels are over the limit of {limits.max_megapixels:g} megapixels")
    if max(size) > limits.max_side:
        raise TooLarge(f"{width} x {height} pixels are over the limit of {limits.max_side} pixels per side")


@contextmanager
def _pillow_errors(name: str) -> Iterator[None]:
    """Turn any exception of Pillow and its codecs into an error about the file.

    On broken data they raise nearly every built-in exception.
    """
    try:
        yield
    except GensegError:
        raise
    except Image.DecompressionBombError:
        raise TooLarge(f"the {name} file has more pixels than can be decoded") from None
    except MemoryError:
        raise TooLarge(f"the {name} file needs more memory than there is") from None
    except Exception as error:
        if _NOT_READ.search(str(error)):
            raise InvalidImage(f"a {name} file of a variant that is not read") from None
        truncated = isinstance(error, EOFError) or "truncated" in str(error).lower()
        raise InvalidImage("truncated" if truncated else f"a broken {name} file") from None


def _assemble(picture: ImageFile.ImageFile, orientation: int) -> RgbArray:
    """Convert the picture in bands of lines, and write each band to its place in the oriented result."""
    width, height = picture.size
    turned = orientation >= 5
    pixels = np.empty((width, height, 3) if turned else (height, width, 3), np.uint8)
    stored = _as_stored(pixels, orientation)
    rows = max(1, _BAND_PIXELS // width)
    boxes = [(0, top, width, min(top + rows, height)) for top in range(0, height, rows)]
    to_rgb = rgb_converter(picture, boxes)
    for box in boxes:
        # A crop is a copy, which a picture with only one band does not need.
        stored[box[1] : box[3]] = to_rgb(picture.crop(box) if len(boxes) > 1 else picture)
    if isinstance(picture, Gif):
        left, top, right, bottom = picture.covered
        stored[:top] = stored[bottom:] = 255
        stored[:, :left] = stored[:, right:] = 255
    return pixels


def _as_stored(pixels: RgbArray, orientation: int) -> RgbArray:
    """Return a view of the displayed picture in the order in which the file stores it.

    Source: Exif 2.32, Orientation (tag 0x0112).
    """
    views: dict[int, RgbArray] = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.swapaxes(0, 1),
        6: np.rot90(pixels, 1),
        7: pixels[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(pixels, -1),
    }
    return views[orientation]
