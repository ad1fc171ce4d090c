"""The dearest request of every step an image takes, at the default limits: bodies of POST /v1/segment.

Each is a request that the limits allow, or one that they have to refuse before the work. For a run against a service
whose other requests are watched meanwhile. Built one at a time, as they are asked for: some bodies are of 60 MB.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, features

from tests.hostile.corpus import encoded, picture, png, tiff

IMAGES, ENTITIES = 16, 32
SIDE = 7070  # squared, the limit of 50 megapixels
DONE, REFUSED, UNREADABLE, LATE = 200, 413, 422, 504


@dataclass(frozen=True)
class WorstRequest:
    """A request and what may come of it.

    Attributes:
        name: unique.
        body: JSON body of POST /v1/segment, images as base64.
        statuses: right answers; 504 among them where the work may take longer than `timeout_s`.
    """

    name: str
    body: dict[str, Any]
    statuses: frozenset[int]


def worst_image_requests() -> Iterator[WorstRequest]:
    """Build the requests, one at a time."""
    for name, build, copies, statuses in _FILES:
        yield _request(name, build(), copies, statuses)
    if features.check("avif"):
        yield _request("avif_frame_of_64_mp_called_1_x_1", _avif_frame(), IMAGES, {REFUSED})
    escapes = {"data": "data:," + "%41" * 20_000_000, "name": "escapes"}
    yield WorstRequest("escapes_of_60_mb", _body([escapes]), frozenset({UNREADABLE}))
    one_colour = _png_of_one_colour()
    for mask_format in ("rle", "polygon", "png", "none"):
        changes = {"threshold": 0.0, "mask_format": mask_format, "entities": _entities()}
        yield _request(f"every_mask_as_{mask_format}", one_colour, IMAGES, {DONE, REFUSED, LATE}, **changes)
        yield _request(f"every_mask_of_a_photo_as_{mask_format}", _photo(), IMAGES, {DONE, REFUSED, LATE}, **changes)
    everything = {"threshold": 0.0, "overlays": True, "entities": _entities()}
    yield _request("every_mask_on_overlays", one_colour, IMAGES, {DONE, REFUSED, LATE}, **everything)
    yield _request("every_mask_on_tall_overlays", _png(762, 65_535), IMAGES, {DONE, REFUSED, LATE}, **everything)
    yield _request("overlays_of_noise", _png_of_noise(), 7, {DONE, LATE}, overlays=True)


def _request(name: str, data: bytes, copies: int, statuses: set[int], **changes: Any) -> WorstRequest:
    """Send a file several times; bytes after its end make each another file to a cache."""
    images = [
        {"data": base64.b64encode(data + b"\0" * index).decode("ascii"), "name": f"{name}_{index}"}
        for index in range(copies)
    ]
    return WorstRequest(name, _body(images, **changes), frozenset(statuses))


def _body(images: list[dict[str, str]], **changes: Any) -> dict[str, Any]:
    body = {"prompt": "", "entities": ["dog"], "contextual_images": images[1:], "generated_image": images[0]}
    return {**body, "timeout_s": 60, **changes}


def _entities() -> list[str]:
    return [f"thing number {index}" for index in range(ENTITIES)]


def _png(width: int, height: int, *, depth: int = 8, colour: int = 0, lace: int = 0) -> bytes:
    """One colour, a thousandth of its pixels in bytes."""
    channels = {0: 1, 2: 3, 6: 4}[colour]
    rows = height + (8 * 8 if lace else 0)
    left = rows * (1 + width * channels * depth // 8 + (8 if lace else 0))
    packer, parts = zlib.compressobj(1), []
    block = bytes(1 << 24)
    while left > 0:
        parts.append(packer.compress(block[:left]))
        left -= len(block)
    return png(width, height, (b"IDAT", b"".join([*parts, packer.flush()])), depth=depth, colour=colour, lace=lace)


def _png_of_one_colour() -> bytes:
    return _png(SIDE, SIDE, colour=2)


def _png_of_noise() -> bytes:
    rows = np.random.default_rng(1).integers(0, 256, (SIDE, 1 + -(-SIDE // 8)), np.uint8)
    rows[:, 0] = 0
    return png(SIDE, SIDE, (b"IDAT", zlib.compress(rows.tobytes(), 1)), depth=1, colour=0)


def _photo() -> bytes:
    return encoded(picture(640, 480), "JPEG")


def _rle_bmp(width: int, height: int, runs: bytes) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 1, 1, 2, 2)
    return b"BM" + struct.pack("<IHHI", 62 + len(runs), 0, 0, 62) + info + bytes(8) + runs


def _jpeg_of_many_scans() -> bytes:
    data = encoded(Image.new("RGB", (7000, 7100), (10, 200, 30)), "JPEG", progressive=True, subsampling=0)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (40 - data.count(b"\xff\xda")) + b"\xff\xd9"


def _jpeg_with(marker: int, body: bytes, times: int) -> bytes:
    data = encoded(picture(), "JPEG")
    return data[:2] + (bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body) * times + data[2:]


def _jpeg_of_fill_bytes(junk: bytes) -> bytes:
    data = encoded(picture(), "JPEG", progressive=True)
    return data[:-2] + junk + data[-2:]


def _gif_of_comments() -> bytes:
    data = encoded(picture(mode="P"), "GIF")
    at = 13 + (3 << ((data[10] & 7) + 1))
    return data[:at] + (b"!\xfe" + b"\1a" * 4000 + b"\0") * 4000 + data[at:]


def _webp_of_a_large_canvas() -> bytes:
    frames = [Image.new("RGB", (16, 16), (grey,) * 3) for grey in (0, 99)]
    data = encoded(frames[0], "WEBP", lossless=True, save_all=True, append_images=frames[1:])
    at = data.index(b"VP8X") + 12
    return data[:at] + (SIDE - 1).to_bytes(3, "little") * 2 + data[at + 6 :]


def _avif_frame() -> bytes:
    data = encoded(Image.new("RGB", (8000, 8000), (10, 200, 30)), "AVIF", speed=10)
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", 1, 1) + data[at + 8 :]


def _tiff_of_deep_colours() -> bytes:
    packed = zlib.compress(bytes(49_000_000 * 8), 1)
    tags = [(256, 4, 1, 7000), (257, 4, 1, 7000), (258, 3, 4, 8), (259, 3, 1, 8), (262, 3, 1, 2), (273, 4, 1, 16)]
    tags += [(277, 3, 1, 4), (278, 4, 1, 7000), (279, 4, 1, len(packed)), (338, 3, 1, 2)]
    return tiff(*tags, pixels=struct.pack("<4H", 16, 16, 16, 16) + packed + bytes(len(packed) % 2))


def _tiff_of_a_large_tile() -> bytes:
    packed = zlib.compress(bytes(1_000_000))
    tags = [(256, 4, 1, 1), (257, 4, 1, 1), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)]
    tags += [(322, 4, 1, 40_000), (323, 4, 1, 40_000), (324, 4, 1, 8), (325, 4, 1, len(packed))]
    return tiff(*tags, pixels=packed + bytes(len(packed) % 2))


def _tiff_of_strips_beyond_its_end() -> bytes:
    strips, pixels = 60_000, bytes(24_990_000)
    table = struct.pack("<I", 8) * strips
    tags = [(256, 4, 1, 5000), (257, 4, 1, 5000), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, strips, 8 + len(pixels)), (277, 3, 1, 1), (278, 4, 1, 4998), (279, 4, strips, 8 + len(pixels))]
    # Both tables at one place would overlap, so the second has bytes of its own.
    tags[-1] = (279, 4, strips, 8 + len(pixels) + len(table))
    return tiff(*tags, pixels=pixels + table * 2)


def _tiff_of_many_strips() -> bytes:
    strips = 65_000
    table = struct.pack("<I", 8) * strips
    tags = [(256, 4, 1, 760), (257, 4, 1, strips), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, strips, 1000), (277, 3, 1, 1), (278, 4, 1, 1), (279, 4, strips, 1000 + len(table))]
    return tiff(*tags, pixels=bytes(992) + table * 2)


_FILES: tuple[tuple[str, Callable[[], bytes], int, set[int]], ...] = (
    ("png_of_50_mp", _png_of_one_colour, IMAGES, {DONE, LATE}),
    ("png_of_50_mp_deep", lambda: _png(SIDE, SIDE, depth=16, colour=6), IMAGES, {DONE, LATE}),
    ("png_of_50_mp_interlaced", lambda: _png(SIDE, SIDE, colour=2, lace=1), IMAGES, {DONE, LATE}),
    ("png_1_x_65535", lambda: _png(1, 65_535), IMAGES, {DONE}),
    ("png_65535_x_1", lambda: _png(65_535, 1), IMAGES, {DONE}),
    ("png_504_x_65535", lambda: _png(504, 65_535), IMAGES, {DONE, LATE}),
    ("png_1_x_65536", lambda: _png(1, 65_536), IMAGES, {REFUSED}),
    ("png_1_x_30_million", lambda: _png(1, 30_000_000), IMAGES, {REFUSED}),
    ("bmp_lines_filled", lambda: _rle_bmp(65_000, 769, b"\1\1\0\0" * 769), IMAGES, {DONE, LATE}),
    ("bmp_390000_wide", lambda: _rle_bmp(390_000, 128, b"\1\1\0\0" * 128), IMAGES, {REFUSED}),
    ("bmp_shortest_runs", lambda: _rle_bmp(500, 520, (b"\1\1" * 500 + b"\0\0") * 520), IMAGES, {DONE}),
    ("jpeg_of_40_scans", _jpeg_of_many_scans, IMAGES, {DONE, LATE}),
    ("jpeg_exif_segments", lambda: _jpeg_with(0xE1, b"Exif\0\0" + bytes(8000), 3900), 1, {DONE}),
    ("jpeg_fill_bytes", lambda: _jpeg_of_fill_bytes(b"\xff" * 30_000_000 + b"\0"), 1, {DONE}),
    ("jpeg_stuffed_bytes", lambda: _jpeg_of_fill_bytes(b"\xff\0" * 15_000_000), 1, {DONE}),
    ("jpeg_tables", lambda: _jpeg_with(0xDB, (b"\0" + bytes(range(1, 65))) * 1000, 480), 1, {DONE}),
    ("jpeg_frame_headers", lambda: _jpeg_with(0xC0, b"\x08\0\x20\0\x30\x03" + bytes(65_000), 480), 1, {UNREADABLE}),
    ("gif_of_comments", _gif_of_comments, 1, {UNREADABLE}),
    ("ppm_of_16_bits", lambda: b"P6 2300 2400 65535\n" + bytes(2300 * 2400 * 6), 1, {DONE}),
    ("pgm_comment_in_a_number", lambda: b"P5 12#c\n3 255 #" + b"x" * 30_000_000, 1, {DONE}),
    ("webp_canvas_of_50_mp", _webp_of_a_large_canvas, IMAGES, {DONE, LATE}),
    ("tiff_deep", _tiff_of_deep_colours, IMAGES, {DONE, LATE}),
    ("tiff_large_tile", _tiff_of_a_large_tile, IMAGES, {REFUSED}),
    ("tiff_strips_beyond_its_end", _tiff_of_strips_beyond_its_end, 1, {DONE}),
    ("tiff_many_strips", _tiff_of_many_strips, IMAGES, {DONE, LATE}),
)
