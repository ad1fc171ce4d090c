"""The structure of PNG, GIF, WebP, BMP and PNM files: their sizes and parts, and bounds on them. Knows no Pillow."""

from __future__ import annotations

import re
import struct

from serve_app.errors import InvalidImage
from serve_app.images.structure.bounds import MAX_BLOCKS, MAX_GIF_BLOCKS, MAX_PIXEL_CHUNKS, MAX_RLE_BYTES

_PNG_SIGNATURE_BYTES = 8
_PNG_PICTURE = frozenset({b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND"})
_GIF_CONTROL = 0xF9
_SPACE = rb"(?:\s|#[^\r\n]*[\r\n])"
_PNM_HEADER = re.compile(
    rb"(?:(P4)%b+(\d+)%b+(\d+)\s|(P[56])%b+(\d+)%b+(\d+)%b+(255|65535)\s|(P[fF])\s+(\d+)\s+(\d+)\s+([-+.\deE]+)\s)"
    % ((_SPACE,) * 5)
)


def check_png(data: bytes) -> None:
    """Refuse a PNG with thousands of metadata chunks, several profiles, or a self-contradicting animation header.

    Bound: at most MAX_BLOCKS + MAX_PIXEL_CHUNKS steps.

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


def plain_png(data: bytes) -> bytes:
    """Cut a PNG down to the chunks that its picture needs: no text, no profile, no animation.

    Bound: the steps of `check_png`, and one copy of the file.

    Args:
        data: a file that `check_png` let through.

    Returns:
        A PNG of the same pixels and EXIF block; what is broken or truncated stays so.
    """
    position, kept = _PNG_SIGNATURE_BYTES, [data[:_PNG_SIGNATURE_BYTES]]
    while position < len(data):
        length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        if kind in _PNG_PICTURE or len(kind) < 4 or not kind.isalpha():
            kept.append(data[position : position + length + 12])
        if kind == b"IEND":
            break
        position += length + 12
    return b"".join(kept)


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


def check_bmp(data: bytes) -> None:
    """Refuse a run-length-coded BMP over MAX_RLE_BYTES.

    Bound: one comparison. `images.bmp_rle` takes half a step a byte.

    Args:
        data: a file that starts with BM.

    Raises:
        InvalidImage: as said.
    """
    if data[30:34] in {b"\1\0\0\0", b"\2\0\0\0"} and len(data) > MAX_RLE_BYTES:
        raise InvalidImage(f"a run-length-coded BMP file of over {MAX_RLE_BYTES} bytes")


def check_pnm(data: bytes) -> tuple[int, int]:
    """Read a PNM's size; refuse headers over 4 kB and the variants that Pillow reads number by number.

    Bound: one look at the first 4 kB.

    Args:
        data: a file that starts with P4, P5, P6, Pf or PF.

    Returns:
        (width, height) in pixels.

    Raises:
        InvalidImage: no such header, or a maximum value other than 255 and 65535.
    """
    _, width, height, _, _ = _pnm_header(data)
    return width, height


def plain_pnm(data: bytes) -> tuple[bytes, int]:
    """Write a PNM's header anew, without comments.

    Args:
        data: a file that `check_pnm` let through.

    Returns:
        The header, and where the pixels start in `data`.
    """
    kind, width, height, maximum, start = _pnm_header(data)
    return b"%b %d %d %b\n" % (kind, width, height, maximum), start


def _pnm_header(data: bytes) -> tuple[bytes, int, int, bytes, int]:
    """Read kind, width, height, maximum or scale, and where the pixels start."""
    match = _PNM_HEADER.match(data[:4096])
    if match is None:
        raise InvalidImage("a PPM file that is broken, or whose maximum value is neither 255 nor 65535")
    kind, width, height, *maximum = (group for group in match.groups() if group is not None)
    if max(len(width), len(height)) > 10:
        raise InvalidImage("a broken PPM file: its size is out of range")
    return kind, int(width), int(height), maximum[0] if maximum else b"", match.end()
