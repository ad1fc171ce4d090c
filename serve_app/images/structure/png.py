"""Reads the chunks of a PNG that its picture needs, its transparency and its EXIF block.

Other chunks (text, profiles, animation, physical sizes) are not read: viewers show the picture even if they are broken.

A chunk is a length (4 bytes), a type (4 bytes), contents, and a checksum (4 bytes).

Source: PNG specification, third edition, 5.3 (chunks) and 11 (types). Broken tRNS, PLTE and eXIf chunks are handled as
in libpng 1.6, pngrutil.c.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from serve_app.errors import InvalidImage
from serve_app.images.structure.bounds import MAX_BLOCKS, MAX_PIXEL_CHUNKS

_SIGNATURE_BYTES = 8
_GREY, _RGB, _PALETTE = 0, 2, 3
_KEY_SAMPLES = {_GREY: 1, _RGB: 3}


@dataclass(frozen=True)
class PngParts:
    """The parts of a PNG that its picture needs.

    Attributes:
        plain: a PNG that has only the picture's chunks, unchanged even if they are broken or truncated.
        depth: bits per sample.
        colour_key: the grey or RGB value that is transparent, in the file's depth; None if there is none.
        exif: the EXIF block; empty if the file has none.
    """

    plain: bytes
    depth: int
    colour_key: tuple[int, ...] | None
    exif: bytes


def check_png(data: bytes) -> None:
    """Refuse a PNG with too many chunks.

    Work: at most `MAX_BLOCKS` + `MAX_PIXEL_CHUNKS` steps.

    Args:
        data: a file that starts with the PNG signature.

    Raises:
        InvalidImage: the file has more than `MAX_PIXEL_CHUNKS` chunks with pixels, or more than `MAX_BLOCKS` others.
    """
    position, pixel_chunks, others = _SIGNATURE_BYTES, 0, 0
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"IEND":
            return
        if kind in {b"IDAT", b"fdAT", b"fcTL"}:
            pixel_chunks += 1
        else:
            others += 1
        if others > MAX_BLOCKS or pixel_chunks > MAX_PIXEL_CHUNKS:
            raise InvalidImage("a broken PNG file: too many chunks")
        position += length + 12


def png_parts(data: bytes) -> PngParts:
    """Reduce a PNG to the chunks that its picture needs, without text, profiles and animation.

    Work: as in `check_png`. Memory: one copy of the file.

    Args:
        data: a file that passed `check_png`.

    Raises:
        InvalidImage: the pixels are palette indices, but no palette comes before them.
    """
    depth, colour = (data[24], data[25]) if len(data) > 25 and data[12:16] == b"IHDR" else (8, _RGB)
    kept, palette_entries = [data[:_SIGNATURE_BYTES]], 0
    seen: set[bytes] = set()
    key, exif = None, b""
    position = _SIGNATURE_BYTES
    while position < len(data):
        length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        chunk = slice(position, position + length + 12)
        if kind == b"IDAT" and colour == _PALETTE and not palette_entries:
            raise InvalidImage("a broken PNG file: no palette before its pixels")
        if kind == b"PLTE" and colour == _PALETTE and b"IDAT" not in seen:
            palette_entries = length // 3
            kept.append(data[chunk])
        elif kind == b"tRNS" and not seen & {b"tRNS", b"IDAT"} and _is_sound(data, chunk):
            if colour == _PALETTE and 0 < length <= palette_entries:
                kept.append(data[chunk])
            elif length == 2 * _KEY_SAMPLES.get(colour, -1):
                samples = struct.unpack_from(f">{length // 2}H", data, position + 8)
                key = tuple(sample & ((1 << depth) - 1) for sample in samples)
        elif kind == b"eXIf" and not exif and _is_sound(data, chunk):
            exif = data[position + 8 : position + 8 + length]
        elif kind in {b"IHDR", b"IDAT", b"IEND"} or len(kind) < 4 or not kind.isalpha():
            kept.append(data[chunk])
        seen.add(kind)
        if kind == b"IEND":
            break
        position += length + 12
    return PngParts(b"".join(kept), depth, key, exif)


def _is_sound(data: bytes, chunk: slice) -> bool:
    """Tell whether a chunk is complete and its checksum is right."""
    whole = memoryview(data)[chunk]
    return len(whole) == chunk.stop - chunk.start and zlib.crc32(whole[4:-4]) == int.from_bytes(whole[-4:], "big")
