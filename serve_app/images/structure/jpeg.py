"""The structure of a JPEG file: its frame header and EXIF block, and bounds on its segments and scans. Knows no Pillow.

Source: ITU-T T.81, annex B.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from serve_app.errors import InvalidImage
from serve_app.images.structure.bounds import MAX_BLOCKS, MAX_SCANS

# Up to the next marker that a length follows: not TEM and RST, which stand alone, nor FF 00, which is a byte of pixel
# data. Possessive (`++`), and matched from where the search starts, so each byte is looked at once: a marker may be
# filled up with any number of FF, and a search that tries each of them as a start takes time with their square.
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
    """What a JPEG says before its first scan.

    Attributes:
        frame: a JPEG of the frame header alone, without pixels and metadata: size and number of colours.
        exif: the EXIF block, joined where it takes several segments; empty where there is none.
    """

    frame: bytes
    exif: bytes


def check_jpeg_header(data: bytes) -> JpegHeader:
    """Read a JPEG's header, and refuse thousands of segments, or bytes between them, before its first scan.

    Bound: at most MAX_BLOCKS steps, and one copy of the EXIF block, which is at most the file.

    Args:
        data: a file that starts with FF D8.

    Raises:
        InvalidImage: the structure is broken, no scan follows within MAX_BLOCKS segments, or the frame is
            hierarchical, not of 8 bits a sample, or of a number of colours other than 1, 3 and 4.
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
    """Refuse a JPEG whose many scans would each pass over all pixels again.

    Bound: one search through the file, and MAX_BLOCKS steps.

    Args:
        data: a file that `check_jpeg_header` let through. Bytes after its end marker (a second picture, a video) do
            not count.

    Raises:
        InvalidImage: over MAX_SCANS scans, or over MAX_BLOCKS segments.
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
                return  # sequential, with all components in its first scan: libjpeg reads no further
        if scans > MAX_SCANS:
            raise InvalidImage(f"a JPEG file of over {MAX_SCANS} scans")
        position = match.end() + int.from_bytes(data[match.end() : body], "big")
    raise InvalidImage("a broken JPEG file: too many segments")
