"""What a PNG's viewer shows: the transparent colour in the file's own depth, and no chunk but the picture's matters."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serve_app.config.schema import LimitsConfig
from serve_app.errors import InvalidImage
from serve_app.images.decoding import decode, read_header
from tests.hostile.corpus import png

LIMITS = LimitsConfig()
WHITE = [255, 255, 255]
SHOWN_OF_DEPTH = {1: 255, 2: 85, 4: 17, 8: 1}


def packed(samples: list[int], depth: int) -> bytes:
    """One line of a picture, its filter byte first."""
    bits = "".join(format(sample, f"0{depth}b") for sample in samples)
    bits += "0" * (-len(bits) % 8)
    return b"\0" + bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))


def keyed(samples: list[int], depth: int, colour: int, key: bytes, *before: tuple[bytes, bytes]) -> list[list[int]]:
    width = len(samples) // {0: 1, 2: 3, 3: 1}[colour]
    pixels = (b"IDAT", zlib.compress(packed(samples, depth)))
    data = png(width, 1, *before, (b"tRNS", key), pixels, depth=depth, colour=colour)
    assert read_header(data, LIMITS).width == width
    shown: list[list[int]] = decode(data, LIMITS)[0].tolist()
    return shown


@pytest.mark.parametrize(
    ("depth", "key"), [(depth, key) for depth in (1, 2, 4, 8) for key in sorted({0, 1, 2 ** (depth - 1), 2**depth - 1})]
)
def test_a_grey_key_is_compared_in_the_files_own_depth(depth: int, key: int) -> None:
    samples = list(range(2**depth))
    expected = [[sample * SHOWN_OF_DEPTH[depth]] * 3 if sample != key else WHITE for sample in samples]
    assert keyed(samples, depth, 0, struct.pack(">H", key)) == expected


@pytest.mark.parametrize("key", [0, 1, 0x1234, 0x1235, 0xFF00, 0xFFFF])
def test_a_grey_key_of_16_bits_is_compared_in_all_of_them(key: int) -> None:
    samples = [0, 1, 0x1234, 0x1235, 0xFF00, 0xFFFF]
    expected = [[0] * 3, [0] * 3, [18] * 3, [18] * 3, [254] * 3, WHITE]
    expected[samples.index(key)] = WHITE
    assert keyed(samples, 16, 0, struct.pack(">H", key)) == expected


def test_an_rgb_key_of_16_bits_is_compared_in_all_of_them() -> None:
    pixels = [(0x1234, 0x5678, 0x9ABC), (0x3400, 0x7800, 0xBC00), (0x1234, 0x5678, 0x9ABD), (0x1200, 0x5600, 0x9A00)]
    shown = keyed([sample for pixel in pixels for sample in pixel], 16, 2, struct.pack(">3H", *pixels[0]))
    assert shown == [WHITE, [0x34, 0x78, 0xBC], [0x12, 0x56, 0x9A], [0x12, 0x56, 0x9A]]


def test_near_black_is_not_black_to_a_key_of_16_bits() -> None:
    assert keyed([0, 0, 0, 1, 2, 3], 16, 2, bytes(6)) == [WHITE, [0, 0, 0]]


def test_an_rgb_key_of_8_bits_wants_all_three_colours() -> None:
    assert keyed([9, 8, 7, 9, 8, 6, 8, 8, 7], 8, 2, struct.pack(">3H", 9, 8, 7)) == [WHITE, [9, 8, 6], [8, 8, 7]]


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_palettes_transparency_goes_by_the_index(depth: int) -> None:
    palette = (b"PLTE", bytes([10, 20, 30, 40, 50, 60]))
    assert keyed([0, 1], depth, 3, bytes([255, 0]), palette) == [[10, 20, 30], WHITE]


@pytest.mark.parametrize("lace", [0, 1])
def test_a_key_works_across_bands_and_in_interlaced_files(lace: int) -> None:
    width, height = (1500, 1400) if not lace else (3, 1)
    samples = np.zeros((height, width), ">u2")
    samples[:, 1] = 0x0102
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    if lace:  # of three pixels of one line, each comes in a pass of its own
        rows = b"".join(b"\0" + samples[0, x : x + 1].tobytes() for x in (0, 2, 1))
    data = png(width, height, (b"tRNS", b"\1\2"), (b"IDAT", zlib.compress(rows, 1)), depth=16, colour=0, lace=lace)
    shown = decode(data, LIMITS)
    assert (shown[:, 1] == 255).all()
    assert (shown[:, [0, 2]] == 0).all()


RED = (b"IDAT", zlib.compress(b"\0\xff\0\0"))


def raw_chunk(kind: bytes, body: bytes, *, sound: bool = True) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ (not sound))


@pytest.mark.parametrize("behind", [False, True], ids=["before-pixels", "behind-pixels"])
@pytest.mark.parametrize(
    "chunk",
    [
        pytest.param(raw_chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(3_000_000))), id="large-profile"),
        pytest.param(raw_chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(9))) * 2, id="two-profiles"),
        pytest.param(raw_chunk(b"zTXt", b"workflow\0\0" + zlib.compress(bytes(1_000_000))) * 70, id="many-texts"),
        pytest.param(raw_chunk(b"iTXt", b"w\0\1\0\0\0" + zlib.compress(bytes(3_000_000))), id="international-text"),
        pytest.param(raw_chunk(b"pHYs", b"\0"), id="short-physical-size"),
        pytest.param(raw_chunk(b"gAMA", bytes(9)), id="long-gamma"),
        pytest.param(raw_chunk(b"cHRM", b"\0"), id="short-chromaticities"),
        pytest.param(raw_chunk(b"sRGB", b""), id="empty-intent"),
        pytest.param(raw_chunk(b"acTL", bytes(8)), id="animation-of-no-frame"),
        pytest.param(raw_chunk(b"acTL", b"\0\0\0\1\0\0\0\0") * 2, id="two-animation-headers"),
        pytest.param(raw_chunk(b"acTL", b"\xff"), id="short-animation-header"),
        pytest.param(raw_chunk(b"fcTL", bytes(26)), id="frame-without-animation"),
        pytest.param(raw_chunk(b"tIME", b"x", sound=False), id="wrong-checksum"),
        pytest.param(raw_chunk(b"eXIf", b"II*\0", sound=False), id="exif-of-wrong-checksum"),
        pytest.param(raw_chunk(b"tRNS", b"\0"), id="short-transparency"),
        pytest.param(raw_chunk(b"tRNS", b"\0\xff\0\0\0\0", sound=False), id="transparency-of-wrong-checksum"),
        pytest.param(raw_chunk(b"PLTE", b"\0\0"), id="short-palette-of-a-picture-without"),
    ],
)
def test_no_chunk_but_the_pictures_matters(chunk: bytes, behind: bool) -> None:
    data = png(1, 1, RED)
    at = len(data) - 12 if behind else 33
    assert decode(data[:at] + chunk + data[at:], LIMITS).tolist() == [[[255, 0, 0]]]


@pytest.mark.parametrize("behind", [False, True])
def test_orientation_is_read_before_and_behind_the_pixels(behind: bool) -> None:
    exif = (b"eXIf", b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0))
    row = (b"IDAT", zlib.compress(b"\0\x10\x20"))
    data = png(2, 1, *((row, exif) if behind else (exif, row)), colour=0)
    assert (read_header(data, LIMITS).width, read_header(data, LIMITS).height) == (1, 2)
    assert decode(data, LIMITS)[:, 0, 0].tolist() == [16, 32]


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_palettes_pixels_without_a_palette_before_them_are_refused(depth: int) -> None:
    palette, row = (b"PLTE", bytes([10, 20, 30, 40, 50, 60])), (b"IDAT", zlib.compress(packed([0, 1], depth)))
    whole = png(2, 1, palette, row, depth=depth, colour=3)
    assert decode(whole, LIMITS)[0].tolist() == [[10, 20, 30], [40, 50, 60]]
    for chunks in ([row], [row, palette], [(b"PLTE", b""), row]):
        data = png(2, 1, *chunks, depth=depth, colour=3)
        for read in (read_header, decode):
            with pytest.raises(InvalidImage, match=r"^a broken PNG file: no palette before its pixels$"):
                read(data, LIMITS)


def test_damage_in_the_pictures_own_chunks_is_damage() -> None:
    data = png(1, 1, RED)
    with pytest.raises(InvalidImage, match=r"^a broken PNG file$"):
        decode(data[:29] + b"\0\0\0\0" + data[33:], LIMITS)  # the checksum of the header


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P", "I;16"])
def test_a_picture_without_a_key_keeps_its_white_and_black(mode: str) -> None:
    buffer = io.BytesIO()
    white: Any = {"I;16": 65_535, "RGB": (255, 255, 255), "1": 1}.get(mode, 255)
    image = Image.new(mode, (2, 1), 0)
    image.putpixel((1, 0), white)
    image.save(buffer, "PNG")
    expected = [[0] * 3, [0] * 3 if mode == "P" and image.convert("RGB").getpixel((1, 0)) == (0, 0, 0) else WHITE]
    assert decode(buffer.getvalue(), LIMITS)[0].tolist() == expected
