"""No header field, no metadata and no decoder costs more than the picture: each file here is small and once was not."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import zlib
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from PIL import Image, PpmImagePlugin

from serve_app.config.schema import LimitsConfig
from serve_app.errors import InvalidImage, TooLarge
from serve_app.images import base64
from serve_app.images.bmp_rle import decode_bmp_rle
from serve_app.images.decoding import decode, read_header
from serve_app.images.files import FORMATS
from serve_app.images.structure import avif, containers, jpeg
from serve_app.images.structure import png as png_structure
from serve_app.images.structure.tiff import check_tiff
from tests.hostile.corpus import encoded, grey_tiff, picture, png, tiff, valid_files

LIMITS = LimitsConfig()
VALID = valid_files()
JPEG = VALID["jpeg"]


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def opened(name: str, data: bytes) -> Image.Image:
    return next(kind for kind in FORMATS if kind.name == name).open(data)


# ---- the side ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VALID)
@pytest.mark.parametrize("read", [read_header, decode])
def test_a_side_over_its_limit_is_too_large_in_every_format(name: str, read) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(TooLarge, match=r"^48 x 32 pixels are over the limit of 47 pixels per side$"):
        read(VALID[name], LimitsConfig(max_side=47))
    read(VALID[name], LimitsConfig(max_side=48))


@pytest.mark.parametrize(("width", "height"), [(1, 65_536), (65_536, 1)])
def test_the_longest_side_is_65535_by_default(width: int, height: int) -> None:
    rows = (b"IDAT", zlib.compress(b"\0" * ((width + 1) * height)))
    with pytest.raises(TooLarge, match=rf"^{width} x {height} pixels are over the limit of 65535 pixels per side$"):
        read_header(png(width, height, rows, colour=0), LIMITS)


def test_a_turned_picture_is_measured_by_the_same_limits() -> None:
    data = encoded(picture(), "TIFF", tiffinfo={0x0112: 6})
    header = read_header(data, LimitsConfig(max_side=48))
    assert (header.width, header.height) == (32, 48)
    assert decode(data, LimitsConfig(max_side=48)).shape == (48, 32, 3)


# ---- JPEG ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param(segment(0xE1, b"Exif\0\0" + bytes(8000)) * 200, id="exif-in-many-segments"),
        pytest.param(segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\0\0\0\0" * 5000) * 20, id="photoshop"),
        pytest.param(segment(0xDB, (b"\0" + bytes(range(1, 65))) * 1000) * 20, id="quantization-tables"),
        pytest.param(segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(60_000)) * 50, id="profiles"),
    ],
)
def test_pillow_sees_no_metadata_of_a_jpeg(metadata: bytes) -> None:
    header = jpeg.check_jpeg_header(JPEG[:2] + metadata + JPEG[2:])
    assert len(header.frame) < 40
    np.testing.assert_array_equal(decode(JPEG[:2] + metadata + JPEG[2:], LIMITS), decode(JPEG, LIMITS))


def test_a_frame_header_longer_than_its_colours_is_refused() -> None:
    at = JPEG.index(b"\xff\xc0")
    long = segment(0xC0, JPEG[at + 4 : at + 10] + bytes(60_000))
    with pytest.raises(InvalidImage, match=r"^a broken JPEG file: its frame header is invalid$"):
        read_header(JPEG[:2] + long * 100 + JPEG[2:], LIMITS)


def test_exif_of_several_segments_is_joined() -> None:
    block = b"MM\0*" + struct.pack(">IHHHIHH", 8, 1, 0x0112, 3, 1, 6, 0) + bytes(4)
    parts = segment(0xE1, b"Exif\0\0" + block[:9]) + segment(0xE1, b"Exif\0\0" + block[9:])
    header = read_header(JPEG[:2] + parts + JPEG[2:], LIMITS)
    assert (header.width, header.height) == (32, 48)


# ---- PNG, GIF, PNM: a decoder sees no more than the check did ------------------------------------------------------


def test_pillow_inflates_no_text_and_no_profile_of_a_png() -> None:
    megabyte = zlib.compress(bytes(1_000_000))
    text = [(b"zTXt", b"key%d\0\0" % index + megabyte) for index in range(50)]
    row = (b"IDAT", zlib.compress(b"\0" + bytes(12)))
    data = png(4, 1, *text, (b"iCCP", b"a\0\0" + megabyte), row)
    assert png_structure.png_parts(data).plain == png(4, 1, row)
    tracemalloc.start()
    read_header(data, LIMITS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def gif_with(blocks: bytes) -> bytes:
    data = VALID["gif"]
    at = 13 + (3 << ((data[10] & 7) + 1))
    return data[:at] + blocks + data[at:]


@pytest.mark.parametrize("kind", [b"\xfe", b"\xff", b"\xf9"], ids=["comment", "application", "control"])
def test_sub_blocks_of_a_gif_are_counted_over_all_extensions(kind: bytes) -> None:
    extension = b"!" + kind + b"\1a" * 4000 + b"\0"
    read_header(gif_with(extension * 2), LIMITS)
    with pytest.raises(InvalidImage, match=r"^a broken GIF file: too many blocks$"):
        read_header(gif_with(extension * 10), LIMITS)


def test_pillow_sees_no_extension_of_a_gif_but_its_transparency() -> None:
    data = encoded(Image.new("RGBA", (2, 2), (9, 8, 7, 0)), "GIF")
    comment = b"!\xfe" + b"\1a" * 4000 + b"\0"
    at = data.index(b"!\xf9")
    assert containers.first_gif_frame(data[:at] + comment + data[at:]) == data
    assert decode(data[:at] + comment + data[at:], LIMITS)[0, 0].tolist() == [255, 255, 255]


def test_a_comment_inside_a_number_ends_it_for_the_decoder_too() -> None:
    pixels = bytes(range(36))
    data = b"P5 12#c\n3 255 " + pixels
    assert (read_header(data, LIMITS).width, read_header(data, LIMITS).height) == (12, 3)
    assert decode(data, LIMITS)[:, :, 0].tobytes() == pixels


def test_colours_of_16_bits_are_those_of_pillows_slow_decoder() -> None:
    deep = np.concatenate([np.arange(0, 65536, 7), [127, 128, 129, 65407, 65408, 65535]])
    data = b"P6 %d 1 65535\n" % (len(deep) // 3) + deep[: len(deep) // 3 * 3].astype(">u2").tobytes()
    expected = np.asarray(PpmImagePlugin.PpmImageFile(io.BytesIO(data)))
    np.testing.assert_array_equal(decode(data, LIMITS), expected)
    with pytest.raises(InvalidImage, match=r"^truncated$"):
        decode(data[:-2], LIMITS)


@pytest.mark.parametrize(
    "data", [VALID["ppm"], VALID["bmp"], b"P6 1 1 65535\n" + bytes(6)], ids=["ppm", "bmp", "deep-ppm"]
)
def test_no_picture_is_left_to_a_decoder_in_python(data: bytes) -> None:
    name = "BMP" if data.startswith(b"BM") else "PPM"
    assert not [tile for tile in opened(name, data).tile if tile.codec_name in Image.DECODERS]  # type: ignore[attr-defined]


# ---- run-length-coded BMP ------------------------------------------------------------------------------------------


def rle_bmp(width: int, height: int, runs: bytes, *, four_bits: bool = False) -> bytes:
    palette = b"".join(struct.pack("<BBBB", index, 255 - index, 7 * index % 256, 0) for index in range(16))
    info = struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, 4 if four_bits else 8, 2 if four_bits else 1, len(runs), 1, 1, 16, 16
    )
    return b"BM" + struct.pack("<IHHI", 118 + len(runs), 0, 0, 118) + info + palette + runs


def pillows_pixels(data: bytes) -> bytes | None:
    try:
        return Image.open(io.BytesIO(data), formats=["BMP"]).convert("RGB").tobytes()
    except (ValueError, OSError):
        return None


@pytest.mark.parametrize("four_bits", [False, True], ids=["rle8", "rle4"])
def test_runs_of_any_kind_give_pillows_pixels(four_bits: bool) -> None:
    rng = np.random.default_rng(5)
    compared = 0
    for _ in range(400):
        runs = b""
        for kind in rng.integers(0, 6, 30):
            value = int(rng.integers(0, 16))
            if kind == 0:
                runs += b"\0\0"
            elif kind == 1:
                runs += b"\0\2" + bytes([value % 5, value % 2])
            elif kind == 2:
                count = 3 + value
                size = (count + 1) // 2 if four_bits else count
                runs += bytes([0, count]) + rng.integers(0, 16, size, np.uint8).tobytes() + b"\0" * (size % 2)
            else:
                runs += bytes([1 + value, int(rng.integers(0, 16))])
        data = rle_bmp(int(rng.integers(1, 20)), 9, runs, four_bits=four_bits)
        expected = pillows_pixels(data)
        try:
            ours = decode(data, LIMITS).tobytes()
        except InvalidImage:
            ours = None
        assert ours == expected
        compared += ours is not None
    assert compared > 100


def test_lines_that_end_marks_fill_take_no_step_a_pixel() -> None:
    lines = 50
    assert len(decode_bmp_rle(b"\1\1\0\0" * lines, 0, (1_000_000, lines), False)) == 1_000_000 * lines


def test_a_run_length_file_over_its_bytes_is_refused() -> None:
    with pytest.raises(InvalidImage, match=r"^a run-length-coded BMP file of more than 524288 bytes$"):
        read_header(rle_bmp(1000, 1000, bytes(524_288)), LIMITS)


# ---- TIFF ----------------------------------------------------------------------------------------------------------


def tiled_tiff(width: int, height: int, tile_w: int, tile_h: int, kind: int = 4) -> bytes:
    data = zlib.compress(bytes(tile_w * tile_h) if tile_w * tile_h < 10_000_000 else b"")
    data += bytes(-len(data) % 2)
    sides = ((322, kind, 1, tile_w), (323, kind, 1, tile_h))
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)]
    return tiff(*tags, *sides, (324, 4, 1, 8), (325, 4, 1, len(data)), pixels=data)


def test_a_tile_counts_by_its_own_size() -> None:
    assert decode(tiled_tiff(1, 1, 256, 512), LIMITS).shape == (1, 1, 3)
    with pytest.raises(TooLarge, match=r"^40000 x 40000 pixels are over the limit of 50 megapixels$"):
        read_header(tiled_tiff(1, 1, 40_000, 40_000), LIMITS)
    with pytest.raises(TooLarge, match=r"^65552 x 16 pixels are over the limit of 65535 pixels per side$"):
        decode(tiled_tiff(1, 1, 65_552, 16), LIMITS)


def test_the_largest_of_several_tile_sizes_counts() -> None:
    small = tiled_tiff(1, 1, 16, 16)
    start = struct.unpack_from("<I", small, 4)[0]
    entries = small[start + 2 : -4]
    more = struct.pack("<HHII", 322, 4, 1, 9_000_000)
    count = len(entries) // 12 + 1
    assert check_tiff(small[:start] + struct.pack("<H", count) + entries + more + bytes(4))[0] == 9_000_000


def test_strips_beyond_the_picture_are_not_decoded() -> None:
    pixels, strips = bytes(range(200)), 5000
    offsets = struct.pack(f"<{strips}I", *([8] + [8 + 10] * (strips - 1)))
    counts = struct.pack(f"<{strips}I", *[190] * strips)
    tags = [(256, 4, 1, 10), (257, 4, 1, 20), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, strips, 208)]
    tags += [(277, 3, 1, 1), (278, 4, 1, 19), (279, 4, strips, 208 + 4 * strips)]
    data = tiff(*tags, pixels=pixels + offsets + counts)
    assert len(opened("TIFF", data).tile) == 2  # type: ignore[attr-defined]
    assert decode(data, LIMITS)[:19, :, 0].tobytes() == pixels[:190]


def test_a_turned_tiff_writes_no_tag_anew() -> None:
    shorts = [(40_000 + index, 3, 60_000, 24) for index in range(1)]
    tags = [(256, 4, 1, 1), (257, 4, 1, 2), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
    tags += [(274, 3, 1, 6), (277, 3, 1, 1), (278, 4, 1, 2), (279, 4, 1, 2), *shorts]
    file = opened("TIFF", tiff(*tags, pixels=b"\x10\x20" + bytes(14 + 120_000)))
    file.load()
    assert file.size == (1, 2)  # as stored; `decode` turns it
    data = grey_tiff(2, 1, b"\x10\x20").replace(struct.pack("<HHII", 277, 3, 1, 1), struct.pack("<HHII", 274, 3, 1, 6))
    assert decode(data, LIMITS)[:, 0, 0].tolist() == [16, 32]


# ---- escapes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [0, 1, 2, 3, 4], ids=str)
def test_escapes_are_read_as_the_standard_library_reads_them(before: int) -> None:
    rng = np.random.default_rng(before)
    text = (
        "a" * ((1 << 20) - before) + "%41" + "".join(rng.choice(list("%4aAfF0gé€ "), 4000))
    )  # a cut lies in the escape
    assert base64.decode_base64(f"data:,{text}", 10**7) == unquote_to_bytes(text)


def test_a_text_of_escapes_takes_a_few_times_its_length() -> None:
    text = "data:," + "%41" * 3_000_000
    tracemalloc.start()
    assert len(base64.decode_base64(text, 3_000_000)) == 3_000_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * len(text)


# ---- AVIF ----------------------------------------------------------------------------------------------------------


def avif_that_says(width: int, height: int, data: bytes) -> bytes:
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", width, height) + data[at + 8 :]


@pytest.mark.skipif("avif" not in VALID, reason="this Pillow reads no AVIF")
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_a_frame_of_an_avif_counts_by_its_own_size(mode: str) -> None:
    data = avif_that_says(1, 1, encoded(picture(300, 200, mode), "AVIF"))
    assert avif.avif_size(data) == (300, 200)
    with pytest.raises(TooLarge, match=r"^300 x 200 pixels are over the limit of 0\.05 megapixels$"):
        read_header(data, LimitsConfig(max_megapixels=0.05))
    with pytest.raises(TooLarge, match=r"^300 x 200 pixels are over the limit of 299 pixels per side$"):
        decode(data, LimitsConfig(max_side=299))


@pytest.mark.skipif("avif" not in VALID, reason="this Pillow reads no AVIF")
def test_an_animated_avif_is_read_whatever_its_length() -> None:
    frames = [picture(64, 48).rotate(90 * index) for index in range(4)] * 10
    data = encoded(frames[0], "AVIF", save_all=True, append_images=frames[1:], speed=10)
    assert avif.avif_size(data) == (64, 48)
    assert decode(data, LIMITS).shape == (48, 64, 3)


@pytest.mark.skipif("avif" not in VALID, reason="this Pillow reads no AVIF")
def test_items_of_an_avif_that_overlap_are_refused() -> None:
    at = VALID["avif"].index(b"iloc")
    (size,) = struct.unpack_from(">I", VALID["avif"], at - 4)
    entries = b"".join(struct.pack(">HHHII", index, 0, 1, 0, len(VALID["avif"])) for index in range(3))
    iloc = b"iloc" + bytes(4) + b"\x44\0" + struct.pack(">H", 3) + entries
    data = VALID["avif"][: at - 4] + struct.pack(">I", len(iloc) + 4) + iloc + VALID["avif"][at - 4 + size :]
    meta = data.index(b"meta") - 4
    old = struct.unpack_from(">I", data, meta)[0]
    data = data[:meta] + struct.pack(">I", old + len(iloc) + 4 - size) + data[meta + 4 :]
    with pytest.raises(InvalidImage, match=r"^a broken AVIF file: its items overlap$"):
        read_header(data + bytes(40), LIMITS)


@pytest.mark.skipif("avif" not in VALID, reason="this Pillow reads no AVIF")
def test_thousands_of_items_of_an_avif_are_refused_though_they_have_no_bytes() -> None:
    places = bytes([2, 0, 0, 0, 0, 0]) + struct.pack(">I", 70_000) + bytes(10 * 70_000)
    meta = bytes(4) + struct.pack(">I4s", 8 + len(places), b"iloc") + places
    data = VALID["avif"][:32] + struct.pack(">I4s", 8 + len(meta), b"meta") + meta
    assert struct.unpack_from(">I4s", data) == (32, b"ftyp")
    with pytest.raises(InvalidImage, match=r"^a broken AVIF file: too many items$"):
        avif.avif_size(data)


def test_any_bytes_of_an_avif_are_met_with_a_size_or_invalid_image() -> None:
    rng = np.random.default_rng(8)
    for _ in range(3000):
        data = bytearray(VALID["avif"])
        for place in rng.integers(0, min(len(data), 400), rng.integers(1, 6)):
            data[place] = rng.integers(0, 256)
        try:
            width, height = avif.avif_size(bytes(data[: rng.integers(12, len(data))]))
        except InvalidImage:
            continue
        assert min(width, height) >= 1


@pytest.mark.parametrize("junk", [b"\xff" * 4_000_000 + b"\x00", b"\xff\x00" * 2_000_000, b"\xff\xd0x" * 1_000_000])
def test_a_marker_of_a_jpeg_is_found_in_one_pass(junk: bytes) -> None:
    """A search that tries every byte of a run of FF as a start would take hours."""
    data = encoded(picture(), "JPEG", progressive=True)
    started = time.monotonic()
    jpeg.check_jpeg_scans(data[:-2] + junk + data[-2:])
    with pytest.raises(InvalidImage):
        jpeg.check_jpeg_header(data[:2] + junk + data[2:])
    assert time.monotonic() - started < 2
