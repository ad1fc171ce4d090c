"""Opens a TIFF's first page as a Pillow picture.

Pillow supports certain combinations of colours, depth and sample format, and decodes some of them wrongly. For these,
and for combinations that it does not support, its decoders only unpack strips and tiles to bytes; `images.samples`
converts the bytes to colours.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImagePalette, TiffImagePlugin

from serve_app.errors import InvalidImage
from serve_app.images import samples
from serve_app.images.bmp import DECODED_HERE
from serve_app.images.structure.tiff_layout import TiffLayout, plane_as_grey_tiff, tiff_layout

_BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _SAMPLES, _PLANAR = 258, 259, 262, 266, 277, 284
_COLOUR_MAP, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 320, 338, 339
_COMMON_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 7, 8, 32773, 32946})
_UNCOMPRESSED, _JPEG = 1, 7
_RGB, _PALETTE, _CMYK, _YCBCR = 2, 3, 5, 6
_COLOURS_IN_PLANES = {_RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3}
_UNSIGNED, _SIGNED, _UNASSOCIATED = 1, 2, 2
_BAND_SAMPLES = 1 << 20


def open_tiff(data: bytes) -> ImageFile.ImageFile:
    """Open a TIFF's first page without decoding its pixels.

    Args:
        data: a file that passed `check_tiff`.
    """
    if data.startswith(b"MM\0+"):  # Pillow does not recognise a big-endian BigTIFF
        return SampledTiff(io.BytesIO(data))
    try:
        picture = Tiff(io.BytesIO(data))
    except SyntaxError:  # Pillow raises this for combinations that it does not support
        return SampledTiff(io.BytesIO(data))
    return SampledTiff(io.BytesIO(data)) if picture.is_misread() else picture


class Tiff(TiffImagePlugin.TiffImageFile):
    """A TIFF's first page as stored, without Pillow's global limit of pixels and without its metadata directories.

    The page is not rotated here: Pillow would decode and rewrite every tag to do that.
    """

    def _setup(self) -> None:
        if self._first(_SAMPLES, 1) == 1 and self._is_uncompressed():
            self.tag_v2[_PLANAR] = 1  # without effect on one sample, but with 2, Pillow ignores depth and inversion
        super()._setup()
        self._size = self._tile_size
        if self.palette is not None and max(self.tag_v2[_COLOUR_MAP], default=0) < 256:
            # Some programs write 8-bit colours instead of 16-bit ones. Source: libtiff, tif_getimage.c, checkcmap.
            self.palette = ImagePalette.raw("RGB;L", bytes(self.tag_v2[_COLOUR_MAP]))
        # Pillow would decode surplus strips over the picture again, each as large as the picture.
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

    def is_misread(self) -> bool:
        """Tell whether Pillow opens the file, but would decode it to wrong pixels.

        Pillow has three such faults. It reads signed 8-bit samples as unsigned. It reads decompressed signed samples
        and floats in the file's byte order, although libtiff returns them in the machine's. For samples in planes, it
        ignores the depth, the bit order and some extra samples.
        """
        bits, form = self._first(_BITS, 1), self._first(_SAMPLE_FORMAT, _UNSIGNED)
        if form == _SIGNED and bits == 8:
            return True
        if form != _UNSIGNED and self.tag_v2.prefix == b"MM" and not self._is_uncompressed():
            return True
        return self._planar_configuration == 2 and self._first(_SAMPLES, 1) > 1 and not self._has_plain_planes(bits)

    def _has_plain_planes(self, bits: int) -> bool:
        """Tell whether Pillow combines these planes correctly."""
        photometric, extras = self._first(_PHOTOMETRIC, 0), self.tag_v2.get(_EXTRA_SAMPLES, ())
        if self._first(_SAMPLES, 1) != _COLOURS_IN_PLANES.get(photometric, 0) + len(extras):
            return False
        if any(extras) and (photometric, extras) != (_RGB, (_UNASSOCIATED,)):
            return False
        return not self._is_uncompressed() or (bits == 8 and self._first(_FILL_ORDER, 1) == 1)

    def _is_uncompressed(self) -> bool:
        return bool(self._first(_COMPRESSION, _UNCOMPRESSED) == _UNCOMPRESSED)

    def _first(self, tag: int, default: int) -> Any:
        value = self.tag_v2.get(tag, default)
        return value[0] if isinstance(value, tuple) and value else value

    def load_prepare(self) -> None:
        """Create the picture's memory without Pillow's global limit of pixels."""
        if self._im is None:
            self.im = Image.new(self.mode, self._tile_size, None).im
        super().load_prepare()

    def load_end(self) -> None:
        """Do nothing; Pillow's method would rotate the picture by its tags."""

    def load(self) -> Any:
        """Decode the pixels.

        Raises:
            InvalidImage: libtiff refuses a variant that it may not support.
        """
        is_odd = self._is_odd() if self.tile else False
        try:
            return super().load()
        except OSError:
            if not is_odd:
                raise
        raise InvalidImage("a TIFF file of a variant that is not read")

    def _is_odd(self) -> bool:
        """Tell whether libtiff may refuse an undamaged file: a rare compression, YCbCr, or JPEG of over 8 bits."""
        compression, photometric = self.tag_v2.get(_COMPRESSION, 1), self.tag_v2.get(_PHOTOMETRIC)
        if compression == _JPEG:
            return self.mode.startswith("I") or photometric == _YCBCR
        return compression not in _COMMON_COMPRESSIONS or photometric == _YCBCR


class SampledTiff(ImageFile.ImageFile):
    """A TIFF whose samples are converted to RGB on white by `images.samples`.

    Memory: the samples (at most `MAX_SAMPLE_BYTES`), 4 bytes per pixel, and some tens of megabytes for a band of lines.
    """

    format = "TIFF"

    def _open(self) -> None:
        file = self.fp
        assert isinstance(file, io.BytesIO)
        self._layout = tiff_layout(file.getvalue())
        self._size, self._mode = self._layout.size_wh, "RGB"
        self.tile = [ImageFile._Tile(DECODED_HERE, (0, 0, *self.size), 0, ())]

    def load(self) -> Any:
        """Unpack the planes, and convert them in bands of lines."""
        if self.tile:
            assert isinstance(self.fp, io.BytesIO)
            data, layout = self.fp.getvalue(), self._layout
            planes = [_lines(data, layout, plane) for plane in range(min(layout.planes, samples.needed(layout)))]
            self.im = Image.new("RGB", self.size).im
            self.tile = []
            step = max(1, _BAND_SAMPLES // (self.width * layout.samples))
            bands = [slice(top, min(top + step, self.height)) for top in range(0, self.height, step)]
            scale = samples.value_range(planes, bands, layout)
            for band in bands:
                rgb = samples.to_rgb([plane[band] for plane in planes], layout, scale)
                self.paste(Image.fromarray(rgb), (0, band.start, self.width, band.stop))
        return super().load()


def _lines(data: bytes, layout: TiffLayout, plane: int) -> NDArray[np.uint8]:
    """Unpack a plane to (height, bytes of a line) uint8."""
    unpacked: NDArray[np.uint8] = np.asarray(Tiff(io.BytesIO(plane_as_grey_tiff(data, layout, plane))))
    return unpacked
