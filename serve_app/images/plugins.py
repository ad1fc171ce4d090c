"""Pillow's file plugins for JPEG, PNG, GIF, WebP and PNM, adapted to what `images.structure` has checked.

The plugins of JPEG, PNG, GIF and PNM parse only headers and parts that `images.structure` has selected or rewritten.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, PpmImagePlugin, WebPImagePlugin

from serve_app.images.bmp import DECODED_HERE
from serve_app.images.scales import to_8_bits
from serve_app.images.structure import containers, jpeg
from serve_app.images.structure.png import png_parts

_BAND_PIXELS = 1 << 20
_LOW_BYTES = "RGB;16L"
"""Pillow's raw mode that takes the second byte of each 16-bit sample, which is the lower byte in a PNG."""


class Jpeg(JpegImagePlugin.JpegImageFile):
    """A JPEG's first picture. The plugin sees only the frame header, because it parses metadata slowly, in Python."""

    def _open(self) -> None:
        whole = self.fp
        assert isinstance(whole, io.BytesIO)
        self.fp = io.BytesIO(jpeg.check_jpeg_header(whole.getvalue()).frame)
        super()._open()
        self.fp = whole


class Png(PngImagePlugin.PngImageFile):
    """A PNG's picture. A transparent colour becomes white here, because Pillow compares only 8 bits of 16-bit ones."""

    def _open(self) -> None:
        whole = self.fp
        assert isinstance(whole, io.BytesIO)
        parts = png_parts(whole.getvalue())
        self.fp = io.BytesIO(parts.plain)
        self._plain, self._depth, self._key = parts.plain, parts.depth, parts.colour_key
        super()._open()

    def load(self) -> Any:
        """Decode the pixels, and make those of the colour key white."""
        is_new = bool(self.tile)
        super().load()
        if is_new and self._key is not None:
            self._whiten(self._key)
        return super().load()

    def _whiten(self, key: tuple[int, ...]) -> None:
        """Make the pixels of a colour white, in bands of lines; 16-bit RGB is decoded again for its lower bytes."""
        low: Image.Image | None = None
        if self.mode == "RGB" and self._depth == 16:
            low = PngImagePlugin.PngImageFile(io.BytesIO(self._plain))
            low.tile = [tile._replace(args=_LOW_BYTES) for tile in low.tile]
            wanted, wanted_low = [sample >> 8 for sample in key], [sample & 255 for sample in key]
        else:
            shown = 255 // ((1 << self._depth) - 1) if self._depth < 8 else 1
            wanted, wanted_low = [sample * shown for sample in key], []
        rows = max(1, _BAND_PIXELS // self.width)
        for top in range(0, self.height, rows):
            box = (0, top, self.width, min(top + rows, self.height))
            band = np.array(self.crop(box))
            is_key = _is_colour(band, wanted)
            if low is not None:
                is_key &= _is_colour(np.asarray(low.crop(box)), wanted_low)
            band[is_key] = True if band.dtype == np.bool_ else np.iinfo(band.dtype).max
            self.paste(Image.fromarray(band), box)


def _is_colour(band: np.ndarray[Any, Any], samples: list[int]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Compare each pixel of a band, (H, W) or (H, W, 3), with a colour; return (H, W) bool."""
    is_colour: np.ndarray[Any, np.dtype[np.bool_]]
    if band.dtype == np.bool_:
        is_colour = band == (samples[0] > 0)
    elif band.ndim == 2:
        is_colour = band == samples[0]
    else:
        is_colour = (band[:, :, 0] == samples[0]) & (band[:, :, 1] == samples[1]) & (band[:, :, 2] == samples[2])
    return is_colour


class Gif(GifImagePlugin.GifImageFile):
    """A GIF's first frame on its canvas.

    Attributes:
        covered: the part of the canvas that the frame covers, as (left, top, right, bottom). Viewers show the rest as
            transparent.
    """

    covered: tuple[int, int, int, int]

    def _open(self) -> None:
        whole = self.fp
        assert isinstance(whole, io.BytesIO)
        self.fp = io.BytesIO(containers.first_gif_frame(whole.getvalue()))
        super()._open()
        left, top, right, bottom = self.tile[0].extents or (0, 0, 0, 0)
        self.covered = left, top, right, bottom


class Webp(WebPImagePlugin.WebPImageFile):
    """A WebP. Pixels that an animation's first frame does not cover are transparent, even without an alpha flag."""

    def _open(self) -> None:
        whole = self.fp
        assert isinstance(whole, io.BytesIO)
        super()._open()
        if containers.is_animated_webp(whole.getvalue()):
            self._mode = self.rawmode = "RGBA"


class Pnm(PpmImagePlugin.PpmImageFile):
    """A binary PNM. The plugin sees a rewritten header; samples whose maximum is not 255 are scaled here."""

    _maximum = 0

    def _open(self) -> None:
        whole = self.fp
        assert isinstance(whole, io.BytesIO)
        header = containers.pnm_header(whole.getvalue())
        self.fp = io.BytesIO(header.plain)
        super()._open()
        self.fp = whole
        self._maximum = header.maximum
        self.tile = [tile._replace(offset=header.start) for tile in self.tile]
        if header.maximum not in {0, 255}:
            self._mode = "L" if header.plain.startswith(b"P5") else "RGB"
            self.tile = [tile._replace(codec_name=DECODED_HERE) for tile in self.tile]

    def load(self) -> Any:
        """Decode the pixels."""
        if self.tile and self.tile[0].codec_name == DECODED_HERE:
            assert isinstance(self.fp, io.BytesIO)
            samples = self.size[0] * self.size[1] * len(self.getbands())
            size = 1 if self._maximum < 256 else 2
            stored = self.fp.getbuffer()[self.tile[0].offset :][: size * samples]
            deep = np.frombuffer(stored, f">u{size}", len(stored) // size)
            self.fp = io.BytesIO(to_8_bits(deep, self._maximum).tobytes())
            self.tile = [self.tile[0]._replace(codec_name="raw", offset=0, args=(self.mode, 0, 1))]
        return super().load()
