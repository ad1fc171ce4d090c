from __future__ import annotations

import base64
import io
import struct
import threading
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps, features

from serve_app.config.schema import LimitsConfig
from serve_app.errors import GensegError, InvalidImage, TooLarge
from serve_app.images.base64 import decode_base64
from serve_app.images.decoding import ImageHeader, content_key, decode, read_header
from tests.hostile.corpus import HostileCase, cases, encoded, grey_tiff, picture, png, valid_files

LIMITS = LimitsConfig()
CASES = cases()
VALID = valid_files()


def difference(first: np.ndarray, second: np.ndarray) -> float:
    """Mean absolute difference of two pictures, in levels."""
    assert first.shape == second.shape
    return float(np.abs(first.astype(int) - second.astype(int)).mean())


# ---- hostile files -------------------------------------------------------------------------------------------------


def test_cases_are_many_and_the_same_every_time() -> None:
    assert len(CASES) >= 120
    assert [content_key(case.data) for case in CASES] == [content_key(case.data) for case in cases()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_decode_answers_every_hostile_file_with_a_picture_or_an_allowed_error(case: HostileCase) -> None:
    code: str | None
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            header = read_header(case.data, LIMITS)
            pixels = decode(case.data, LIMITS)
            code, message = None, ""
            assert pixels.shape == (header.height, header.width, 3)
            assert pixels.dtype == np.uint8
        except GensegError as error:
            code, message = error.code, error.message
    assert code in case.allowed
    assert len(message.splitlines()) == (0 if code is None else 1)
    assert len(message) < 200
    assert not warned


@pytest.mark.parametrize("case", [case for case in CASES if "100k" in case.name], ids=lambda case: case.name)
def test_read_header_stops_bombs_before_memory_is_taken(case: HostileCase) -> None:
    tracemalloc.start()
    with pytest.raises((TooLarge, InvalidImage)):
        read_header(case.data, LIMITS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000


def test_decode_refuses_what_only_a_global_limit_of_pillow_would_allow() -> None:
    limits = LimitsConfig(max_megapixels=0.001)
    with pytest.raises(TooLarge, match=r"^48 x 32 pixels are over the limit of 0\.001 megapixels$"):
        decode(VALID["png"], limits)


# ---- headers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VALID)
def test_read_header_gives_size_and_format_of_what_decode_gives(name: str) -> None:
    header = read_header(VALID[name], LIMITS)
    kind = {"pgm": "PPM"}.get(name, name.partition("_")[0].upper())
    assert header == ImageHeader(48, 32, kind)
    assert decode(VALID[name], LIMITS).shape == (32, 48, 3)


@pytest.mark.parametrize(
    ("data", "limits", "message"),
    [
        pytest.param(b"", LIMITS, "^empty$", id="empty"),
        pytest.param(b"hello", LIMITS, "^not an image", id="text"),
        pytest.param(VALID["gif"][:12], LIMITS, "^truncated$", id="truncated"),
    ],
)
def test_read_header_says_what_is_wrong(data: bytes, limits: LimitsConfig, message: str) -> None:
    with pytest.raises(InvalidImage, match=message):
        read_header(data, limits)


def test_read_header_counts_bytes_before_anything_else() -> None:
    limits = LimitsConfig(max_image_bytes=10)
    with pytest.raises(TooLarge, match=r"^11 bytes are over the limit of 10 bytes$"):
        read_header(b"not a image", limits)
    with pytest.raises(InvalidImage):
        read_header(b"not a imag", limits)


def test_read_header_names_the_size_and_the_limit() -> None:
    with pytest.raises(TooLarge, match=r"^12000 x 9000 pixels are over the limit of 50 megapixels$"):
        read_header(png(12_000, 9_000), LIMITS)


@pytest.mark.parametrize("cut", [0.5, 0.8])
@pytest.mark.parametrize("name", ["jpeg", "jpeg_progressive", "png", "bmp", "tiff", "webp", "ppm"])
def test_decode_calls_a_truncated_file_invalid(name: str, cut: float) -> None:
    data = VALID[name]
    with pytest.raises(InvalidImage, match=r"^(truncated|a broken \w+ file.*)$"):
        decode(data[: int(len(data) * cut)], LIMITS)


# ---- orientation ---------------------------------------------------------------------------------------------------


def oriented(kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, dict[str, Any]] = {
        "TIFF": {"tiffinfo": {0x0112: orientation}},
        "WEBP": {"exif": exif, "lossless": True},
    }
    return encoded(picture(), kind, **options.get(kind, {"exif": exif}))


ORIENTED_KINDS = ["JPEG", "PNG", "WEBP", "TIFF", *(["AVIF"] if features.check("avif") else [])]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ORIENTED_KINDS)
def test_decode_turns_the_picture_as_viewers_do(kind: str, orientation: int) -> None:
    data = oriented(kind, orientation)
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    pixels = decode(data, LIMITS)
    header = read_header(data, LIMITS)
    assert (header.width, header.height) == shown.size
    np.testing.assert_array_equal(pixels, np.asarray(shown))
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_decode_ignores_an_orientation_that_does_not_exist(orientation: int) -> None:
    np.testing.assert_array_equal(decode(oriented("PNG", orientation), LIMITS), np.asarray(picture()))


@pytest.mark.parametrize("mark", [">", "<"], ids=["big-endian", "little-endian"])
def test_decode_reads_orientation_in_either_byte_order(mark: str) -> None:
    block = (b"MM\0*" if mark == ">" else b"II*\0") + struct.pack(f"{mark}IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    body = b"Exif\0\0" + block
    data = encoded(picture(), "JPEG")
    turned = data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    np.testing.assert_array_equal(decode(turned, LIMITS), np.rot90(decode(data, LIMITS), -1))


# ---- colours -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(encoded(Image.new("RGBA", (2, 2), (200, 0, 0, 0)), "PNG"), (255, 255, 255), id="transparent"),
        pytest.param(encoded(Image.new("RGBA", (2, 2), (200, 0, 0, 255)), "PNG"), (200, 0, 0), id="opaque"),
        pytest.param(encoded(Image.new("RGBA", (2, 2), (0, 0, 0, 51)), "PNG"), (204, 204, 204), id="a-fifth-of-black"),
        pytest.param(encoded(Image.new("LA", (2, 2), (0, 51)), "PNG"), (204, 204, 204), id="grey-alpha"),
        pytest.param(encoded(Image.new("L", (2, 2), 9), "PNG", transparency=9), (255, 255, 255), id="colour-key-grey"),
        pytest.param(
            encoded(Image.new("RGB", (2, 2), (9, 8, 7)), "PNG", transparency=(9, 8, 7)), (255,) * 3, id="colour-key"
        ),
        pytest.param(encoded(Image.new("RGBA", (2, 2), (9, 8, 7, 0)), "GIF"), (255, 255, 255), id="gif-transparent"),
        pytest.param(encoded(Image.new("1", (2, 2), 1), "PNG"), (255, 255, 255), id="one-bit-white"),
        pytest.param(encoded(Image.new("1", (2, 2), 0), "TIFF"), (0, 0, 0), id="one-bit-black"),
        pytest.param(encoded(Image.new("L", (2, 2), 77), "BMP"), (77, 77, 77), id="grey"),
        pytest.param(encoded(Image.new("CMYK", (2, 2), (0, 255, 255, 0)), "TIFF"), (255, 0, 0), id="cmyk-red"),
        pytest.param(
            encoded(Image.new("YCbCr", (16, 16), (255, 128, 128)), "TIFF", compression="jpeg"),
            (255, 255, 255),
            id="ycbcr-white",
        ),
    ],
)
def test_decode_gives_the_colour_a_viewer_shows(data: bytes, expected: tuple[int, int, int]) -> None:
    assert decode(data, LIMITS)[0, 0].tolist() == list(expected)


