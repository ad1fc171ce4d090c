"""Reads the frame header and EXIF block of a JPEG, and limits its segments and scans.

A JPEG is a series of segments: FF, a marker, a length of 2 bytes (which counts itself), and contents.

    marker           | segment
    -----------------+--------------------------------------------------------------------------
    D8, D9           | start and end of the picture; without length
    C0 to CF         | frame header: bits per sample, height, width, components (not C4, C8 and CC)
    DA               | start of a scan; pixel data follow, in which FF is written as FF 00
    01, D0 to D7     | TEM and RST; without length
    E1               | APP1, which has EXIF

Source: ITU-T T.81, annex B; Exif 2.32 (APP1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from serve_app.errors import InvalidImage
from serve_app.images.structure.bounds import MAX_BLOCKS, MAX_SCANS

# Matches up to the next marker that is followed by a length (not TEM, RST or FF 00). The possessive repetitions (`++`)
# and `match` instead of `search` make the regex read each byte once. A marker may begin with any number of FF bytes; a
# search that tries each of them as a start would need quadratic time.
_MARKER = re.compile(rb"(?:[^\xff]++|\xff++[\x00\x01\xd0-\xd7])*+\xff++([^\x00\x01\xff\xd0-\xd7])")
_SOS, _EOI, _APP1 = 0xDA, 0xD9, 0xE1
_SEQUENTIAL_FRAMES = frozenset({0xC0, 0xC1, 0xC9})
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_READ_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA})  # sequential, progressive, lossless; arithmetic
_READ_COLOURS = frozenset({1, 3, 4})
_MANY = b"\xff"
_EXIF = b"Exif\0\0"


@dataclass(frozen=True)
class JpegHeader:
    """The parts of a JPEG before its first scan.

    Attributes:
        frame: a JPEG that has only the frame header: size and number of colours, but no pixels and metadata.
        exif: the EXIF block, joined from its segments; empty if the file has none.
    """

    frame: bytes
    exif: bytes


def check_jpeg_header(data: bytes) -> JpegHeader:
    """Read a JPEG's header, and refuse too many segments, or bytes between them, before its first scan.

    Work: at most `MAX_BLOCKS` steps. Memory: one copy of the EXIF block.

    Args:
        data: a file that starts with FF D8.

    Raises:
        InvalidImage: the structure is broken; no scan follows within `MAX_BLOCKS` segments; or the frame is
            hierarchical, has not 8 bits per sample, or has a number of colours other than 1, 3 and 4.
    """
    position, frame = 2, b""
    exif: list[bytes] = []
    for _ in range(MAX_BLOCKS):
        match = _MARKER.match(data, position, position + MAX_BLOCKS)
        if match is None or match[1][0] == _EOI:
            break
        marker, body = match[1][0], match.end() + 2
        position = match.end() + int.from_bytes(data[match.end() : body], "big")
        if marker == _SOS and frame:
            return JpegHeader(b"\xff\xd8" + frame + b"\xff\xda\0\2", b"".join(exif))
        if marker == _SOS:
            break
        if marker in _FRAMES:
            colours = data[body + 5] if body + 5 < len(data) else 0
            if position != body + 6 + 3 * colours or position > len(data):
                raise InvalidImage("a broken JPEG file: its frame header is invalid")
            if marker not in _READ_FRAMES or data[body] != 8 or colours not in _READ_COLOURS:
                raise InvalidImage("a JPEG file of a variant that is not read (hierarchical, or not of 8 bits)")
            frame = data[match.end() - 2 : position]
        elif marker == _APP1 and data.startswith(_EXIF, body):
            exif.append(data[body + (len(_EXIF) if exif else 0) : position])
    else:
        raise InvalidImage("a broken JPEG file: too many segments")
    raise InvalidImage("a broken JPEG file: no picture in it")


def check_jpeg_scans(data: bytes) -> None:
    """Refuse a JPEG with many scans, because each scan costs a pass over all pixels.

    Work: one search through the file, and at most `MAX_BLOCKS` steps.

    Args:
        data: a file that passed `check_jpeg_header`. Bytes after its end marker (a second picture, a video) are
            ignored.

    Raises:
        InvalidImage: the file has more than `MAX_SCANS` scans or `MAX_BLOCKS` segments.
    """
    position, scans, needed = 2, 0, _MANY
    for _ in range(MAX_BLOCKS):
        match = _MARKER.match(data, position)
        if match is None or match[1][0] == _EOI:
            return
        marker, body = match[1][0], match.end() + 2
        if marker in _FRAMES:
            needed = data[body + 5 : body + 6] if marker in _SEQUENTIAL_FRAMES else _MANY
        elif marker == _SOS:
            scans += 1
            if scans == 1 and data[body : body + 1] == needed:
                return  # a sequential frame with all components in its first scan: libjpeg stops here
        if scans > MAX_SCANS:
            raise InvalidImage(f"a JPEG file with more than {MAX_SCANS} scans")
        position = match.end() + int.from_bytes(data[match.end() : body], "big")
    raise InvalidImage("a broken JPEG file: too many segments")
