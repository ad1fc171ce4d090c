"""Image bytes -> RGB array, as people see the picture: limits, orientation, every common format.

The model and the overlays get their pixels from the one `decode` here, so boxes fit the photo as a viewer shows it:
EXIF orientation is applied, transparency lies on white, of an animation the first frame counts. Embedded colour
profiles are not applied. Pure: opens no file, keeps no state, changes none of Pillow's global settings, so any thread
may call it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from serve_app import image_structure as structure
from serve_app.config import LimitsConfig
from serve_app.errors import GensegError, InvalidImage, TooLarge
from serve_app.image_modes import RgbArray, rgb_converter

_BAND_PIXELS = 1 << 20
"""Pixels converted at a time: what a conversion needs besides the decoder's picture and the answer."""
_DATA_URI = re.compile(r"\s*data:([^,]*),", re.IGNORECASE)
_TO_BASE64 = bytes.maketrans(b"-_", b"+/")
_WHITESPACE = b" \t\r\n\v\f"
_READ_FORMATS = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF and binary PPM are read"


@dataclass(frozen=True)
class ImageHeader:
    """What a file says of itself.

    Attributes:
        width: pixels from left to right, as displayed.
        height: pixels from top to bottom, as displayed.
        format: JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF or PPM.
    """

    width: int
    height: int
    format: str


