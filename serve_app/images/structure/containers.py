"""The structure of GIF, WebP and PNM files: their sizes and parts, and bounds on them. Knows no Pillow."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from serve_app.errors import InvalidImage
from serve_app.images.structure.bounds import MAX_BLOCKS, MAX_GIF_BLOCKS

_GIF_CONTROL = 0xF9
_WEBP_HEADER_BYTES = {b"VP8X": 30, b"VP8L": 25, b"VP8 ": 30}  # up to the end of the size, by the first chunk
_WEBP_ANIMATED = 2
_SPACE = rb"(?:\s|#[^\r\n]*[\r\n])"
_PNM_HEADER = re.compile(
    rb"(?:(P4)%b+(\d+)%b+(\d+)\s|(P[56])%b+(\d+)%b+(\d+)%b+(\d+)\s|(P[fF])\s+(\d+)\s+(\d+)\s+([-+.\deE]+)\s)"
    % ((_SPACE,) * 5)
)


def gif_size(data: bytes) -> tuple[int, int]:
    """Find the size a GIF's first frame needs, and refuse thousands of blocks before it.

    Bound: at most MAX_GIF_BLOCKS steps.

    Args:
        data: a file that starts with GIF87a or GIF89a.

    Returns:
        (width, height): the canvas, widened where the first frame reaches beyond it.

    Raises:
        InvalidImage: no frame, or none within MAX_GIF_BLOCKS blocks and sub-blocks.
    """
    start, _ = _first_gif_frame(data)
    width, height = struct.unpack_from("<HH", data, 6)
    left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, start + 1)
    return max(width, left + frame_width), max(height, top + frame_height)


def first_gif_frame(data: bytes) -> bytes:
    """Cut a GIF down to what its first frame needs: palette, transparency and pixels.

    Bound: the steps of `gif_size`, and one copy of the file.

    Args:
        data: a file that `gif_size` let through.
    """
    start, control = _first_gif_frame(data)
    return data[: _gif_palette_end(data)] + control + data[start:]


def _gif_palette_end(data: bytes) -> int:
    flags = data[10]
    return 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)


def _first_gif_frame(data: bytes) -> tuple[int, bytes]:
    """Find where the first frame starts, and the graphic control extension before it, if any."""
    if len(data) < 13:
        raise InvalidImage("truncated")
    position, control, inside, steps = _gif_palette_end(data), b"", False, 0
    while steps < MAX_GIF_BLOCKS:
        steps += 1
        kind = data[position : position + 1]
        if inside:  # an extension: sub-blocks, each with its length first, up to one of length 0
            if not kind:
                raise InvalidImage("truncated")
            inside = kind != b"\0"
            position += kind[0] + 1
        elif kind == b",":
            if position + 10 > len(data):
                raise InvalidImage("truncated")
            return position, control
        elif kind == b"!":
            if data[position + 1 : position + 3] == bytes([_GIF_CONTROL, 4]):
                control = data[position : position + 7] + b"\0"
            position, inside = position + 2, True
        elif kind in {b"", b";"}:
            raise InvalidImage("a broken GIF file: no picture in it")
        else:
            position += 1
    raise InvalidImage("a broken GIF file: too many blocks")


def webp_size(data: bytes) -> tuple[int, int]:
    """Read a WebP's canvas size, since the decoder allocates it on opening.

    Bound: a few steps.

    Args:
        data: a file that starts with RIFF....WEBP.

    Returns:
        (width, height) in pixels. Source: RFC 9649, sections 2.5 to 2.7.

    Raises:
        InvalidImage: truncated, or the first chunk is none of VP8, VP8L and VP8X.
    """
    kind = data[12:16]
    if len(data) < _WEBP_HEADER_BYTES.get(kind, 16):
        raise InvalidImage("truncated")
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise InvalidImage("a broken WebP file")


def is_animated_webp(data: bytes) -> bool:
    """Tell whether a WebP calls itself an animation, whose frames may leave parts of the canvas uncovered."""
    return data[12:16] == b"VP8X" and bool(data[20:21] and data[20] & _WEBP_ANIMATED)


def webp_exif(data: bytes) -> bytes:
    """Find a WebP's EXIF chunk.

    Bound: at most MAX_BLOCKS steps, and one copy of the chunk.

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


@dataclass(frozen=True)
class PnmHeader:
    """What a binary PNM says of its pixels.

    Attributes:
        size_wh: width and height in pixels.
        maximum: the number that means white, at most 65535; 0 for bitmaps and floats.
        plain: the header, written anew without comments.
        start: where the pixels start in the file.
    """

    size_wh: tuple[int, int]
    maximum: int
    plain: bytes
    start: int


def check_pnm(data: bytes) -> tuple[int, int]:
    """Read a PNM's size; refuse headers over 4 kB.

    Bound: one look at the first 4 kB.

    Args:
        data: a file that starts with P4, P5, P6, Pf or PF.

    Returns:
        (width, height) in pixels.

    Raises:
        InvalidImage: no such header, or a maximum value out of range.
    """
    return pnm_header(data).size_wh


def pnm_header(data: bytes) -> PnmHeader:
    """Read the header of a PNM; see `check_pnm`."""
    match = _PNM_HEADER.match(data[:4096])
    if match is None:
        raise InvalidImage("a broken PPM file: its header is invalid")
    kind, width, height, *maximum = (group for group in match.groups() if group is not None)
    if kind == b"PF":
        raise InvalidImage("a PPM file of a variant that is not read (PF: colours as floats)")
    if max(len(width), len(height)) > 10:
        raise InvalidImage("a broken PPM file: its size is out of range")
    value = maximum[0] if maximum else b""
    most = int(value[:10]) if kind in {b"P5", b"P6"} else 0
    if kind in {b"P5", b"P6"} and not 0 < most <= 65_535:
        raise InvalidImage("a broken PPM file: its maximum value is not between 1 and 65535")
    plain = b"%b %d %d %b\n" % (kind, int(width), int(height), value)
    return PnmHeader((int(width), int(height)), most, plain, match.end())
