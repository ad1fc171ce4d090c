"""Finds the largest picture or frame in an AVIF.

The header gives the size of the picture, but each frame has a size of its own, and the decoder first decodes the whole
frame and then scales it. A file of 1 kB whose header says 1 x 1 pixel can contain a frame of 16,384 x 16,384 pixels, or
a grid of thousands of them.

Source: ISO/IEC 14496-12:2020, 4.2 (boxes), 8.11.3 (iloc); ISO/IEC 23008-12:2017, 6.5.3 (ispe); AV1 specification, 5.3
to 5.5 (OBUs, sequence header).
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator

from serve_app.errors import InvalidImage
from serve_app.images.structure.bits import Bits
from serve_app.images.structure.bounds import MAX_BLOCKS, MAX_PIXEL_CHUNKS

_CONTAINERS = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0}
"""Boxes whose children are read, and the number of bytes before the first child."""
_FRAMES_PER_PICTURE = 4
"""Largest area of all frames, in areas of the picture: colours, transparency, a thumbnail and a gain map."""
_SEQUENCE_HEADER = 1
_TRACK_BYTES = 4096
"""Number of bytes of a track that are read. Its first sample begins with its sequence header; others are not read."""


def avif_size(data: bytes) -> tuple[int, int]:
    """Return the largest width and height of all pictures and frames in a file.

    Work: at most `MAX_BLOCKS` boxes, and at most `MAX_PIXEL_CHUNKS` items, as many extents, and as many OBUs. Memory:
    one copy of an item.

    Args:
        data: a file with an AVIF signature.

    Returns:
        (width, height) in pixels, each at least 1; they can come from different frames.

    Raises:
        InvalidImage: the file is truncated, or has too many boxes, items or OBUs; or its frames have more than
            `_FRAMES_PER_PICTURE` times the picture's area.
    """
    width = height = 1
    area = 0
    try:
        boxes = list(_boxes(data, 0, len(data)))
        for kind, start, end in boxes:
            if kind == b"ispe" and end - start >= 12:
                w, h = struct.unpack_from(">II", data, start + 4)
                width, height = max(width, w), max(height, h)
        obus = itertools.count(1)
        for item in _items(data, boxes):
            largest = 0
            for size in _obus(item):
                if next(obus) > MAX_PIXEL_CHUNKS:
                    raise InvalidImage("a broken AVIF file: too many OBUs")
                if size is not None:
                    width, height, largest = max(width, size[0]), max(height, size[1]), max(largest, size[0] * size[1])
            area += largest
    except (struct.error, IndexError):
        raise InvalidImage("truncated") from None
    if area > _FRAMES_PER_PICTURE * width * height:
        raise InvalidImage("a broken AVIF file: its frames are larger than its picture")
    return width, height


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start and end of the contents of each box, including boxes inside others."""
    todo, seen = [(start, end)], 0
    while todo:
        start, end = todo.pop()
        while start + 8 <= end:
            size, kind = struct.unpack_from(">I4s", data, start)
            body = start + 8
            if size == 1:
                (size,) = struct.unpack_from(">Q", data, body)
                body += 8
            stop = end if size == 0 else min(end, start + size)
            if stop < body:
                return
            yield kind, body, stop
            if kind in _CONTAINERS:
                todo.append((body + _CONTAINERS[kind], stop))
            start = stop
            seen += 1
            if seen > MAX_BLOCKS:
                raise InvalidImage("a broken AVIF file: too many boxes")


def _items(data: bytes, boxes: list[tuple[bytes, int, int]]) -> Iterator[memoryview]:
    """Yield the bytes of each item, and the first bytes of each track, from its first sample on."""
    view, total = memoryview(data), 0
    stored = next((start for kind, start, _ in boxes if kind == b"idat"), 0)
    for kind, start, _ in boxes:
        if kind in {b"stco", b"co64"}:
            count, first = struct.unpack_from(">II" if kind == b"stco" else ">IQ", data, start + 4)
            if count:
                yield view[first : first + _TRACK_BYTES]
        elif kind == b"iloc":
            for extents in _locations(data, start):
                parts = [view[stored * inside + at :][: size or None] for inside, at, size in extents]
                total += sum(map(len, parts))
                if total > 2 * len(data):
                    raise InvalidImage("a broken AVIF file: its items overlap")
                yield parts[0] if len(parts) == 1 else memoryview(b"".join(parts))


