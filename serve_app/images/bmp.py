"""Opens a BMP as a Pillow image. This module decodes run-length coding and bit fields; Pillow decodes the rest."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin

from serve_app.images.bmp_rle import decode_bmp_rle
from serve_app.images.scales import to_8_bits
from serve_app.images.structure.bmp import BitFields, bit_fields, with_palette_in_range

DECODED_HERE = "decoded here"
"""Replaces the name of Pillow's decoder in a tile that this package decodes itself."""

_ALPHA = 3


class Bmp(BmpImagePlugin.BmpImageFile):
    """A BMP. Its alpha is ignored if it is 0 in all pixels: many programs write 0 for an opaque picture."""

    _fields: BitFields | None = None

    def _open(self) -> None:
        whole = self.fp
        assert isinstance(whole, io.BytesIO)
        self._fields = bit_fields(whole.getvalue())
        if self._fields is not None:
            self.fp = io.BytesIO(self._fields.header)
        elif (palette := with_palette_in_range(whole.getvalue())) is not None:
            self.fp = whole = io.BytesIO(palette)
        super()._open()
        self.fp = whole
        self.tile = [
            tile._replace(codec_name=DECODED_HERE if self._fields or tile.codec_name == "bmp_rle" else tile.codec_name)
            for tile in self.tile
        ]

    def load(self) -> Any:
        """Decode the pixels."""
        if self.tile and self.tile[0].codec_name == DECODED_HERE:
            self._unpack()
        return super().load()

    def _unpack(self) -> None:
        """Replace the file by unpacked pixels, which Pillow can read."""
        tile = self.tile[0]
        assert isinstance(self.fp, io.BytesIO)
        assert isinstance(tile.args, tuple)
        if self._fields is not None:
            pixels = unpack_fields(self.fp.getvalue(), self._fields, self.size)
            self._mode = "RGBA" if pixels[:, :, _ALPHA].min() < 255 else "RGB"
            raw, raw_mode = pixels.tobytes(), "RGBA" if self.mode == "RGBA" else "RGBX"
        else:
            raw = decode_bmp_rle(self.fp.getvalue(), tile.offset, self.size, tile.args[1])
            raw_mode = "P" if self.mode == "P" else "L"
        self.fp = io.BytesIO(raw)
        self.tile = [tile._replace(codec_name="raw", offset=0, args=(raw_mode, 0, tile.args[2]))]


def unpack_fields(data: bytes, fields: BitFields, size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """Unpack pixels whose colours are bit fields.

    Work: a few passes over the pixels. Memory: about 12 bytes per pixel. Each pixel takes at least two
    bytes of the file.

    Args:
        data: the whole file.
        fields: the bit fields, from `bit_fields`.
        size_wh: width and height in pixels, each at least 1.

    Returns:
        (height, width, 4) uint8 RGBA. The lines are in the file's order: usually the lowest line comes first. All
        pixels are opaque if the file has no alpha, or if alpha is 0 in all pixels.

    Raises:
        EOFError: the file ends before its last pixel.
    """
    width, height = size_wh
    line_bytes = width * fields.bits // 8
    stride = line_bytes + -line_bytes % 4
    lines = np.frombuffer(data, np.uint8)[fields.start : fields.start + stride * height]
    if len(lines) < stride * (height - 1) + line_bytes:
        raise EOFError
    lines = np.concatenate([lines, np.zeros(stride * height - len(lines), np.uint8)]).reshape(height, stride)
    packed = np.ascontiguousarray(lines[:, :line_bytes]).view(f"<u{fields.bits // 8}")
    pixels = np.empty((height, width, 4), np.uint8)
    for channel, mask in enumerate(fields.masks):
        pixels[:, :, channel] = _channel(packed, mask)
    if not fields.masks[_ALPHA] or not pixels[:, :, _ALPHA].any():
        pixels[:, :, _ALPHA] = 255
    return pixels


def _channel(packed: NDArray[np.uint16] | NDArray[np.uint32], mask: int) -> NDArray[np.uint8] | int:
    """Scale the bits of a mask to 8 bits; of a mask with more than 16 bits, use the upper 16."""
    if not mask:
        return 0
    bits = min(mask.bit_count(), 16)
    wide = packed.dtype.type
    values = (packed & wide(mask)) >> wide(mask.bit_length() - bits)
    return to_8_bits(values, (1 << bits) - 1)