def content_key(data: bytes) -> str:
    """Name some bytes by their content.

    Args:
        data: any bytes, also none.

    Returns:
        32 hexadecimal digits; equal for equal bytes only (BLAKE2b, 128 bits).
    """
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def decode_base64(text: str, max_bytes: int) -> bytes:
    """Decode the text form of an image file.

    Args:
        text: base64, in the standard or the URL-safe alphabet, with or without padding and line breaks; or a `data:`
            URI, base64 or percent-encoded.
        max_bytes: the most bytes that may come out; checked before anything is decoded.

    Returns:
        The file's bytes, at least one.

    Raises:
        TooLarge: more than `max_bytes`.
        InvalidImage: empty, or not base64.
    """
    match = _DATA_URI.match(text[:4096])
    payload = text[match.end() :] if match else text
    if match and not match[1].lower().rstrip().endswith(";base64"):
        return _percent_decoded(payload, max_bytes)
    if match and "%" in payload:
        payload = _percent_decoded(payload, 4 * max_bytes).decode("latin-1")
    blanks = sum(map(payload.count, _WHITESPACE.decode()))
    _check_bytes((len(payload) - blanks - payload.count("=", -4)) * 3 // 4, max_bytes)
    try:
        compact = payload.encode("ascii").translate(_TO_BASE64, _WHITESPACE).rstrip(b"=")
        data = base64.b64decode(compact + b"=" * (-len(compact) % 4), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise InvalidImage("not base64") from None
    if not data:
        raise InvalidImage("empty")
    return data


def _percent_decoded(payload: str, max_bytes: int) -> bytes:
    _check_bytes(len(payload) - 2 * payload.count("%"), max_bytes)
    data = unquote_to_bytes(payload)
    _check_bytes(len(data), max_bytes)
    if not data:
        raise InvalidImage("empty")
    return data


def _check_bytes(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise TooLarge(f"{size} bytes are over the limit of {max_bytes} bytes")


def is_jpeg(data: bytes) -> bool:
    """Tell by the signature."""
    return data.startswith(b"\xff\xd8\xff")


def read_header(data: bytes, limits: LimitsConfig) -> ImageHeader:
    """Check an image file's header and learn its size, without decoding pixels.

    Args:
        data: the whole file.
        limits: bytes and megapixels that are allowed.

    Returns:
        Size as displayed, and format.

    Raises:
        TooLarge: more bytes or pixels than allowed.
        InvalidImage: empty, no image of a format that is read, or a broken header.
    """
    kind = _identify(data, limits)
    if kind.name == "WEBP":  # opening it allocates the canvas: 15 ms for 8 megapixels
        (width, height), orientation = structure.webp_size(data), _webp_orientation(data)
    else:
        file = _open(data, kind, limits)
        (width, height), orientation = file.picture.size, file.orientation
    if orientation >= 5:
        width, height = height, width
    return ImageHeader(width, height, kind.name)


def decode(data: bytes, limits: LimitsConfig) -> RgbArray:
    """Decode an image file to the picture that a viewer shows.

    Greys of 16 bits and 32-bit floats in [0, 1] are scaled to [0, 255]; 32-bit integers and other floats have no range
    of their own and are stretched from their minimum to their maximum.

    Args:
        data: the whole file.
        limits: bytes and megapixels that are allowed.

    Returns:
        (height, width, 3) uint8 RGB, C-contiguous and writable, at least 1 x 1. It and Pillow's own picture (4 bytes a
        pixel) are all that is held; TIFF, WebP and AVIF may need Pillow's picture twice.

    Raises:
        TooLarge: more bytes or pixels than allowed.
        InvalidImage: whatever else is wrong with the file.
    """
    file = _open(data, _identify(data, limits), limits)
    if file.format == "JPEG":
        structure.check_jpeg_scans(data)
    with _pillow_errors(file.format):
        file.picture.load()
        return _assemble(file)


@dataclass(frozen=True)
class _OpenFile:
    format: str
    picture: ImageFile.ImageFile
    orientation: int


class _Jpeg(JpegImagePlugin.JpegImageFile):
    """A JPEG's first picture; its EXIF block is not searched for a resolution (slow, and warns on garbage)."""

    def _read_dpi_from_exif(self) -> None:
        return


class _Tiff(TiffImagePlugin.TiffImageFile):
    """A TIFF's first page, without Pillow's global pixel limit and without the directories of its metadata."""

    def load_prepare(self) -> None:
        if self._im is None:
            self.im = Image.new(self.mode, self._tile_size, None).im
        super().load_prepare()

    def load_end(self) -> None:
        ImageOps.exif_transpose(self, in_place=True)


@dataclass(frozen=True)
class _Format:
    name: str
    accepts: Callable[[bytes], bool]
    check: Callable[[bytes], object]
    open: Callable[[io.BytesIO], ImageFile.ImageFile]


def _is_avif(data: bytes) -> bool:
    if not AvifImagePlugin.SUPPORTED or data[4:8] != b"ftyp":
        return False
    return data[8:12] in {b"avif", b"avis"} or (data[8:12] in {b"mif1", b"msf1"} and b"avif" in data[16:64])


# An explicit list, and plugins called directly: Image.open would try formats that run other programs (EPS), and its
# bomb check is a global setting that warns.
_FORMATS = (
    _Format("JPEG", is_jpeg, structure.check_jpeg_header, _Jpeg),
    _Format(
        "PNG", lambda data: data.startswith(b"\x89PNG\r\n\x1a\n"), structure.check_png, PngImagePlugin.PngImageFile
    ),
    _Format(
        "WEBP",
        lambda data: WebPImagePlugin.SUPPORTED and data.startswith(b"RIFF") and data[8:12] == b"WEBP",
        structure.webp_size,
        WebPImagePlugin.WebPImageFile,
    ),
    _Format(
        "GIF", lambda data: data.startswith((b"GIF87a", b"GIF89a")), structure.gif_size, GifImagePlugin.GifImageFile
    ),
    _Format("BMP", lambda data: data.startswith(b"BM"), structure.check_bmp, BmpImagePlugin.BmpImageFile),
    _Format(
        "TIFF",
        lambda data: data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
        structure.check_tiff,
        _Tiff,
    ),
    _Format("AVIF", _is_avif, len, AvifImagePlugin.AvifImageFile),
    _Format(
        "PPM",
        lambda data: data.startswith((b"P4", b"P5", b"P6", b"Pf", b"PF")),
        structure.check_pnm,
        PpmImagePlugin.PpmImageFile,
    ),
)


def _identify(data: bytes, limits: LimitsConfig) -> _Format:
    """Find the format by its signature, and apply every check that does not need Pillow."""
    if not data:
        raise InvalidImage("empty")
    _check_bytes(len(data), limits.max_image_bytes)
    kind = next((each for each in _FORMATS if each.accepts(data[:64])), None)
    if kind is None:
        raise InvalidImage(f"not an image, or of a format that is not read ({_READ_FORMATS})")
    size = kind.check(data)
    if isinstance(size, tuple):
        _check_pixels(size, limits)
    return kind


def _open(data: bytes, kind: _Format, limits: LimitsConfig) -> _OpenFile:
    with _pillow_errors(kind.name):
        picture = kind.open(io.BytesIO(data))
    _check_pixels(picture.size, limits)
    if kind.name == "TIFF":
        orientation = 1  # Pillow turns TIFFs itself, and gives their size as displayed
    elif kind.name == "WEBP":
        orientation = _webp_orientation(data)
    else:
        orientation = structure.exif_orientation(picture.info.get("exif", b""))
    return _OpenFile(kind.name, picture, orientation)


def _webp_orientation(data: bytes) -> int:
    return structure.exif_orientation(structure.webp_exif(data))


def _check_pixels(size: tuple[int, int], limits: LimitsConfig) -> None:
    width, height = size
    if width * height > limits.max_megapixels * 1e6:
        raise TooLarge(f"{width} x {height} pixels are over the limit of {limits.max_megapixels:g} megapixels")


@contextmanager
def _pillow_errors(name: str) -> Iterator[None]:
    """Pillow and its codecs raise nearly every built-in exception on broken data; all of it is the file's fault."""
    try:
        yield
    except GensegError:
        raise
    except Image.DecompressionBombError:
        raise TooLarge(f"the {name} file has more pixels than can be decoded") from None
    except MemoryError:
        raise TooLarge(f"the {name} file needs more memory than there is") from None
    except Exception as error:
        truncated = isinstance(error, EOFError) or "truncated" in str(error).lower()
        raise InvalidImage("truncated" if truncated else f"a broken {name} file") from None


def _assemble(file: _OpenFile) -> RgbArray:
    """Convert band by band, each written to its place in the turned picture."""
    picture = file.picture
    width, height = picture.size
    turned = file.orientation >= 5
    pixels = np.empty((width, height, 3) if turned else (height, width, 3), np.uint8)
    stored = _as_stored(pixels, file.orientation)
    rows = max(1, _BAND_PIXELS // width)
    boxes = [(0, top, width, min(top + rows, height)) for top in range(0, height, rows)]
    to_rgb = rgb_converter(picture, boxes)
    for box in boxes:
        # A crop is a copy, which a picture of one band does not need.
        stored[box[1] : box[3]] = to_rgb(picture.crop(box) if len(boxes) > 1 else picture)
    return pixels


def _as_stored(pixels: RgbArray, orientation: int) -> RgbArray:
    """View the displayed picture in the order in which the file stores it. Source: EXIF 2.32, tag 0x0112."""
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
