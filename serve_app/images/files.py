"""The table of image formats that are read: the signature of each, its check, and how it is opened.

The table calls Pillow's plugins directly. `Image.open` would also try formats that run other programs (EPS), and its
check of the number of pixels is a global setting that only warns. For several formats, a plugin parses only the parts
that `images.structure` has selected. Pillow's decoders that are written in Python are not used: they are too slow.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

from PIL import AvifImagePlugin, Image, ImageFile, WebPImagePlugin

from serve_app.errors import InvalidImage
from serve_app.images.bmp import Bmp
from serve_app.images.heif import check_heif, is_heif, open_heif
from serve_app.images.plugins import Gif, Jpeg, Png, Pnm, Webp
from serve_app.images.structure import avif, bmp, containers, jpeg, png, tiff
from serve_app.images.tiff import Tiff, open_tiff

_TIFF_ORIENTATION = 274


@dataclass(frozen=True)
class ImageFormat:
    """A format that is read.

    Attributes:
        name: Pillow's name of the format.
        accepts: tells from the first 64 bytes whether a file has this format.
        check: takes the file, and raises InvalidImage if decoding would take more work or memory than the picture
            needs. Returns the size (width, height) for formats whose decoder may allocate more than the opened picture
            says.
        open: takes a file that passed `check`, and returns Pillow's picture without decoding its pixels.
        orientation: takes the file and its picture, and returns the orientation, 1 to 8, as EXIF defines it.
    """

    name: str
    accepts: Callable[[bytes], bool]
    check: Callable[[bytes], object]
    open: Callable[[bytes], ImageFile.ImageFile]
    orientation: Callable[[bytes, ImageFile.ImageFile], int]


def refuse_slow_decoder(picture: ImageFile.ImageFile) -> None:
    """Refuse a picture that Pillow decodes in Python: that takes seconds per megabyte, and slows all other threads.

    Raises:
        InvalidImage: Pillow has no faster decoder for the picture.
    """
    if any(tile.codec_name in Image.DECODERS for tile in picture.tile):
        raise InvalidImage(f"a {picture.format} file of a variant that is not read")


def is_jpeg(data: bytes) -> bool:
    """Tell by the signature whether a file is a JPEG."""
    return data.startswith(b"\xff\xd8\xff")


def _is_avif(data: bytes) -> bool:
    if not AvifImagePlugin.SUPPORTED or data[4:8] != b"ftyp":
        return False
    return data[8:12] in {b"avif", b"avis"} or (data[8:12] in {b"mif1", b"msf1"} and b"avif" in data[16:64])


def _starts_with(*signatures: bytes) -> Callable[[bytes], bool]:
    return lambda data: data.startswith(signatures)


def _is_webp(data: bytes) -> bool:
    return bool(WebPImagePlugin.SUPPORTED and data.startswith(b"RIFF") and data[8:12] == b"WEBP")


def _tiff_orientation(data: bytes, picture: ImageFile.ImageFile) -> int:
    if not isinstance(picture, Tiff):
        return tiff.exif_orientation(data)
    orientation = picture.tag_v2.get(_TIFF_ORIENTATION, 1)
    return orientation if orientation in range(1, 9) else 1


def webp_orientation(data: bytes) -> int:
    """Read a WebP's orientation, 1 to 8, from its bytes."""
    return tiff.exif_orientation(containers.webp_exif(data))


FORMATS = (
    ImageFormat(
        "JPEG",
        is_jpeg,
        jpeg.check_jpeg_header,
        lambda data: Jpeg(io.BytesIO(data)),
        lambda data, _: tiff.exif_orientation(jpeg.check_jpeg_header(data).exif),
    ),
    ImageFormat(
        "PNG",
        _starts_with(b"\x89PNG\r\n\x1a\n"),
        png.check_png,
        lambda data: Png(io.BytesIO(data)),
        lambda data, _: tiff.exif_orientation(png.png_parts(data).exif),
    ),
    ImageFormat(
        "WEBP",
        _is_webp,
        containers.webp_size,
        lambda data: Webp(io.BytesIO(data)),
        lambda data, _: webp_orientation(data),
    ),
    ImageFormat(
        "GIF",
        _starts_with(b"GIF87a", b"GIF89a"),
        containers.gif_size,
        lambda data: Gif(io.BytesIO(data)),
        lambda *_: 1,
    ),
    ImageFormat("BMP", _starts_with(b"BM"), bmp.check_bmp, lambda data: Bmp(io.BytesIO(data)), lambda *_: 1),
    ImageFormat(
        "TIFF",
        _starts_with(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        tiff.check_tiff,
        open_tiff,
        _tiff_orientation,
    ),
    ImageFormat(
        "AVIF",
        _is_avif,
        avif.avif_size,
        lambda data: AvifImagePlugin.AvifImageFile(io.BytesIO(data)),
        lambda _, picture: tiff.exif_orientation(picture.info.get("exif", b"")),
    ),
    ImageFormat("HEIF", is_heif, check_heif, open_heif, lambda *_: 1),
    ImageFormat(
        "PPM",
        _starts_with(b"P4", b"P5", b"P6", b"Pf", b"PF"),
        containers.check_pnm,
        lambda data: Pnm(io.BytesIO(data)),
        lambda *_: 1,
    ),
)
