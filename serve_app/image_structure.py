"""Bounds on an image file's structure that Pillow does not set: counts of chunks, tags and scans.

A few megabytes of empty chunks, overlapping tags or repeated scans cost minutes or gigabytes in a decoder, whatever the
picture's size. Each check walks the container only, never the pixels, and lets through everything a camera, an editor
or a converter writes. Knows no Pillow.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Literal

from serve_app.errors import InvalidImage

MAX_BLOCKS = 4096
"""Metadata segments (JPEG), chunks other than pixel data (PNG) or extension blocks (GIF) of one file."""
MAX_PIXEL_CHUNKS = 65_536
"""PNG IDAT chunks, or strips and tiles of a TIFF: a 50-megapixel file of 32 x 32 tiles has 50,000."""
MAX_SCANS = 40
"""Scans of one JPEG; libjpeg's own progressive script writes 10, and libtiff allows 100."""
MAX_RLE_BYTES = 1024 * 1024
"""Run-length-coded BMP, whose runs are read one by one in Python."""

# Markers that a length follows: not TEM and RST, which stand alone, nor FF 00, which is a byte of pixel data.
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\x01\xff\xd0-\xd7])", re.DOTALL)
_JPEG_SOS, _JPEG_EOI = 0xDA, 0xD9
_JPEG_SEQUENTIAL_FRAMES = frozenset({0xC0, 0xC1, 0xC9})
_MANY = b"\xff"
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SPACE = rb"(?:\s|#[^\r\n]*[\r\n])"
_PNM_HEADER = re.compile(
    rb"(?:P4%b+\d+%b+\d+\s|P[56]%b+\d+%b+\d+%b+(255|65535)\s|P[fF]\s+\d+\s+\d+\s+[-+.\deE]+\s)" % ((_SPACE,) * 5)
)
_TIFF_TYPE_BYTES = dict(enumerate((1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8), start=1))
_TIFF_BYTE_TYPES = frozenset({1, 2, 6, 7})
_TIFF_ORIENTATION = 274


def check_jpeg_header(data: bytes) -> None:
    """Refuse a JPEG with thousands of segments, or bytes between them, before its first scan.

    Args:
        data: a file that starts with FF D8.

    Raises:
        InvalidImage: the structure is broken, or no scan follows within MAX_BLOCKS segments.
    """
    position = 2
    for _ in range(MAX_BLOCKS):
        match = _JPEG_MARKER.search(data, position, position + MAX_BLOCKS)
        if match is None or match[1][0] == _JPEG_EOI:
            raise InvalidImage("a broken JPEG file: no picture in it")
        if match[1][0] == _JPEG_SOS:
            return
        position = match.end() + int.from_bytes(data[match.end() : match.end() + 2], "big")
    raise InvalidImage("a broken JPEG file: too many segments")


def check_jpeg_scans(data: bytes) -> None:
    """Refuse a JPEG whose many scans would each pass over all pixels again.

    Args:
        data: a file that `check_jpeg_header` let through. Bytes after its end marker (a second picture, a video) do
            not count.

    Raises:
        InvalidImage: over MAX_SCANS scans, or over MAX_BLOCKS segments.
    """
    position, scans, needed = 2, 0, _MANY
    for _ in range(MAX_BLOCKS):
        match = _JPEG_MARKER.search(data, position)
        if match is None or match[1][0] == _JPEG_EOI:
            return
        marker, body = match[1][0], match.end() + 2
        if marker in _JPEG_FRAMES:
            needed = data[body + 5 : body + 6] if marker in _JPEG_SEQUENTIAL_FRAMES else _MANY
        elif marker == _JPEG_SOS:
            scans += 1
            if scans == 1 and data[body : body + 1] == needed:
                return  # sequential, with all components in its first scan: libjpeg reads no further
        if scans > MAX_SCANS:
            raise InvalidImage(f"a JPEG file of over {MAX_SCANS} scans")
        position = match.end() + int.from_bytes(data[match.end() : body], "big")
    raise InvalidImage("a broken JPEG file: too many segments")


def check_png(data: bytes) -> None:
    """Refuse a PNG with thousands of metadata chunks, several profiles, or a self-contradicting animation header.

    Args:
        data: a file that starts with the PNG signature.

    Raises:
        InvalidImage: too many chunks or profiles, or the animation is broken.
    """
    position, pixel_chunks, others, animations, profiles = 8, 0, 0, 0, 0
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"IEND":
            return
        if kind in {b"IDAT", b"fdAT", b"fcTL"}:
            pixel_chunks += 1
        else:
            others += 1
        if kind == b"acTL":
            animations += 1
            frames = int.from_bytes(data[position + 8 : position + 12], "big")
            if animations > 1 or not 0 < frames < 2**31:
                raise InvalidImage("a broken PNG file: its animation header is invalid")
        if kind == b"iCCP":
            profiles += 1
            if profiles > 1:  # each is inflated when the file is opened
                raise InvalidImage("a broken PNG file: several colour profiles")
        if others > MAX_BLOCKS or pixel_chunks > MAX_PIXEL_CHUNKS:
            raise InvalidImage("a broken PNG file: too many chunks")
        position += length + 12


