"""BMPs whose pixels masks divide: any masks, any header, and alpha only where a pixel has some."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from serve_app.config.schema import LimitsConfig
from serve_app.errors import InvalidImage, TooLarge
from serve_app.images.decoding import decode, read_header

LIMITS = LimitsConfig()
WHITE = [255, 255, 255]


def bmp(
    lines: list[list[int]],
    bits: int,
    masks: tuple[int, ...] = (),
    *,
    header: int = 108,
    top_down: bool = False,
    compression: int = 3,
) -> bytes:
    """Write numbers as the pixels of a BMP, given from the top line on."""
    height, width = len(lines), len(lines[0])
    code = {16: "H", 32: "I"}[bits]
    stored = [struct.pack(f"<{width}{code}", *line) for line in (lines if top_down else lines[::-1])]
    body = b"".join(line + bytes(-len(line) % 4) for line in stored)
    info = struct.pack(
        "<IiiHHIIiiII", header, width, -height if top_down else height, 1, bits, compression, 0, 0, 0, 0, 0
    )
    named = struct.pack(f"<{len(masks)}I", *masks)
    info = (info + named).ljust(header, b"\0") if header > 40 else info + named
    return b"BM" + struct.pack("<IHHI", 14 + len(info) + len(body), 0, 0, 14 + len(info)) + info + body


RGBA = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
RED = 0x00FF0000
HEADERS = [56, 108, 124]


@pytest.mark.parametrize("top_down", [False, True])
@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize(
    ("masks", "red"),
    [(RGBA, RED), ((0xFF, 0xFF00, 0xFF0000, 0xFF000000), 0xFF), ((0xFF000000, 0xFF0000, 0xFF00, 0xFF), 0xFF << 24)],
)
def test_alpha_of_0_everywhere_is_no_alpha(header: int, top_down: bool, masks: tuple[int, ...], red: int) -> None:
    data = bmp([[red, red], [red, 0]], 32, masks, header=header, top_down=top_down)
    assert decode(data, LIMITS).tolist() == [[[255, 0, 0], [255, 0, 0]], [[255, 0, 0], [0, 0, 0]]]


@pytest.mark.parametrize("header", HEADERS)
def test_alpha_counts_where_one_pixel_has_some(header: int) -> None:
    data = bmp([[RED, RED | 0xFF000000, 0x33000000]], 32, RGBA, header=header)
    assert decode(data, LIMITS).tolist() == [[WHITE, [255, 0, 0], [204, 204, 204]]]


def test_alpha_masks_follow_a_short_header_of_the_newer_kind() -> None:
    data = bmp([[RED, RED | 0xFF000000]], 32, RGBA, header=40, compression=6)
    assert decode(data, LIMITS).tolist() == [[WHITE, [255, 0, 0]]]
    data = bmp([[RED, RED | 0xFF000000]], 32, RGBA[:3], header=40)
    assert decode(data, LIMITS).tolist() == [[[255, 0, 0], [255, 0, 0]]]


def test_without_masks_the_fourth_byte_is_no_alpha() -> None:
    assert decode(bmp([[RED, RED | 0x80000000]], 32, header=108, compression=0), LIMITS).tolist() == [[[255, 0, 0]] * 2]


@pytest.mark.parametrize(
    ("bits", "masks", "pixels", "expected"),
    [
        pytest.param(
            16,
            (0xF00, 0xF0, 0xF, 0xF000),
            [0xFF00, 0xF0F0, 0x700F],
            [[255, 0, 0], [0, 255, 0], [136, 136, 255]],
            id="4444",
        ),
        pytest.param(
            16, (0xF00, 0xF0, 0xF), [0x0F00, 0x0080, 0x0001], [[255, 0, 0], [0, 136, 0], [0, 0, 17]], id="444"
        ),
        pytest.param(
            16, (0x7C00, 0x3E0, 0x1F, 0x8000), [0xFC00, 0x801F, 0x7FFF], [[255, 0, 0], [0, 0, 255], WHITE], id="5551"
        ),
        pytest.param(
            16, (0xF800, 0x7E0, 0x1F), [0xF800, 0x0400, 0x0010], [[255, 0, 0], [0, 130, 0], [0, 0, 132]], id="565"
        ),
        pytest.param(
            32,
            (0x3FF00000, 0xFFC00, 0x3FF),
            [0x3FF00000, 512 << 10, 1],
            [[255, 0, 0], [0, 128, 0], [0, 0, 0]],
            id="10-bits",
        ),
        pytest.param(
            32,
            (0xFFFF0000, 0xFF00, 0xFF),
            [0x80000000, 0xFF00, 0xFF],
            [[128, 0, 0], [0, 255, 0], [0, 0, 255]],
            id="16-8-8",
        ),
        pytest.param(
            32, (0xFFFFFFFF, 0, 0), [0xFFFFFFFF, 0x80000000, 0xFFFF], [[255, 0, 0], [128, 0, 0], [0, 0, 0]], id="32-0-0"
        ),
        pytest.param(
            32, (0xFF0000, 0, 0xFF), [0xFFFFFF, 0xFF00, 0xFF], [[255, 0, 255], [0, 0, 0], [0, 0, 255]], id="no-green"
        ),
        pytest.param(16, (), [0x7C00, 0x3E0, 0x1F], [[255, 0, 0], [0, 255, 0], [0, 0, 255]], id="555-without-masks"),
    ],
)
def test_masks_of_any_width_are_scaled(
    bits: int, masks: tuple[int, ...], pixels: list[int], expected: list[list[int]]
) -> None:
    data = bmp([pixels], bits, masks, header=108, compression=3 if masks else 0)
    assert decode(data, LIMITS)[0].tolist() == expected


def test_a_mask_with_gaps_is_a_variant_that_is_not_read() -> None:
    with pytest.raises(InvalidImage, match=r"^a BMP file of a variant that is not read \(the bits of a colour"):
        read_header(bmp([[0]], 32, (0xF0F000, 0xFF00, 0xFF)), LIMITS)


@pytest.mark.parametrize("bits", [16, 32])
def test_pixels_that_end_early_are_truncated(bits: int) -> None:
    data = bmp([[0] * 5] * 4, bits, (0xF00, 0xF0, 0xF, 0xF000))
    decode(data[:-2] if bits == 16 else data, LIMITS)  # the last line's filling may be missing
    for cut in (3, 9, 30):
        with pytest.raises(InvalidImage, match=r"^truncated$"):
            decode(data[:-cut], LIMITS)


def test_masks_do_not_pass_the_limits() -> None:
    data = bmp([[0]], 32, RGBA)
    huge = data[:18] + struct.pack("<ii", 60_000, 60_000) + data[26:]
    for read in (read_header, decode):
        with pytest.raises(TooLarge, match=r"^60000 x 60000 pixels"):
            read(huge, LIMITS)


def test_a_palette_of_more_colours_than_pixels_can_name_is_read() -> None:
    info = struct.pack("<IiiHHIIiiII", 40, 2, 1, 1, 8, 0, 0, 0, 0, 300, 0)
    palette = b"".join(struct.pack("<BBBB", index % 256, 0, 0, 0) for index in range(300))
    data = b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + len(palette)) + info + palette + bytes([7, 200, 0, 0])
    assert decode(data, LIMITS)[0].tolist() == [[0, 0, 7], [0, 0, 200]]


@pytest.mark.parametrize(
    ("at", "value"), [(14, 66), (28, 2), (28, 64), (30, 4), (30, 5)], ids=["header", "2-bit", "64-bit", "jpeg", "png"]
)
def test_other_kinds_are_variants_that_are_not_read(at: int, value: int) -> None:
    data = bytearray(bmp([[0] * 40] * 4, 32, header=40, compression=0))
    data[at : at + 2] = struct.pack("<H", value)
    with pytest.raises(InvalidImage, match=r"^a BMP file of a variant that is not read$"):
        read_header(bytes(data), LIMITS)


def test_any_masks_give_a_picture_or_invalid_image() -> None:
    rng = np.random.default_rng(4)
    for _ in range(300):
        bits = int(rng.choice([16, 32]))
        masks = tuple(int(mask) for mask in rng.integers(0, 2**32, 4) & rng.integers(0, 2**32, 4))
        if rng.integers(2):
            masks = tuple(
                ((1 << int(rng.integers(0, 33))) - 1) << int(rng.integers(0, 8)) & 0xFFFFFFFF for _ in range(4)
            )
        data = bmp([[int(value) for value in rng.integers(0, 2**16, 3)]], bits, masks)
        try:
            assert decode(data, LIMITS).shape == (1, 3, 3)
        except InvalidImage:
            continue
