from __future__ import annotations

import contextlib
import random
import struct
import time
import zlib
from collections.abc import Callable

import pytest

from serve_app.errors import InvalidImage
from serve_app.images.structure import bmp, containers, jpeg, tiff
from serve_app.images.structure import png as png_structure
from tests.hostile.corpus import encoded, grey_tiff, picture, valid_files

VALID = valid_files()
WALKERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "jpeg_header": (jpeg.check_jpeg_header, b"\xff\xd8\xff"),
    "jpeg_scans": (jpeg.check_jpeg_scans, b"\xff\xd8\xff"),
    "png": (png_structure.check_png, b"\x89PNG\r\n\x1a\n"),
    "gif": (containers.gif_size, b"GIF89a"),
    "webp": (containers.webp_size, b"RIFF\0\0\0\0WEBP"),
    "webp_exif": (containers.webp_exif, b"RIFF\0\0\0\0WEBP"),
    "bmp": (bmp.check_bmp, b"BM"),
    "pnm": (containers.check_pnm, b"P6"),
    "tiff_little": (tiff.check_tiff, b"II*\0"),
    "tiff_big_endian": (tiff.check_tiff, b"MM\0*"),
    "tiff_big": (tiff.check_tiff, b"II+\0"),
    "exif": (tiff.exif_orientation, b"Exif\0\0II*\0"),
}


@pytest.mark.parametrize(("walk", "magic"), WALKERS.values(), ids=WALKERS)
def test_walkers_meet_any_bytes_with_an_answer_or_invalid_image(walk: Callable[[bytes], object], magic: bytes) -> None:
    rng = random.Random(3)
    for length in [0, 1, 2, 5, 9, 13, 30, 60, 200, 2000] * 20:
        body = rng.choices([rng.randbytes(length), bytes(length), b"\xff" * length, b"!,\2\xda" * length], k=1)[0]
        with contextlib.suppress(InvalidImage):  # any other exception fails the test
            walk(magic + body)


@pytest.mark.parametrize(
    ("walk", "data"),
    [
        pytest.param(jpeg.check_jpeg_header, b"\xff\xd8" + b"\xff\xfe\0\2" * 2_000_000, id="jpeg-segments"),
        pytest.param(jpeg.check_jpeg_header, b"\xff\xd8\xff" + bytes(8_000_000), id="jpeg-junk"),
        pytest.param(jpeg.check_jpeg_scans, b"\xff\xd8" + b"\xff\xfe\0\2" * 2_000_000, id="jpeg-segments-in-scans"),
        pytest.param(
            png_structure.check_png, b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0teSt\0\0\0\0" * 700_000, id="png-chunks"
        ),
        pytest.param(containers.gif_size, b"GIF89a" + bytes(7) + b"!\xfe" + b"\1a" * 4_000_000, id="gif-comment"),
        pytest.param(containers.gif_size, b"GIF89a" + bytes(7) + b"!\xfe\0" * 2_000_000, id="gif-extensions"),
        pytest.param(containers.gif_size, b"GIF89a" + b"\1" * 8_000_000, id="gif-junk"),
        pytest.param(containers.check_pnm, b"P6" + b" " * 8_000_000, id="pnm-blanks"),
        pytest.param(containers.check_pnm, b"P6" + b"#\n" * 4_000_000, id="pnm-comments"),
        pytest.param(tiff.check_tiff, b"II*\0\x08\0\0\0\xff\xff" + bytes(8_000_000), id="tiff-tags"),
    ],
)
def test_walkers_give_up_soon_on_files_of_many_megabytes(walk: Callable[[bytes], object], data: bytes) -> None:
    begin = time.process_time()
    with pytest.raises(InvalidImage):
        walk(data)
    assert time.process_time() - begin < 1.0  # milliseconds, where a walk to the end takes many seconds


@pytest.mark.parametrize("name", [name for name in VALID if name.startswith("jpeg")])
def test_check_jpeg_scans_lets_real_files_through(name: str) -> None:
    jpeg.check_jpeg_header(VALID[name])
    jpeg.check_jpeg_scans(VALID[name])


def test_check_jpeg_scans_stops_counting_at_the_end_of_the_picture() -> None:
    progressive = encoded(picture(), "JPEG", progressive=True)
    jpeg.check_jpeg_scans(progressive + b"\xff\xda\0\2" * 1000)
    with pytest.raises(InvalidImage, match=r"^a JPEG file with more than 40 scans$"):
        jpeg.check_jpeg_scans(progressive[:-2] + b"\xff\xda\0\2" * 41 + b"\xff\xd9")


def test_gif_size_covers_canvas_and_first_frame() -> None:
    canvas = b"GIF89a" + struct.pack("<HHBBB", 10, 20, 0, 0, 0)
    frame = struct.pack("<BHHHHB", 0x2C, 5, 0, 8, 9, 0)
    assert containers.gif_size(canvas + b"!\xf9\4\0\0\0\0\0" + frame) == (13, 20)


@pytest.mark.parametrize("name", ["webp", "webp_lossless", "webp_animated"])
def test_webp_size_reads_every_variant(name: str) -> None:
    assert containers.webp_size(VALID[name]) == (48, 32)


@pytest.mark.parametrize(
    ("data", "accepted"),
    [
        (b"P6 1 1 255\nabc", True),
        (b"P6\n# a comment\n1 1\n# another\n255\nabc", True),
        (b"P5 1 1 65535\nab", True),
        (b"P4 8 1\n\0", True),
        (b"Pf 1 1 -1.0\nabcd", True),
        (b"P6 1 1 1023\nabcdef", True),
        (b"P5 1 1 1\na", True),
        (b"P5 1 1 0\na", False),
        (b"P5 1 1 65536\nab", False),
        (b"PF 1 1 -1.0\nabcdefghijkl", False),
        (b"P6 1 1\n", False),
        (b"P6 x y 255\n", False),
    ],
)
def test_check_pnm_accepts_binary_files_of_any_maximum(data: bytes, accepted: bool) -> None:
    if accepted:
        containers.check_pnm(data)
    else:
        with pytest.raises(InvalidImage):
            containers.check_pnm(data)


def test_check_tiff_accepts_what_lies_in_the_file_and_no_more() -> None:
    data = grey_tiff(4, 4, bytes(16))
    tiff.check_tiff(data)
    with pytest.raises(InvalidImage, match=r"^truncated$"):
        tiff.check_tiff(data[:-20])


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"garbage" * 9, b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\0\1"])
def test_exif_orientation_of_garbage_is_as_stored(exif: bytes) -> None:
    assert tiff.exif_orientation(exif) == 1


def test_a_png_may_have_several_colour_profiles_which_nobody_reads() -> None:
    data = encoded(picture(), "PNG")
    profile = b"icc\0\0" + zlib.compress(bytes(1000))
    chunk = struct.pack(">I", len(profile)) + b"iCCP" + profile + struct.pack(">I", zlib.crc32(b"iCCP" + profile))
    png_structure.check_png(data[:33] + chunk + data[33:])
    png_structure.check_png(data[:33] + 2 * chunk + data[33:])
    assert png_structure.png_parts(data[:33] + 2 * chunk + data[33:]).plain == data
