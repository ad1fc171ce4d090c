"""Reads the first directory of a TIFF, or of an EXIF block, which has the same structure.

The file starts with II (little-endian) or MM (big-endian):

    part         | TIFF (42)                               | BigTIFF (43)
    -------------+-----------------------------------------+-----------------------------------------
    header       | order 2, version 2, directory 4         | order 2, version 2, constants 4, directory 8
    directory    | number of tags 2, tags of 12 bytes      | number of tags 8, tags of 20 bytes
    tag          | tag 2, type 2, count 4, value/offset 4  | tag 2, type 2, count 8, value/offset 8

The numbers are sizes in bytes. A value that does not fit into its field is elsewhere in the file, at the offset.

Source: TIFF 6.0, section 2; "The BigTIFF File Format Proposal" (AWare Systems, libtiff).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Literal

from serve_app.errors import InvalidImage
from serve_app.images.structure.bounds import MAX_BLOCKS, MAX_PIXEL_CHUNKS

_TYPE_BYTES = dict(enumerate((1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8), start=1))
_BYTE_TYPES = frozenset({1, 2, 6, 7})
_WIDTHS, _HEIGHTS = frozenset({256, 322}), frozenset({257, 323})  # tags of the picture and of a tile
_ORIENTATION = 274
_COLOUR_MAP, _MAX_COLOURS = 320, 3 << 16
_NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q"}


def check_tiff(data: bytes) -> tuple[int, int]:
    """Return the size that a TIFF's first page needs, and refuse a directory with more values than the file can hold.

    Work: at most `MAX_BLOCKS` steps.

    Args:
        data: a file with a TIFF or BigTIFF signature.

    Returns:
        (width, height) as stored. If a tile is larger than the picture, its side counts, because a decoder allocates
        whole tiles.

    Raises:
        InvalidImage: the file is truncated; a tag's values are outside the file; all values together are larger than
            the file, so they overlap; or there are too many tags, or values of a tag.
    """
    total = width = height = 0
    order = _order(data)
    for tag, kind, count, inline in _tags(data):
        size = count * _TYPE_BYTES.get(kind, 0)
        if kind not in _BYTE_TYPES and count > (_MAX_COLOURS if tag == _COLOUR_MAP else MAX_PIXEL_CHUNKS):
            raise InvalidImage("a broken TIFF file: a tag of too many values")
        value = inline
        if size > len(inline):
            offset = int.from_bytes(inline, order)
            total += size
            if offset + size > len(data):
                raise InvalidImage("truncated")
            value = data[offset : offset + 8]
        number = int.from_bytes(value[: _TYPE_BYTES.get(kind, 0)], order)
        # If a tag is repeated, the largest value counts, because decoders differ in which one they use.
        width = max(width, number) if tag in _WIDTHS else width
        height = max(height, number) if tag in _HEIGHTS else height
    if total > len(data):
        raise InvalidImage("a broken TIFF file: its tags overlap")
    return width, height


def tag_values(data: bytes) -> dict[int, tuple[int, ...]]:
    """Read the tags of the first directory whose values are unsigned whole numbers.

    Work: at most `MAX_BLOCKS` tags, and at most `MAX_PIXEL_CHUNKS` numbers per tag.

    Args:
        data: a file that passed `check_tiff`.

    Returns:
        The numbers by tag. If a tag is repeated, its first occurrence counts.
    """
    mark = "<" if _order(data) == "little" else ">"
    values: dict[int, tuple[int, ...]] = {}
    for tag, kind, count, inline in _tags(data):
        code = _NUMBERS.get(kind)
        if code is None or tag in values or count > MAX_PIXEL_CHUNKS:
            continue
        layout = f"{mark}{count}{code}"
        size = struct.calcsize(layout)
        start = int.from_bytes(inline, _order(data))
        value = inline[:size] if size <= len(inline) else data[start : start + size]
        if len(value) == size:
            values[tag] = struct.unpack(layout, value)
    return values


def exif_orientation(exif: bytes) -> int:
    """Read the orientation of an EXIF block.

    Work: at most `MAX_BLOCKS` steps, for a block of any length.

    Args:
        exif: the block, with or without its "Exif" prefix; may be empty or broken.

    Returns:
        1 to 8 as EXIF defines them; 1 (as stored) if the block has no valid orientation.

    >>> exif_orientation(b"")
    1
    """
    block = exif.removeprefix(b"Exif\0\0")
    try:
        for tag, kind, count, inline in _tags(block):
            if tag == _ORIENTATION and kind == 3 and count == 1:
                value = int.from_bytes(inline[:2], _order(block))
                return value if 1 <= value <= 8 else 1
    except InvalidImage:
        return 1
    return 1


def _order(data: bytes) -> Literal["little", "big"]:
    return "little" if data[:2] == b"II" else "big"


def _tags(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield (tag, type, count, value or offset) of the first directory."""
    mark = "<" if data[:2] == b"II" else ">"
    try:
        big = struct.unpack_from(f"{mark}H", data, 2)[0] == 43
        (start,) = struct.unpack_from(f"{mark}Q", data, 8) if big else struct.unpack_from(f"{mark}I", data, 4)
        (tags,) = struct.unpack_from(f"{mark}Q" if big else f"{mark}H", data, start)
        if tags > MAX_BLOCKS:
            raise InvalidImage("a broken TIFF file: too many tags")
        entry = struct.Struct(f"{mark}HHQ8s" if big else f"{mark}HHI4s")
        for index in range(tags):
            yield entry.unpack_from(data, start + (8 if big else 2) + index * entry.size)
    except (struct.error, OverflowError):
        raise InvalidImage("truncated") from None