def test_decode_converts_lab_colours() -> None:
    pixels = decode(encoded(Image.new("LAB", (2, 2), (136, 208, 195)), "TIFF"), LIMITS)  # red, but for the white point
    assert difference(pixels, np.full((2, 2, 3), (255, 0, 0))) < 8


def test_decode_keeps_a_half_transparent_palette() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 0, 0, 0])
    image.putdata([0, 1, 2])
    pixels = decode(encoded(image, "PNG", transparency=bytes([255, 0, 51])), LIMITS)
    assert pixels.tolist() == [[[10, 20, 30], [255, 255, 255], [204, 204, 204]]]


def test_decode_reads_cmyk_jpegs_of_the_adobe_kind() -> None:
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)
    assert b"Adobe" in data
    red, green, blue = decode(data, LIMITS)[8, 8].tolist()
    assert (red > 250, green < 5, blue < 5) == (True, True, True)


RAMP = np.array([[0, 257, 32896, 65535]], np.uint16)
RAMP_8BIT = [0, 1, 128, 255]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(encoded(Image.fromarray(RAMP), "PNG"), RAMP_8BIT, id="png-16"),
        pytest.param(b"P5 4 1 65535\n" + RAMP.astype(">u2").tobytes(), RAMP_8BIT, id="pgm-16"),
        pytest.param(grey_tiff(4, 1, RAMP.astype("<u2").tobytes(), bits=16), RAMP_8BIT, id="tiff-16"),
        pytest.param(
            grey_tiff(4, 1, RAMP.astype("<u2").tobytes(), bits=16, photometric=0),
            [255, 254, 127, 0],
            id="tiff-16-white-is-zero",
        ),
        pytest.param(
            b"P5 4 1 65535\n" + struct.pack(">4H", 0, 20, 100, 200), [0, 0, 0, 1], id="pgm-16-dark-stays-dark"
        ),
        pytest.param(
            grey_tiff(4, 1, struct.pack("<4f", 0, 0.2, 0.4, 1), bits=32, form=3), [0, 51, 102, 255], id="float"
        ),
        pytest.param(grey_tiff(2, 1, struct.pack("<2f", 0.2, 0.4), bits=32, form=3), [51, 102], id="float-in-0-1"),
        pytest.param(
            grey_tiff(3, 1, struct.pack("<3f", -5, 0, 5), bits=32, form=3), [0, 128, 255], id="float-stretched"
        ),
        pytest.param(
            grey_tiff(3, 1, struct.pack("<3f", float("nan"), 0, 1), bits=32, form=3), [0, 0, 255], id="float-nan"
        ),
        pytest.param(grey_tiff(3, 1, struct.pack("<3i", -500, 0, 500), bits=32, form=2), [0, 128, 255], id="int-32"),
    ],
)
def test_decode_scales_deep_greys_and_never_clips(data: bytes, expected: list[int]) -> None:
    pixels = decode(data, LIMITS)
    assert pixels[0, :, 0].tolist() == expected
    assert (pixels == pixels[:, :, :1]).all()


