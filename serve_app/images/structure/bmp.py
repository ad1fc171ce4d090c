"""Reads the header of a BMP file: where its pixels are, and which of their bits are which colour.

    offset | bytes | field
    -------+-------+--------------------------------------------
    10     | 4     | where the pixels are
    14     | 4     | bytes of the header that begins here
    18     | 4, 4  | width, height (negative: highest line first)
    28     | 2     | bits per pixel
    30     | 4     | compression
    46     | 4     | colours in the palette
    54     | 4 x 4 | masks of red, green, blue, alpha

Source: Windows GDI, BITMAPFILEHEADER, BITMAPINFOHEADER, BITMAPV4HEADER and BITMAPV5HEADER.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from serve_app.errors import InvalidImage
from serve_app.images.structure.bounds import MAX_RLE_BYTES

_FILE_HEADER_BYTES = 14
_HEADERS = frozenset({40, 52, 56, 108, 124})
_MASKS_AT = _FILE_HEADER_BYTES + 40
_PLAIN, _BIT_FIELDS, _ALPHA_BIT_FIELDS = 0, 3, 6
_RGB_555 = (0x7C00, 0x3E0, 0x1F, 0)
_RGBA_8888 = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)


@dataclass(frozen=True)
class BitFields:
    """Pixels of 16 or 32 bits whose colours are bit fields.

    Attributes:
        bits: bits per pixel: 16 or 32.
        masks: the bits of red, green, blue and alpha; 0 if the pixels lack that field.
        start: index of the first pixel in the file.
        header: a BMP header with the same width, height and direction, for plain pixels of 32 bits.
    """

    bits: int
    masks: tuple[int, int, int, int]
    start: int
    header: bytes


def check_bmp(data: bytes) -> None:
    """Refuse a large run-length-coded BMP, because `images.bmp_rle` decodes it in Python.

    Work: one comparison.

    Args:
        data: a file that starts with BM.

    Raises:
        InvalidImage: the BMP is run-length-coded and has more than `MAX_RLE_BYTES` bytes.
    """
    if data[30:34] in {b"\1\0\0\0", b"\2\0\0\0"} and len(data) > MAX_RLE_BYTES:
        raise InvalidImage(f"a run-length-coded BMP file of more than {MAX_RLE_BYTES} bytes")


def bit_fields(data: bytes) -> BitFields | None:
    """Read the bit fields of a BMP's pixels.

    Args:
        data: a file that starts with BM.

    Returns:
        The bit fields; None if the pixels have none (palettes, 24 bits, and 32 bits without masks), or if the file is
        shorter than its header.

    Raises:
        InvalidImage: the bits of a colour are not adjacent.
    """
    if len(data) < _MASKS_AT:
        return None
    (pixels_at,), (header_bytes,) = struct.unpack_from("<I", data, 10), struct.unpack_from("<I", data, 14)
    (bits,), (compression,) = struct.unpack_from("<H", data, 28), struct.unpack_from("<I", data, 30)
    if header_bytes not in _HEADERS or bits not in {16, 32}:
        return None
    masks, end = _RGB_555, _FILE_HEADER_BYTES + header_bytes
    if compression in {_BIT_FIELDS, _ALPHA_BIT_FIELDS}:
        with_alpha = compression == _ALPHA_BIT_FIELDS or header_bytes >= 56
        count = 4 if with_alpha else 3
        named = (*struct.unpack_from(f"<{count}I", data.ljust(_MASKS_AT + 16, b"\0"), _MASKS_AT), 0)
        end = max(end, _MASKS_AT + 4 * count)
        red, green, blue, alpha = (mask & ((1 << bits) - 1) for mask in named[:4])
        if red or green or blue or alpha:
            masks = red, green, blue, alpha
        elif bits == 32:
            masks = _RGBA_8888
    elif compression != _PLAIN or bits == 32:
        return None
    if any(mask and (mask // (mask & -mask) + 1) & (mask // (mask & -mask)) for mask in masks):
        raise InvalidImage("a BMP file of a variant that is not read (the bits of a colour are not adjacent)")
    info = data[18:26] + struct.pack("<HHIIiiII", 1, 32, 0, 0, 0, 0, 0, 0)
    return BitFields(bits, masks, pixels_at or end, b"BM" + struct.pack("<IHHII", 0, 0, 0, _MASKS_AT, 40) + info)


def with_palette_in_range(data: bytes) -> bytes | None:
    """Correct a BMP whose header counts more colours than its pixels can use.

    Memory: one copy of the file, if it is corrected.

    Args:
        data: a file that starts with BM.

    Returns:
        The file with the largest possible count; None if its count is in range.
    """
    if len(data) < _MASKS_AT:
        return None
    (header_bytes,), (bits,) = struct.unpack_from("<I", data, 14), struct.unpack_from("<H", data, 28)
    (colours,) = struct.unpack_from("<I", data, 46)
    if header_bytes not in _HEADERS or bits > 8 or colours <= 1 << bits:
        return None
    return data[:46] + struct.pack("<I", 1 << bits) + data[50:]
