"""The image formats that are read: how each is known, checked and opened. All of Pillow's file plugins are here.

An explicit list, and plugins called directly: `Image.open` would try formats that run other programs (EPS), and its
bomb check is a global setting that warns. A plugin gets what `images.structure` has cut down to the picture's needs;
decoders of Pillow's that are written in Python are not used.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from serve_app.errors import InvalidImage
from serve_app.images.bmp_rle import decode_bmp_rle
from serve_app.images.structure import avif, containers, jpeg, tiff

_TIFF_ORIENTATION = 274
_DECODED_HERE = "decoded here"  # in the place of the name of a decoder of Pillow's


@dataclass(frozen=True)
class ImageFormat:
    """A format that is read.

    Attributes:
        name: Pillow's.
        accepts: tells from the first 64 bytes.
        check: refuses a structure that would take more work or memory than the picture; gives the size where the
            decoder allocates it on opening, or where a part of the file is larger than the picture.
        open: Pillow's picture, without its pixels; takes whatever `check` let through.
        orientation: as EXIF defines it, 1 to 8, from the file's bytes and its open picture.
    """

    name: str
    accepts: Callable[[bytes], bool]
    check: Callable[[bytes], object]
    open: Callable[[bytes], ImageFile.ImageFile]
    orientation: Callable[[bytes, ImageFile.ImageFile], int]


def refuse_slow_decoder(picture: ImageFile.ImageFile) -> None:
    """Refuse a variant that Pillow decodes in Python: seconds a megabyte, in which no other thread gets far.

    Raises:
        InvalidImage: as said.
    """
    if any(tile.codec_name in Image.DECODERS for tile in picture.tile):
        raise InvalidImage(f"a {picture.format} file of a variant that is not read")


def _take_over(picture: ImageFile.ImageFile, decoder: str) -> None:
    picture.tile = [
        tile._replace(codec_name=_DECODED_HERE if tile.codec_name == decoder else tile.codec_name)
        for tile in picture.tile
    ]


class _Jpeg(JpegImagePlugin.JpegImageFile):
    """A JPEG's first picture. Pillow parses its metadata in Python, so it is shown the frame header alone."""

    def _open(self) -> None:
        whole = self.fp
        assert isinstance(whole, io.BytesIO)
        self.fp = io.BytesIO(jpeg.check_jpeg_header(whole.getvalue()).frame)
        super()._open()
        self.fp = whole


class _Bmp(BmpImagePlugin.BmpImageFile):
    """A BMP whose runs are decoded here."""

    def _open(self) -> None:
        super()._open()
        _take_over(self, "bmp_rle")

    def load(self) -> Any:
        if self.tile and self.tile[0].codec_name == _DECODED_HERE:
            tile = self.tile[0]
            assert isinstance(self.fp, io.BytesIO)
            assert isinstance(tile.args, tuple)
            _, four_bits, direction = tile.args
            pixels = decode_bmp_rle(self.fp.getvalue(), tile.offset, self.size, four_bits)
            self.fp = io.BytesIO(pixels)
            raw_mode = "P" if self.mode == "P" else "L"
            self.tile = [tile._replace(codec_name="raw", offset=0, args=(raw_mode, 0, direction))]
        return super().load()


