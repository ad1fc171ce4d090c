"""A TIFF's first page as Pillow's picture: what Pillow reads, and what it does not.

Pillow reads a list of combinations of colours, depth and format. For the others its decoders unpack strips and tiles to
bytes, and `images.samples` makes colours of them.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin

from serve_app.errors import InvalidImage
from serve_app.images import samples
from serve_app.images.bmp import DECODED_HERE
from serve_app.images.structure.tiff_layout import TiffLayout, plane_as_bytes, tiff_layout

_COMPRESSION, _PHOTOMETRIC = 259, 262
_COMMON_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 7, 8, 32773, 32946})
_JPEG, _YCBCR = 7, 6
_BAND_SAMPLES = 1 << 20


def open_tiff(data: bytes) -> ImageFile.ImageFile:
    """Open a TIFF's first page, still without its pixels.

    Args:
        data: a file that `check_tiff` let through.
    """
    if data.startswith(b"MM\0+"):  # Pillow takes no big-endian file for a BigTIFF
        return SampledTiff(io.BytesIO(data))
    try:
        return Tiff(io.BytesIO(data))
    except SyntaxError:  # what Pillow raises for combinations that it does not know
        return SampledTiff(io.BytesIO(data))


class Tiff(TiffImagePlugin.TiffImageFile):
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

    def load(self) -> Any:
        is_odd = self._is_odd() if self.tile else False
        try:
            return super().load()
        except OSError:
            if not is_odd:
                raise
        raise InvalidImage("a TIFF file of a variant that is not read")

    def _is_odd(self) -> bool:
        """Tell whether libtiff may refuse a whole file: rare compressions, YCbCr in planes, deep JPEG."""
        compression, photometric = self.tag_v2.get(_COMPRESSION, 1), self.tag_v2.get(_PHOTOMETRIC)
        if compression == _JPEG:
            return self.mode.startswith("I") or photometric == _YCBCR
        return compression not in _COMMON_COMPRESSIONS or photometric == _YCBCR


class SampledTiff(ImageFile.ImageFile):
    """A TIFF whose samples are made colours here, on white.

    Bound: its samples, MAX_SAMPLE_BYTES at most, 4 bytes a pixel, and some tens of megabytes for a band of lines.
    """

    format = "TIFF"

    def _open(self) -> None:
        file = self.fp
        assert isinstance(file, io.BytesIO)
        self._layout = tiff_layout(file.getvalue())
        self._size, self._mode = self._layout.size_wh, "RGB"
        self.tile = [ImageFile._Tile(DECODED_HERE, (0, 0, *self.size), 0, ())]

    def load(self) -> Any:
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
    """Unpack a plane: (height, bytes of a line) uint8."""
    unpacked: NDArray[np.uint8] = np.asarray(Tiff(io.BytesIO(plane_as_bytes(data, layout, plane))))
    return unpacked
