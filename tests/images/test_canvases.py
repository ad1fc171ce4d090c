"""GIF, WebP, PNM and JPEG: canvases covered in part, small files, any maximum, metadata that is cut off."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from serve_app.config.schema import LimitsConfig
from serve_app.errors import InvalidImage, TooLarge
from serve_app.images.decoding import decode, read_header
from tests.hostile.corpus import encoded, picture

LIMITS = LimitsConfig()
WHITE = [255, 255, 255]
RED, GREEN, BLUE = [255, 0, 0], [0, 255, 0], [0, 0, 255]
TABLE = bytes(GREEN) + bytes(RED)


def gif_codes(indices: list[int]) -> bytes:
    """LZW of two colours that never grows its table: a clear code before every pair."""
    codes = [code for i in range(0, len(indices), 2) for code in (4, *indices[i : i + 2])] + [5]
    bits = sum(code << 3 * place for place, code in enumerate(codes))
    data = bits.to_bytes((3 * len(codes) + 7) // 8, "little")
    return (
        b"\2" + b"".join(bytes([len(data[i : i + 255])]) + data[i : i + 255] for i in range(0, len(data), 255)) + b"\0"
    )


def gif(
    canvas: tuple[int, int],
    frame: tuple[int, int, int, int],
    *,
    version: bytes = b"GIF89a",
    table: bytes = TABLE,
    local: bytes = b"",
    control: bytes = b"",
    background: int = 0,
) -> bytes:
    """A frame of colour 1 at left, top, width, height of a canvas."""
    _, _, width, height = frame
    flags = 0x80 if table else 0
    head = version + struct.pack("<HHBBB", *canvas, flags, background, 0) + table
    place = b"," + struct.pack("<HHHHB", *frame, 0x80 if local else 0) + local
    return head + control + place + gif_codes([1] * (width * height)) + b";"


@pytest.mark.parametrize(
    "frame", [(4, 0, 4, 4), (0, 0, 4, 4), (0, 2, 8, 2), (0, 0, 8, 2), (2, 1, 4, 2), (0, 0, 8, 4)], ids=str
)
@pytest.mark.parametrize(
    ("options", "colour"),
    [
        pytest.param({}, RED, id="global-table"),
        pytest.param({"background": 1}, RED, id="background-colour"),
        pytest.param({"version": b"GIF87a"}, RED, id="gif87a"),
        pytest.param({"local": bytes(GREEN) + bytes(BLUE)}, BLUE, id="local-table"),
        pytest.param({"table": b"", "local": bytes(GREEN) + bytes(BLUE)}, BLUE, id="local-table-alone"),
        pytest.param({"control": b"!\xf9\4\1\0\0\0\0"}, RED, id="transparent-colour-0"),
        pytest.param({"control": b"!\xf9\4\1\0\0\1\0"}, WHITE, id="transparent-colour-1"),
        pytest.param({"control": b"!\xf9\4\x08\0\0\0\0"}, RED, id="disposal"),
        pytest.param({"table": bytes([0, 0, 0, 1, 1, 1])}, [1, 1, 1], id="grey-table"),
    ],
)
def test_what_a_gifs_first_frame_leaves_uncovered_is_white(
    frame: tuple[int, int, int, int], options: dict[str, bytes], colour: list[int]
) -> None:
    expected = np.full((4, 8, 3), 255, np.uint8)
    left, top, width, height = frame
    expected[top : top + height, left : left + width] = colour
    np.testing.assert_array_equal(decode(gif((8, 4), frame, **options), LIMITS), expected)  # type: ignore[arg-type]


def test_a_gif_of_several_bands_is_white_around_its_frame() -> None:
    data = encoded(Image.new("P", (3, 1500), 1), "GIF")
    wide = data[:6] + struct.pack("<HH", 2000, 1700) + data[10:]
    shown = decode(wide, LIMITS)
    assert shown.shape == (1700, 2000, 3)
    assert (shown[:, 3:] == 255).all()
    assert (shown[1500:] == 255).all()
    assert (shown[:1500, :3] == shown[0, 0]).all()


@pytest.mark.parametrize("lossless", [True, False])
def test_what_a_webp_animations_first_frame_leaves_uncovered_is_white(lossless: bool) -> None:
    frame = encoded(Image.new("RGB", (16, 16), (255, 0, 0)), "WEBP", lossless=lossless, quality=100)[12:]
    place = bytes(3) + bytes(3) + (15).to_bytes(3, "little") * 2 + (100).to_bytes(3, "little") + b"\0"
    body = b"ANMF" + struct.pack("<I", len(place) + len(frame)) + place + frame
    canvas = b"VP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + (31).to_bytes(3, "little") + (15).to_bytes(3, "little")
    chunks = b"WEBP" + canvas + b"ANIM" + struct.pack("<I", 6) + bytes(6) + body
    data = b"RIFF" + struct.pack("<I", len(chunks)) + chunks
    shown = decode(data, LIMITS)
    assert shown.shape == (16, 32, 3)
    assert (shown[:, 16:] == 255).all()
    assert np.abs(shown[:, :16].astype(int) - RED).max() < 6


def test_a_lossless_webp_of_28_bytes_is_whole() -> None:
    # A lossless picture whose five codes have one symbol each takes a few bits, whatever its size.
    data = encoded(Image.new("RGB", (10, 10), (9, 8, 7)), "WEBP", lossless=True, exact=True)
    assert len(data) >= 28
    bits = (0x2F, 9 | 9 << 14)
    stream = bytes([bits[0]]) + struct.pack("<I", bits[1])
    # No transform, no colour cache, no meta codes; then for green, red, blue, alpha, distance: a simple code of one
    # symbol of 8 bits: bits 1 (simple), 0 (one symbol), 1 (of 8 bits), symbol. Distance: a symbol of 1 bit.
    written = [(0, 1), (0, 1), (0, 1)]
    for symbol in (50, 200, 100, 255):
        written += [(1, 1), (0, 1), (1, 1), (symbol, 8)]
    written += [(1, 1), (0, 1), (0, 1), (0, 1)]
    number = place = 0
    for value, count in written:
        number |= value << place
        place += count
    stream += number.to_bytes((place + 7) // 8, "little")
    chunk = b"VP8L" + struct.pack("<I", len(stream)) + stream + bytes(len(stream) % 2)
    small = b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk
    assert len(small) < 34
    assert decode(small, LIMITS)[0, 0].tolist() == [200, 50, 100]
    with pytest.raises(InvalidImage, match=r"^truncated$"):
        read_header(small[:24], LIMITS)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"P5 4 1 1023\n" + struct.pack(">4H", 0, 1, 512, 1023), [0, 0, 128, 255], id="10-bits"),
        pytest.param(b"P5 3 1 4095\n" + struct.pack(">3H", 0, 2048, 4095), [0, 128, 255], id="12-bits"),
        pytest.param(b"P5 3 1 256\n" + struct.pack(">3H", 0, 128, 256), [0, 128, 255], id="256"),
        pytest.param(b"P5 3 1 100\n" + bytes([0, 50, 100]), [0, 128, 255], id="100"),
        pytest.param(b"P5 2 1 1\n" + bytes([0, 1]), [0, 255], id="1"),
        pytest.param(b"P5 2 1 15\n" + bytes([15, 200]), [255, 255], id="over-the-maximum"),
        pytest.param(b"P5 2 1 1000\n" + struct.pack(">2H", 1000, 60_000), [255, 255], id="deep-over-the-maximum"),
        pytest.param(b"P5 2 1 65534\n" + struct.pack(">2H", 65_534, 32_767), [255, 128], id="65534"),
        pytest.param(b"P5 2 1 65535\n" + struct.pack(">2H", 65_535, 257), [255, 1], id="65535"),
        pytest.param(b"P5 2 1 00255\n" + bytes([255, 1]), [255, 1], id="leading-zeros"),
    ],
)
def test_a_pgm_may_have_any_maximum(data: bytes, expected: list[int]) -> None:
    shown = decode(data, LIMITS)
    assert shown[0, :, 0].tolist() == expected
    assert (shown == shown[:, :, :1]).all()
    with pytest.raises(InvalidImage, match=r"^truncated$"):
        decode(data[:-1], LIMITS)


def test_a_ppm_may_have_any_maximum() -> None:
    assert decode(b"P6 1 1 31\n" + bytes([31, 0, 8]), LIMITS).tolist() == [[[255, 0, 66]]]
    deep = b"P6 1 1 1023\n" + struct.pack(">3H", 1023, 0, 512)
    assert decode(deep, LIMITS).tolist() == [[[255, 0, 128]]]


@pytest.mark.parametrize("maximum", [b"0", b"65536", b"99999999999999999999"])
def test_a_maximum_out_of_range_is_damage(maximum: bytes) -> None:
    with pytest.raises(InvalidImage, match=r"^a broken PPM file: its maximum value is not between 1 and 65535$"):
        read_header(b"P5 1 1 " + maximum + b"\nab", LIMITS)


def test_floats_of_three_colours_are_a_variant_that_is_not_read() -> None:
    with pytest.raises(InvalidImage, match=r"^a PPM file of a variant that is not read"):
        read_header(b"PF 1 1 -1.0\n" + bytes(12), LIMITS)


JPEG = encoded(picture(), "JPEG")


@pytest.mark.parametrize(
    ("marker", "body"),
    [
        pytest.param(0xED, b"Photoshop 3.0\0" + b"8BIM\x07\xdb", id="photoshop"),
        pytest.param(0xED, b"", id="empty-photoshop"),
        pytest.param(0xEE, b"Adobe\0", id="adobe"),
        pytest.param(0xEE, b"Adobe", id="adobe-without-a-version"),
        pytest.param(0xE0, b"JFIF\0", id="jfif"),
        pytest.param(0xE0, b"JF", id="two-letters-of-jfif"),
        pytest.param(0xE2, b"ICC_PROFILE\0", id="profile"),
        pytest.param(0xE2, b"ICC_PROFILE\0\1", id="profile-without-a-count"),
        pytest.param(0xE2, b"MPF\0II", id="multi-picture"),
        pytest.param(0xE1, b"Exif\0\0II", id="exif"),
        pytest.param(0xE1, b"http://ns.adobe.com/xap", id="xmp"),
        pytest.param(0xEC, b"Ducky", id="ducky"),
        pytest.param(0xFE, b"", id="comment"),
    ],
)
def test_metadata_of_a_jpeg_that_is_cut_off_does_not_matter(marker: int, body: bytes) -> None:
    segment = bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body
    np.testing.assert_array_equal(decode(JPEG[:2] + segment + JPEG[2:], LIMITS), decode(JPEG, LIMITS))


def test_a_jpeg_of_another_kind_is_a_variant_that_is_not_read() -> None:
    at = JPEG.index(b"\xff\xc0")
    hierarchical = JPEG[: at + 1] + b"\xc5" + JPEG[at + 2 :]
    deep = JPEG[: at + 4] + b"\x0c" + JPEG[at + 5 :]
    for data in (hierarchical, deep):
        with pytest.raises(InvalidImage, match=r"^a JPEG file of a variant that is not read"):
            read_header(data, LIMITS)


def test_a_canvas_counts_towards_the_limits_whatever_the_frame_covers() -> None:
    with pytest.raises(TooLarge, match=r"^60000 x 60000 pixels"):
        decode(gif((60_000, 60_000), (0, 0, 2, 2)), LIMITS)


def test_frames_that_reach_beyond_the_canvas_widen_it() -> None:
    shown = decode(gif((4, 4), (2, 0, 4, 2)), LIMITS)
    assert shown.shape == (4, 6, 3)
    assert shown[0, :, 1].tolist() == [255, 255, 0, 0, 0, 0]


def test_pillow_reads_what_these_tests_write() -> None:
    with Image.open(io.BytesIO(gif((8, 4), (4, 0, 4, 4)))) as image:
        assert image.convert("RGB").getpixel((5, 1)) == (255, 0, 0)