def gif_size(data: bytes) -> tuple[int, int]:
    """Find the size a GIF's first frame needs, and refuse thousands of blocks before it.

    Args:
        data: a file that starts with GIF87a or GIF89a.

    Returns:
        (width, height): the canvas, widened where the first frame reaches beyond it.

    Raises:
        InvalidImage: no frame, or none within MAX_BLOCKS blocks.
    """
    if len(data) < 13:
        raise InvalidImage("truncated")
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    for _ in range(MAX_BLOCKS):
        if data[position : position + 1] == b",":
            if position + 9 > len(data):
                raise InvalidImage("truncated")
            left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, position + 1)
            return max(width, left + frame_width), max(height, top + frame_height)
        if data[position : position + 1] == b"!":
            position = _gif_extension_end(data, position + 2)
        elif data[position : position + 1] in {b"", b";"}:
            raise InvalidImage("a broken GIF file: no picture in it")
        else:
            position += 1
    raise InvalidImage("a broken GIF file: too many blocks")


def _gif_extension_end(data: bytes, position: int) -> int:
    for _ in range(MAX_BLOCKS):
        if position >= len(data):
            raise InvalidImage("truncated")
        length = data[position]
        position += length + 1
        if not length:
            return position
    raise InvalidImage("a broken GIF file: too many blocks")


def webp_size(data: bytes) -> tuple[int, int]:
    """Read a WebP's canvas size, since the decoder allocates it on opening.

    Args:
        data: a file that starts with RIFF....WEBP.

    Returns:
        (width, height) in pixels. Source: RFC 9649, sections 2.5 to 2.7.

    Raises:
        InvalidImage: truncated, or the first chunk is none of VP8, VP8L and VP8X.
    """
    if len(data) < 30:
        raise InvalidImage("truncated")
    kind = data[12:16]
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise InvalidImage("a broken WebP file")


def webp_exif(data: bytes) -> bytes:
    """Find a WebP's EXIF chunk.

    Args:
        data: a file that starts with RIFF....WEBP.

    Returns:
        The chunk's bytes; none where there is no such chunk among the first MAX_BLOCKS.
    """
    position = 12
    for _ in range(MAX_BLOCKS):
        kind, length = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        if kind == b"EXIF":
            return data[position + 8 : position + 8 + length]
        if len(kind) < 4:
            break
        position += 8 + length + length % 2
    return b""


def check_bmp(data: bytes) -> None:
    """Refuse a run-length-coded BMP over MAX_RLE_BYTES.

    Args:
        data: a file that starts with BM.

    Raises:
        InvalidImage: as said.
    """
    if data[30:34] in {b"\1\0\0\0", b"\2\0\0\0"} and len(data) > MAX_RLE_BYTES:
        raise InvalidImage(f"a run-length-coded BMP file of over {MAX_RLE_BYTES} bytes")


def check_pnm(data: bytes) -> None:
    """Refuse PNM headers over 4 kB and the variants that Pillow reads number by number.

    Args:
        data: a file that starts with P4, P5, P6, Pf or PF.

    Raises:
        InvalidImage: no such header, or a maximum value other than 255 and 65535.
    """
    if _PNM_HEADER.match(data[:4096]) is None:
        raise InvalidImage("a PPM file that is broken, or whose maximum value is neither 255 nor 65535")


def check_tiff(data: bytes) -> None:
    """Refuse a TIFF whose first directory declares more than the file holds, or over MAX_PIXEL_CHUNKS strips.

    Args:
        data: a file with a TIFF or BigTIFF signature.

    Raises:
        InvalidImage: a tag lies outside the file, tags overlap (their sum is over the file), or there are too many.
    """
    total = 0
    for _, kind, count, inline in _tiff_tags(data):
        size = count * _TIFF_TYPE_BYTES.get(kind, 0)
        if kind not in _TIFF_BYTE_TYPES and count > MAX_PIXEL_CHUNKS:
            raise InvalidImage("a broken TIFF file: a tag of too many values")
        if size > len(inline):
            offset = int.from_bytes(inline, _tiff_order(data))
            total += size
            if offset + size > len(data):
                raise InvalidImage("truncated")
    if total > len(data):
        raise InvalidImage("a broken TIFF file: its tags overlap")


def exif_orientation(exif: bytes) -> int:
    """Read the orientation of an EXIF block.

    Args:
        exif: the block, with or without its "Exif" prefix; empty, or garbage, is allowed.

    Returns:
        1 to 8 as EXIF defines them; 1 (as stored) where there is none that makes sense.
    """
    block = exif.removeprefix(b"Exif\0\0")
    try:
        for tag, kind, count, inline in _tiff_tags(block):
            if tag == _TIFF_ORIENTATION and kind == 3 and count == 1:
                value = int.from_bytes(inline[:2], _tiff_order(block))
                return value if 1 <= value <= 8 else 1
    except InvalidImage:
        return 1
    return 1


def _tiff_order(data: bytes) -> Literal["little", "big"]:
    return "little" if data[:2] == b"II" else "big"


def _tiff_tags(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield (tag, type, count, value or offset) of the first directory. Source: TIFF 6.0, section 2; BigTIFF."""
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