def test_decode_reads_16_bit_colour() -> None:
    row = b"\0" + np.array([[0, 32896, 65535], [65535, 257, 0]], ">u2").tobytes()
    assert decode(png(2, 1, (b"IDAT", zlib.compress(row)), depth=16), LIMITS).tolist() == [[[0, 128, 255], [255, 1, 0]]]


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1"])
def test_decode_agrees_with_pillow_on_every_mode_and_across_bands(mode: str) -> None:
    image = picture(1500, 1400).convert(mode)  # two bands and a bit
    data = encoded(image, "PNG", compress_level=1)
    np.testing.assert_array_equal(decode(data, LIMITS), np.asarray(image.convert("RGB")))


def test_decode_reads_interlaced_png() -> None:
    source = np.asarray(picture(9, 7))
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = [b"\0" + row.tobytes() for x, y, dx, dy in passes for row in source[y::dy, x::dx] if row.size]
    np.testing.assert_array_equal(decode(png(9, 7, (b"IDAT", zlib.compress(b"".join(rows))), lace=1), LIMITS), source)


@pytest.mark.parametrize("name", ["gif_animated", "webp_animated", "png_animated"])
def test_decode_gives_the_first_frame_of_an_animation(name: str) -> None:
    first = np.asarray(picture())
    pixels = decode(VALID[name], LIMITS)
    assert difference(pixels, first) < 12
    assert difference(pixels, first[::-1, ::-1]) > 40


def test_decode_gives_the_first_page_of_a_tiff() -> None:
    data = encoded(picture(), "TIFF", save_all=True, append_images=[picture().rotate(180)])
    np.testing.assert_array_equal(decode(data, LIMITS), np.asarray(picture()))


@pytest.mark.parametrize("name", ["jpeg", "jpeg_progressive", "webp", "tiff_jpeg"])
def test_decode_of_a_lossy_file_is_close_to_what_was_encoded(name: str) -> None:
    assert difference(decode(VALID[name], LIMITS), np.asarray(picture())) < 12


def test_decode_gives_a_photo_in_full_size_and_all_detail() -> None:
    data = encoded(picture(1024, 768), "JPEG", quality=95)
    np.testing.assert_array_equal(decode(data, LIMITS), np.asarray(Image.open(io.BytesIO(data))))


# ---- many threads, little memory -----------------------------------------------------------------------------------