class _Pnm(PpmImagePlugin.PpmImageFile):
    """A binary PNM with a header that we wrote; colours of 16 bits are scaled here."""

    def _open(self) -> None:
        whole = self.fp
        assert isinstance(whole, io.BytesIO)
        header, start = containers.plain_pnm(whole.getvalue())
        self.fp = io.BytesIO(header)
        super()._open()
        self.fp = whole
        self.tile = [tile._replace(offset=start) for tile in self.tile]
        _take_over(self, "ppm")

    def load(self) -> Any:
        if self.tile and self.tile[0].codec_name == _DECODED_HERE:
            assert isinstance(self.fp, io.BytesIO)
            samples = self.size[0] * self.size[1] * len(self.getbands())
            deep = np.frombuffer(self.fp.getbuffer()[self.tile[0].offset :][: 2 * samples], ">u2")
            # 65535 is 257 times 255, so whole numbers round as Pillow's own decoder does.
            scaled = ((deep.astype(np.uint32) + 128) // 257).astype(np.uint8)
            self.fp = io.BytesIO(scaled.tobytes())
            self.tile = [self.tile[0]._replace(codec_name="raw", offset=0, args=(self.mode, 0, 1))]
        return super().load()


class _Tiff(TiffImagePlugin.TiffImageFile):
    """A TIFF's first page as stored, without Pillow's global pixel limit and the directories of its metadata.

    Pillow would turn it, and for that decode and write anew every tag.
    """

    def _setup(self) -> None:
        super()._setup()
        self._size = self._tile_size
        # Strips beyond the picture's end would be decoded over it once more, each as large as the picture.
        layers = len(self.getbands()) if self._planar_configuration == 2 else 1
        left = self.size[0] * self.size[1] * layers
        tiles = []
        for tile in self.tile:
            if left <= 0:
                break
            tiles.append(tile)
            x1, y1, x2, y2 = tile.extents or (0, 0, 0, 0)
            left -= (x2 - x1) * (y2 - y1)
        self.tile = tiles

    def load_prepare(self) -> None:
        if self._im is None:
            self.im = Image.new(self.mode, self._tile_size, None).im
        super().load_prepare()

    def load_end(self) -> None:
        pass


def is_jpeg(data: bytes) -> bool:
    """Tell by the signature."""
    return data.startswith(b"\xff\xd8\xff")


def _is_avif(data: bytes) -> bool:
    if not AvifImagePlugin.SUPPORTED or data[4:8] != b"ftyp":
        return False
    return data[8:12] in {b"avif", b"avis"} or (data[8:12] in {b"mif1", b"msf1"} and b"avif" in data[16:64])


def _starts_with(*signatures: bytes) -> Callable[[bytes], bool]:
    return lambda data: data.startswith(signatures)


def _is_webp(data: bytes) -> bool:
    return bool(WebPImagePlugin.SUPPORTED and data.startswith(b"RIFF") and data[8:12] == b"WEBP")


def _pillows_exif(data: bytes, picture: ImageFile.ImageFile) -> int:
    return tiff.exif_orientation(picture.info.get("exif", b""))


def _tiff_orientation(data: bytes, picture: ImageFile.ImageFile) -> int:
    orientation = getattr(picture, "tag_v2", {}).get(_TIFF_ORIENTATION, 1)
    return orientation if orientation in range(1, 9) else 1


def webp_orientation(data: bytes, picture: ImageFile.ImageFile | None = None) -> int:
    """Read a WebP's orientation; needs no open picture."""
    return tiff.exif_orientation(containers.webp_exif(data))


FORMATS = (
    ImageFormat(
        "JPEG",
        is_jpeg,
        jpeg.check_jpeg_header,
        lambda data: _Jpeg(io.BytesIO(data)),
        lambda data, _: tiff.exif_orientation(jpeg.check_jpeg_header(data).exif),
    ),
    ImageFormat(
        "PNG",
        _starts_with(b"\x89PNG\r\n\x1a\n"),
        containers.check_png,
        lambda data: PngImagePlugin.PngImageFile(io.BytesIO(containers.plain_png(data))),
        _pillows_exif,
    ),
    ImageFormat(
        "WEBP",
        _is_webp,
        containers.webp_size,
        lambda data: WebPImagePlugin.WebPImageFile(io.BytesIO(data)),
        webp_orientation,
    ),
    ImageFormat(
        "GIF",
        _starts_with(b"GIF87a", b"GIF89a"),
        containers.gif_size,
        lambda data: GifImagePlugin.GifImageFile(io.BytesIO(containers.first_gif_frame(data))),
        lambda *_: 1,
    ),
    ImageFormat("BMP", _starts_with(b"BM"), containers.check_bmp, lambda data: _Bmp(io.BytesIO(data)), lambda *_: 1),
    ImageFormat(
        "TIFF",
        _starts_with(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        tiff.check_tiff,
        lambda data: _Tiff(io.BytesIO(data)),
        _tiff_orientation,
    ),
    ImageFormat(
        "AVIF",
        _is_avif,
        avif.avif_size,
        lambda data: AvifImagePlugin.AvifImageFile(io.BytesIO(data)),
        _pillows_exif,
    ),
    ImageFormat(
        "PPM",
        _starts_with(b"P4", b"P5", b"P6", b"Pf", b"PF"),
        containers.check_pnm,
        lambda data: _Pnm(io.BytesIO(data)),
        lambda *_: 1,
    ),
)