def _locations(data: bytes, start: int) -> Iterator[list[tuple[bool, int, int]]]:
    """Yield the extents of each item of an iloc box: (is in idat, offset, length), in bytes."""
    version = data[start]
    sizes = data[start + 4] >> 4, data[start + 4] & 15, data[start + 5] >> 4, data[start + 5] & 15
    offset_size, length_size, base_size, index_size = sizes
    id_size = 4 if version >= 2 else 2
    at = start + 6

    def number(size: int) -> int:
        nonlocal at
        at += size
        if at > len(data):
            raise IndexError
        return int.from_bytes(data[at - size : at], "big")

    extent_count = 0
    for item in range(number(id_size)):
        if item > MAX_PIXEL_CHUNKS:  # also items without extents
            raise InvalidImage("a broken AVIF file: too many items")
        number(id_size)
        in_idat = version >= 1 and number(2) & 15 == 1
        number(2)
        base = number(base_size)
        extents = []
        for _ in range(number(2)):
            extent_count += 1
            if extent_count > MAX_PIXEL_CHUNKS:
                raise InvalidImage("a broken AVIF file: too many extents")
            number(index_size if version >= 1 else 0)
            extents.append((in_idat, base + number(offset_size), number(length_size)))
        yield extents


def _obus(item: memoryview) -> Iterator[tuple[int, int] | None]:
    """Yield for each OBU of an item the frame size that it sets, or None. Bytes that are not AV1 give arbitrary sizes.

    An OBU is a header byte (bits from the highest: 1 forbidden, 4 type, 1 extension, 1 has a size, 1 reserved), an
    extension byte, a size of 7 bits per byte with the lowest first (leb128), and its contents.

    Source: AV1 specification, 5.3.1, 5.3.2 and 4.10.5 (leb128).
    """
    at = 0
    while at < len(item):
        kind, extended, sized = item[at] >> 3 & 15, item[at] >> 2 & 1, item[at] >> 1 & 1
        at += 1 + extended
        size = len(item) - at
        if sized:
            size = 0
            for index in range(8):
                byte = item[at] if at < len(item) else 0
                at += 1
                size |= (byte & 127) << 7 * index
                if byte < 128:
                    break
        yield _sequence_size(bytes(item[at : at + min(size, 256)])) if kind == _SEQUENCE_HEADER else None
        at += size


def _sequence_size(header: bytes) -> tuple[int, int]:
    """Read the largest frame that a sequence header allows.

    Source: AV1 specification, 5.5.1:

        bits | field
        -----+--------------------------------------------------
        3    | seq_profile
        1    | still_picture
        1    | reduced_still_picture_header; if 1: a level (5)
             | else: timing and operating points
        4, 4 | bits of the width and of the height, each less 1
        n, n | width and height of a frame, each less 1
    """
    bits = Bits(header)
    bits.skip(3 + 1)
    if bits.number(1):
        bits.skip(5)
    else:
        _skip_operating_points(bits, delay_bits=_skip_timing(bits))
    width_bits, height_bits = bits.number(4) + 1, bits.number(4) + 1
    return bits.number(width_bits) + 1, bits.number(height_bits) + 1


def _skip_timing(bits: Bits) -> int:
    """Skip timing and decoder model; return the number of bits of a buffer delay, 0 without a decoder model.

    Source: AV1 specification, 5.5.3 and 5.5.4.
    """
    if not bits.number(1):
        return 0
    bits.skip(32 + 32)  # units of a tick, time scale
    if bits.number(1):  # pictures at equal intervals
        bits.exp_golomb()
    if not bits.number(1):
        return 0
    delay_bits = bits.number(5) + 1
    bits.skip(32 + 5 + 5)
    return delay_bits


def _skip_operating_points(bits: Bits, delay_bits: int) -> None:
    """Skip the operating points. Source: AV1 specification, 5.5.1 and 5.5.5."""
    has_display_delays = bits.number(1)
    for _ in range(bits.number(5) + 1):
        bits.skip(12)
        if bits.number(5) > 7:  # levels above 7 have a tier
            bits.skip(1)
        if delay_bits and bits.number(1):
            bits.skip(2 * delay_bits + 1)
        if has_display_delays and bits.number(1):
            bits.skip(4)
