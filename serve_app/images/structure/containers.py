"""Reads the structure of GIF, WebP and PNM files: their sizes and parts, within limits.

Source: GIF89a specification; RFC 9649 (WebP); Netpbm manual, pbm(5), pgm(5), ppm(5) and pfm(5).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from serve_app.errors import InvalidImage
from serve_app.images.structure.bounds import MAX_BLOCKS, MAX_GIF_BLOCKS

_GIF_CONTROL = 0xF9
_WEBP_HEADER_BYTES = {b"VP8X": 30, b"VP8L": 25, b"VP8 ": 30}  # bytes up to the end of the size, by the first chunk
_WEBP_ANIMATED = 2
_SPACE = rb"(?:\s|#[^\r\n]*[\r\n])"
_PNM_HEADER = re.compile(
    rb"(?:(P4)%b+(\d+)%b+(\d+)\s|(P[56])%b+(\d+)%b+(\d+)%b+(\d+)\s|(P[fF])\s+(\d+)\s+(\d+)\s+([-+.\deE]+)\s)"
    % ((_SPACE,) * 5)
)


def gif_size(data: bytes) -> tuple[int, int]:
    """Return the size that a GIF's first frame needs, and refuse too many blocks before it.

    Work: at most `MAX_GIF_BLOCKS` steps.

    Args:
        data: a file that starts with GIF87a or GIF89a.

    Returns:
        (width, height) in pixels: the canvas, enlarged if the first frame reaches beyond it.

    Raises:
        InvalidImage: the file is truncated, or no frame begins within `MAX_GIF_BLOCKS` blocks and sub-blocks.
    """
    start, _ = _first_gif_frame(data)
    width, height = struct.unpack_from("<HH", data, 6)
    left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, start + 1)
    return max(width, left + frame_width), max(height, top + frame_height)


def first_gif_frame(data: bytes) -> bytes:
    """Reduce a GIF to the parts that its first frame needs: palette, transparency and pixels.

    Work: as in `gif_size`. Memory: one copy of the file.

    Args:
        data: a file that passed `gif_size`.
    """
    start, control = _first_gif_frame(data)
    return data[: _gif_palette_end(data)] + control + data[start:]


def _gif_palette_end(data: bytes) -> int:
    flags = data[10]
    return 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)


def _first_gif_frame(data: bytes) -> tuple[int, bytes]:
    """Return the index of the first frame, and the last graphic control extension before it (or b"").

        block     | first byte | then
        ----------+------------+----------------------------------------------------------------------
        extension | !          | a type, then sub-blocks: a length and as many bytes, the last of length 0
        frame     | ,          | left, top, width, height, flags, pixels
        end       | ;          |

    Source: GIF89a specification, sections 15, 20, 23 and 27.
    """
    if len(data) < 13:
        raise InvalidImage("truncated")
    position, control, inside, steps = _gif_palette_end(data), b"", False, 0
    while steps < MAX_GIF_BLOCKS:
        steps += 1
        kind = data[position : position + 1]
        if inside:  # a sub-block of an extension
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
    """Read the size of a WebP's canvas, which the decoder allocates when it opens the file.

        first chunk | width and height (little-endian)
        ------------+----------------------------------------------------
        VP8X        | 24 bits each from byte 24, both less 1
        VP8L        | 14 bits each from byte 21, both less 1
        "VP8 "      | the lower 14 of 16 bits each from byte 26

    Work: a few steps.

    Source: RFC 9649, sections 2.5 to 2.7; RFC 6386, section 9.1 (VP8).

    Args:
        data: a file that starts with RIFF....WEBP.

    Returns:
        (width, height) in pixels.

    Raises:
        InvalidImage: the file is truncated, or its first chunk is not VP8, VP8L or VP8X.
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
    """Tell whether a WebP is an animation by its flags. Frames of an animation can be smaller than the canvas."""
    return data[12:16] == b"VP8X" and bool(data[20:21] and data[20] & _WEBP_ANIMATED)


def webp_exif(data: bytes) -> bytes:
    """Return the contents of a WebP's EXIF chunk.

    Work: at most `MAX_BLOCKS` steps. Memory: one copy of the chunk.

    Args:
        data: a file that starts with RIFF....WEBP.

    Returns:
        The chunk's bytes; empty if none of the first `MAX_BLOCKS` chunks is EXIF.
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
    """The header of a binary PNM.

    Attributes:
        size_wh: width and height in pixels.
        maximum: the number that means white, at most 65535; 0 for bitmaps and floats.
        plain: the header, rewritten without comments.
        start: index of the first pixel in the file.
    """

    size_wh: tuple[int, int]
    maximum: int
    plain: bytes
    start: int


def check_pnm(data: bytes) -> tuple[int, int]:
    """Read a PNM's size.

    Work: one search in the first 4 kB.

    Args:
        data: a file that starts with P4, P5, P6, Pf or PF.

    Returns:
        (width, height) in pixels.

    Raises:
        InvalidImage: the first 4 kB are not a PNM header, its size or maximum value is out of range, or it is PF
            (colours as floats).
    """
    return pnm_header(data).size_wh


def pnm_header(data: bytes) -> PnmHeader:
    """Read the header of a PNM.

        magic      | header                            | pixels
        -----------+-----------------------------------+--------------------------
        P4         | width height                      | bits, 1 is black
        P5, P6     | width height maximum              | grey or RGB, 1 or 2 bytes per sample
        Pf         | width height scale                | grey floats

    Raises:
        InvalidImage: see `check_pnm`.
    """
    match = _PNM_HEADER.match(data[:4096])
    if match is None:
        raise InvalidImage("a broken PPM file: its header is invalid")
    kind, width, height, *last = (group for group in match.groups() if group is not None)
    if kind == b"PF":
        raise InvalidImage("a PPM file of a variant that is not read (PF: colours as floats)")
    if max(len(width), len(height)) > 10:
        raise InvalidImage("a broken PPM file: its size is out of range")
    value = last[0] if last else b""
    maximum = int(value[:10]) if kind in {b"P5", b"P6"} else 0
    if kind in {b"P5", b"P6"} and not 0 < maximum <= 65_535:
        raise InvalidImage("a broken PPM file: its maximum value is not between 1 and 65535")
    plain = b"%b %d %d %b\n" % (kind, int(width), int(height), value)
    return PnmHeader((int(width), int(height)), maximum, plain, match.end())