def test_decode_gives_the_same_from_many_threads_and_leaves_pillow_as_it_was() -> None:
    settings = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    files = [*VALID.values()] * 4
    alone = {content_key(data): decode(data, LIMITS) for data in VALID.values()}
    together = threading.Barrier(8)

    def work(index: int) -> None:
        if index < 8:
            together.wait(timeout=10)
        np.testing.assert_array_equal(decode(files[index], LIMITS), alone[content_key(files[index])])
        with pytest.raises(InvalidImage):
            decode(files[index][:40], LIMITS)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(len(files))))
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)) == settings


@pytest.mark.parametrize("side", [10_000, 15_000], ids=["pillow-would-warn", "pillow-would-refuse"])
def test_read_header_allows_what_the_config_allows(side: int) -> None:
    one_bit = Image.new("1", (side, side))
    limits = LimitsConfig(max_megapixels=250)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in ("PNG", "TIFF", "BMP"):
            assert read_header(encoded(one_bit, kind), limits) == ImageHeader(side, side, kind)


def test_decode_allows_what_the_config_allows() -> None:
    data = encoded(Image.new("1", (10_000, 9_000)), "TIFF")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(data, LimitsConfig(max_megapixels=90)).shape == (9_000, 10_000, 3)


def test_decode_holds_no_second_copy_of_a_large_picture() -> None:
    data = encoded(Image.new("RGBA", (3000, 2000), (10, 20, 30, 128)), "PNG", compress_level=1)
    tracemalloc.start()
    decode(data, LIMITS)
    peak = tracemalloc.get_traced_memory()[1]  # NumPy's part; Pillow's picture is not traced
    tracemalloc.stop()
    assert peak < 3000 * 2000 * 3 + 16_000_000


# ---- text to bytes -------------------------------------------------------------------------------------------------

RAW = bytes(range(256)) + b"\xfb\xff"
PLAIN = base64.b64encode(RAW).decode()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(PLAIN, id="plain"),
        pytest.param(PLAIN.rstrip("="), id="no-padding"),
        pytest.param(base64.encodebytes(RAW).decode(), id="line-breaks"),
        pytest.param(PLAIN.replace("A", " \r\n\tA", 3), id="white-space"),
        pytest.param(base64.urlsafe_b64encode(RAW).decode(), id="url-safe"),
        pytest.param(f"data:image/png;base64,{PLAIN}", id="data-uri"),
        pytest.param(f"DATA:image/png;name=a.png;BASE64,{PLAIN}", id="data-uri-upper-case"),
        pytest.param("data:;base64," + PLAIN.replace("+", "%2B").replace("/", "%2F"), id="data-uri-escaped-base64"),
        pytest.param("data:image/png," + "".join(f"%{byte:02x}" for byte in RAW), id="data-uri-percent"),
    ],
)
def test_decode_base64_reads_every_form(text: str) -> None:
    assert decode_base64(text, len(RAW)) == RAW


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param(" \n", id="blanks"),
        pytest.param("====", id="padding"),
        pytest.param("data:image/png;base64,", id="empty-uri"),
        pytest.param("data:,", id="empty-percent-uri"),
        pytest.param("A", id="one-letter"),
        pytest.param("AAAAA", id="five-letters"),
        pytest.param("AAA*", id="star"),
        pytest.param("AA=A", id="padding-inside"),
        pytest.param("AAÄA", id="not-ascii"),
        pytest.param("https://example.com/a.png", id="url"),
        pytest.param("data:image/png;base64", id="uri-without-comma"),
    ],
)
def test_decode_base64_refuses_what_is_none(text: str) -> None:
    with pytest.raises(InvalidImage):
        decode_base64(text, 1000)


@pytest.mark.parametrize("size", [1, 2, 3, 100, 101, 102])
@pytest.mark.parametrize("padded", [True, False])
def test_decode_base64_is_exact_at_its_limit(size: int, padded: bool) -> None:
    text = base64.encodebytes(bytes(size)).decode()
    text = text if padded else text.replace("=", "")
    assert decode_base64(text, size) == bytes(size)
    with pytest.raises(TooLarge, match=rf"^{size} bytes are over the limit of {size - 1} bytes$"):
        decode_base64(text, size - 1)


@pytest.mark.parametrize("prefix", ["", "data:;base64,", "data:,"])
def test_decode_base64_checks_the_limit_before_it_decodes(prefix: str) -> None:
    text = prefix + "A" * 20_000_000
    tracemalloc.start()
    with pytest.raises(TooLarge):
        decode_base64(text, 1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 21_000_000  # at most the cut-off text, nothing decoded


def test_content_key_differs_where_bytes_differ() -> None:
    assert content_key(b"a") == content_key(b"a") != content_key(b"b")
    assert len(content_key(b"")) == 32
