"""A TIFF's first page as Pillow's picture: what Pillow reads, and what it does not.

Pillow reads a list of combinations of colours, depth and format, some of them wrongly. For the others and for those,
its decoders unpack strips and tiles to bytes, and `images.samples` makes colours of them.
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
from serve_app.images.structure.tiff_layout import TiffLayout, plane_as_bytes, tiff_layout

_BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _SAMPLES, _PLANAR = 258, 259, 262, 266, 277, 284
_COLOUR_MAP, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 320, 338, 339
_COMMON_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 7, 8, 32773, 32946})
_UNCOMPRESSED, _JPEG = 1, 7
_RGB, _PALETTE, _CMYK, _YCBCR = 2, 3, 5, 6
_COLOURS_IN_PLANES = {_RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3}
_UNSIGNED, _SIGNED, _UNASSOCIATED = 1, 2, 2
_BAND_SAMPLES = 1 << 20


def open_tiff(data: bytes) -> ImageFile.ImageFile:
    """Open a TIFF's first page, still without its pixels.

    Args:
        data: a file that `check_tiff` let through.
    """
    if data.startswith(b"MM\0+"):  # Pillow takes no big-endian file for a BigTIFF
        return SampledTiff(io.BytesIO(data))
    try:
        picture = Tiff(io.BytesIO(data))
    except SyntaxError:  # what Pillow raises for combinations that it does not know
        return SampledTiff(io.BytesIO(data))
    return SampledTiff(io.BytesIO(data)) if picture.is_misread() else picture


class Tiff(TiffImagePlugin.TiffImageFile):
    """A TIFF's first page as stored, without Pillow's global pixel limit and the directories of its metadata.

    Pillow would turn it, and for that decode and write anew every tag.
    """

    def _setup(self) -> None:
        if self._first(_SAMPLES, 1) == 1 and self._is_uncompressed():
            self.tag_v2[_PLANAR] = 1  # the tag means nothing here, but Pillow would lose the depth and the inversion
        super()._setup()
        self._size = self._tile_size
        if self.palette is not None and max(self.tag_v2[_COLOUR_MAP], default=0) < 256:
            # Colours of 8 bits where the format wants 16. Source: libtiff, tif_getimage.c, checkcmap.
            self.palette = ImagePalette.raw("RGB;L", bytes(self.tag_v2[_COLOUR_MAP]))
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

    def is_misread(self) -> bool:
        """Tell whether Pillow takes the file for one that it reads, and would make wrong pixels of it.

        It reads signed samples of 8 bits as unsigned ones. It takes decompressed signed samples and floats to be in the
        file's order of bytes, though libtiff gives them in the machine's. Of samples in planes it loses the depth, the
        order of bits and some extra samples.
        """
        bits, form = self._first(_BITS, 1), self._first(_SAMPLE_FORMAT, _UNSIGNED)
        if form == _SIGNED and bits == 8:
            return True
        if form != _UNSIGNED and self.tag_v2.prefix == b"MM" and not self._is_uncompressed():
            return True
        return self._planar_configuration == 2 and self._first(_SAMPLES, 1) > 1 and not self._has_plain_planes(bits)

    def _has_plain_planes(self, bits: int) -> bool:
        """Tell whether the planes are among those that Pillow puts together rightly."""
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
