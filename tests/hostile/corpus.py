"""Image files as strangers send them: right, broken, and built to hurt. Generated, the same ones every time."""

from __future__ import annotations

import gzip
import io
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, features

OK, INVALID, TOO_LARGE = None, "invalid_image", "too_large"


@dataclass(frozen=True)
class HostileCase:
    """One file and what may become of it.

    Attributes:
        name: unique, in lower case.
        data: the file's bytes.
        allowed: error codes that are right answers; None among them means that it may decode.
    """

    name: str
    data: bytes
    allowed: frozenset[str | None]


def cases() -> list[HostileCase]:
    """Make every case; the limits they are made for are the default ones."""
    made = [
        HostileCase(name, data, frozenset(allowed))
        for part in (_damaged, _no_images, _png_cases, _jpeg_cases, _gif_cases, _tiff_cases, _other_cases, _shapes)
        for name, data, allowed in part()
    ]
    assert len({case.name for case in made}) == len(made), "names are unique"
    return made


_Case = tuple[str, bytes, set[str | None]]


def picture(width: int = 48, height: int = 32, mode: str = "RGB") -> Image.Image:
    """Draw a gradient with a little noise."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(7).integers(0, 24, (height, width))
    planes = [x * 200 // max(1, width - 1) + noise, y * 255 // max(1, height - 1), (x + y) * 4 % 256]
    return Image.fromarray(np.stack(planes, axis=-1).clip(0, 255).astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Write an image to bytes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def valid_files() -> dict[str, bytes]:
    """One right file of every kind that is read."""
    frames = [picture(), picture().rotate(180)]
    animated: dict[str, Any] = {"save_all": True, "append_images": frames[1:]}
    files = {
        "jpeg": encoded(picture(), "JPEG"),
        "jpeg_progressive": encoded(picture(), "JPEG", progressive=True),
        "jpeg_grey": encoded(picture(mode="L"), "JPEG"),
        "jpeg_cmyk": encoded(picture(mode="CMYK"), "JPEG"),
        "png": encoded(picture(), "PNG"),
        "png_palette": encoded(picture(mode="P"), "PNG"),
        "png_alpha": encoded(picture(mode="RGBA"), "PNG"),
        "png_animated": encoded(frames[0], "PNG", **animated),
        "gif": encoded(picture(mode="P"), "GIF"),
        "gif_animated": encoded(frames[0], "GIF", **animated),
        "webp": encoded(picture(), "WEBP"),
        "webp_lossless": encoded(picture(mode="RGBA"), "WEBP", lossless=True),
        "webp_animated": encoded(frames[0], "WEBP", **animated),
        "bmp": encoded(picture(), "BMP"),
        "tiff": encoded(picture(), "TIFF"),
        "tiff_lzw": encoded(picture(), "TIFF", compression="tiff_lzw"),
        "tiff_jpeg": encoded(picture(), "TIFF", compression="jpeg"),
        "ppm": encoded(picture(), "PPM"),
        "pgm": encoded(picture(mode="L"), "PPM"),
    }
    if features.check("avif"):
        files["avif"] = encoded(picture(), "AVIF")
    return files


def _damaged() -> Iterator[_Case]:
    rng = random.Random(20)
    for name, data in valid_files().items():
        yield f"{name}_valid", data, {OK}
        yield f"{name}_with_trailing_bytes", data + bytes(range(256)), {OK}
        yield f"{name}_header_only", data[:12], {INVALID}
        yield f"{name}_cut_to_a_quarter", data[: len(data) // 4], {INVALID}
        yield f"{name}_cut_to_half", data[: len(data) // 2], {INVALID, OK} if "animated" in name else {INVALID}
        yield f"{name}_cut_to_nine_tenths", data[: len(data) * 9 // 10], {INVALID, OK}
        yield f"{name}_without_last_byte", data[:-1], {INVALID, OK}
        yield f"{name}_wrong_magic", b"\0\0\0\0" + data[4:], {INVALID, OK} if name == "avif" else {INVALID}
        yield f"{name}_twice", data + data, {OK}
        for index in range(6):
            flipped = bytearray(data)
            for _ in range(1 + index % 3):
                flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
            yield f"{name}_bits_flipped_{index}", bytes(flipped), {OK, INVALID, TOO_LARGE}
        zeroed = bytearray(data)
        middle = len(data) // 2
        zeroed[middle : middle + 64] = bytes(len(zeroed[middle : middle + 64]))
        yield f"{name}_middle_zeroed", bytes(zeroed), {OK, INVALID}


def _no_images() -> Iterator[_Case]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr(zipfile.ZipInfo("a.png"), encoded(picture(), "PNG"))
    files = {
        "empty": b"",
        "one_byte": b"\xff",
        "zeros": bytes(5000),
        "text": b"just some words " * 100,
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>',
        "svg_with_entity": b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><svg><text>&b;</text></svg>',
        "html": b"<!doctype html><html><body><h1>404 Not Found</h1></body></html>",
        "json": b'{"error": "expired"}',
        "pdf": b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(%pipe%id) (w) file\nshowpage\n%%EOF",
        "zip_of_a_png": archive.getvalue(),
        "gzip_of_a_png": gzip.compress(encoded(picture(), "PNG"), mtime=0),
        "mp4": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(200),
        "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200),
        "elf": b"\x7fELF\2\1\1" + bytes(200),
        "ico": encoded(picture(32, 32), "ICO"),
        "tga": encoded(picture(), "TGA"),
        "psd": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 9, 9, 8, 3) + bytes(12),
        "wmf": b"\xd7\xcd\xc6\x9a" + bytes(60),
        "ppm_plain": b"P3 1 1 255 1 2 3\n",
        "base64_of_a_png": b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk",
        "random": random.Random(1).randbytes(4096),
    }
    for name, data in files.items():
        yield f"no_image_{name}", data, {INVALID}


def png(width: int, height: int, *chunks: tuple[bytes, bytes], depth: int = 8, colour: int = 2, lace: int = 0) -> bytes:
    """Write a PNG of the given chunks after its header."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, lace)
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, body in ((b"IHDR", header), *chunks, (b"IEND", b"")):
        parts.append(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))
    return b"".join(parts)


def _png_cases() -> Iterator[_Case]:
    rows = (b"IDAT", zlib.compress(b"\0" + bytes(12)))  # one row of 4 pixels
    short = (b"IDAT", zlib.compress(bytes(3)))
    megabyte = zlib.compress(bytes(100_000_000))
    yield "png_100k_x_100k", png(100_000, 100_000, short), {TOO_LARGE}
    yield "png_of_2_to_31_pixels_a_side", png(2**31 - 1, 2**31 - 1, short), {TOO_LARGE}
    yield "png_over_the_limit_by_a_row", png(50_000, 1001, short), {TOO_LARGE}
    yield "png_at_the_limit_without_pixels", png(50_000, 1000, short), {INVALID}
    yield "png_of_zero_width", png(0, 10, rows), {INVALID}
    yield "png_of_zero_height", png(10, 0, rows), {INVALID}
    yield "png_without_pixels", png(4, 1), {INVALID}
    yield "png_of_depth_3", png(4, 1, rows, depth=3), {INVALID}
    yield "png_of_colour_type_5", png(4, 1, rows, colour=5), {INVALID}
    yield "png_palette_without_palette", png(4, 1, (b"IDAT", zlib.compress(bytes(5))), colour=3), {OK, INVALID}
    yield "png_with_pixels_of_100_mb", png(4, 1, (b"IDAT", megabyte)), {OK, INVALID}
    yield "png_with_text_of_100_mb", png(4, 1, (b"zTXt", b"a\0\0" + megabyte), rows), {OK, INVALID}
    yield "png_with_profile_of_100_mb", png(4, 1, (b"iCCP", b"a\0\0" + megabyte), rows), {OK, INVALID}
    yield "png_with_garbage_profile", png(4, 1, (b"iCCP", b"a\0\0" + zlib.compress(b"x" * 999)), rows), {OK}
    yield "png_with_garbage_exif", png(4, 1, (b"eXIf", bytes(range(200))), rows), {OK}
    yield "png_with_200k_empty_chunks", png(4, 1, *[(b"teSt", b"")] * 200_000, rows), {INVALID}
    yield "png_with_200k_empty_pixel_chunks", png(4, 1, rows, *[(b"IDAT", b"")] * 200_000), {INVALID}
    yield "png_of_4_gib_chunk", png(4, 1)[:33] + b"\xff\xff\xff\xffIDAT" + bytes(20), {INVALID}
    yield "png_animation_of_no_frames", png(4, 1, (b"acTL", bytes(8)), rows), {OK}
    yield "png_animation_of_4_billion_frames", png(4, 1, (b"acTL", b"\xff" * 8), rows), {OK}
    frame = struct.pack(">IIIIIHHBB", 1, 4, 1, 0, 0, 1, 1, 0, 0)
    first = struct.pack(">IIIIIHHBB", 0, 4, 1, 0, 0, 1, 1, 0, 0)
    second = ((b"fcTL", frame), (b"fdAT", struct.pack(">I", 2) + b"garbage"))
    broken = png(4, 1, (b"acTL", struct.pack(">II", 2, 0)), (b"fcTL", first), rows, *second)
    yield "png_animation_with_broken_second_frame", broken, {OK}


def _jpeg_cases() -> Iterator[_Case]:
    data = encoded(picture(), "JPEG")
    progressive = encoded(picture(), "JPEG", progressive=True)
    last_scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    size_at = data.index(b"\xff\xc0") + 5

    def resized(width: int, height: int) -> bytes:
        return data[:size_at] + struct.pack(">HH", height, width) + data[size_at + 4 :]

    def segment(marker: int, body: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body

    yield "jpeg_65500_x_65500", resized(65500, 65500), {TOO_LARGE}
    yield "jpeg_of_zero_width", resized(0, 32), {INVALID}
    yield "jpeg_of_zero_height", resized(48, 0), {INVALID}
    yield "jpeg_larger_than_its_data", resized(4000, 4000), {OK, INVALID}  # complete, says its end marker
    yield "jpeg_of_5000_scans", progressive[:-2] + last_scan * 5000 + b"\xff\xd9", {INVALID}
    # A reader that takes a lone marker for a segment takes the scan marker after it for its length, 0xFFDA.
    hidden = b"\xff\x01" + (last_scan * (0xFFDA // len(last_scan))).ljust(0xFFDA, b"\0")
    yield "jpeg_of_scans_behind_lone_markers", progressive[:-2] + hidden * 5 + b"\xff\xd9", {INVALID}
    yield "jpeg_of_20_scans", progressive[:-2] + last_scan * 10 + b"\xff\xd9", {OK}
    yield "jpeg_of_a_million_segments", data[:2] + segment(0xFE, b"") * 1_000_000 + data[2:], {INVALID}
    yield "jpeg_of_junk_before_its_picture", data[:2] + b"\xff" + bytes(3_000_000) + data[2:], {INVALID}
    yield "jpeg_with_garbage_exif", data[:2] + segment(0xE1, b"Exif\0\0" + bytes(range(256))) + data[2:], {OK}
    loop = b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + struct.pack("<HHII", 0x8769, 4, 1, 8) + struct.pack("<I", 8)
    yield "jpeg_with_exif_that_points_to_itself", data[:2] + segment(0xE1, b"Exif\0\0" + loop) + data[2:], {OK}
    tags = b"".join(struct.pack("<HHII", tag, 7, 60_000, 8) for tag in range(4000))
    overlapping = b"II*\0\x08\0\0\0" + struct.pack("<H", 4000) + tags
    yield "jpeg_with_overlapping_exif_tags", data[:2] + segment(0xE1, b"Exif\0\0" + overlapping) + data[2:], {OK}
    yield "jpeg_with_garbage_profile", data[:2] + segment(0xE2, b"ICC_PROFILE\0\1\1" + b"x" * 500) + data[2:], {OK}
    yield "jpeg_with_broken_multi_picture", data[:2] + segment(0xE2, b"MPF\0II*\0" + b"\xff" * 60) + data[2:], {OK}
    yield "jpeg_without_tables", data[:20] + data[data.index(b"\xff\xc0") :], {INVALID, OK}
    yield "jpeg_start_marker_only", b"\xff\xd8\xff", {INVALID}
    yield "jpeg_start_and_end", b"\xff\xd8\xff\xd9", {INVALID}


def _gif_cases() -> Iterator[_Case]:
    data = encoded(picture(mode="P"), "GIF")
    frame_at = data.index(b",", 13 + 768)
    comments = b"!\xfe" + (b"\xff" + b"x" * 255) * 100_000 + b"\0"
    canvas = b"GIF89a" + struct.pack("<HHBBB", 60_000, 60_000, 0, 0, 0)
    frame = struct.pack("<BHHHHB", 0x2C, 0, 0, 60_000, 60_000, 0)
    yield "gif_60k_x_60k", canvas + frame + b"\x08\0;", {TOO_LARGE}
    small = b"GIF89a" + struct.pack("<HHBBB", 4, 4, 0, 0, 0)
    yield "gif_frame_beyond_its_canvas", small + frame + b"\x08\0;", {TOO_LARGE}
    yield "gif_of_zero_size", b"GIF89a" + bytes(7) + struct.pack("<BHHHHB", 0x2C, 0, 0, 0, 0, 0) + b"\x08\0;", {INVALID}
    yield "gif_without_frames", data[:781] + b";", {INVALID}
    yield "gif_with_25_mb_of_comment", data[:781] + comments + data[781:], {INVALID}
    yield "gif_with_200k_comments", data[:781] + b"!\xfe\0" * 200_000 + data[781:], {INVALID}
    yield "gif_of_code_size_200", data[: frame_at + 10] + b"\xc8" + data[frame_at + 11 :], {INVALID, OK}
    animated = encoded(picture(mode="P"), "GIF", save_all=True, append_images=[picture(mode="P").rotate(180)])
    yield "gif_animation_with_broken_second_frame", animated[: len(animated) * 3 // 4], {OK, INVALID}


def tiff(*tags: tuple[int, int, int, int], pixels: bytes = b"") -> bytes:
    """Write a little-endian TIFF of (tag, type, count, value or offset) with its pixels at byte 8."""
    start = 8 + len(pixels)
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<I", start) + pixels + struct.pack("<H", len(tags)) + entries + bytes(4)


def grey_tiff(width: int, height: int, pixels: bytes, *, bits: int = 8, photometric: int = 1, form: int = 1) -> bytes:
    """Write a raw one-channel TIFF: `form` 1 unsigned, 2 signed, 3 float."""
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, photometric)]
    tags += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, len(pixels)), (339, 3, 1, form)]
    return tiff(*tags, pixels=pixels)


def _tiff_cases() -> Iterator[_Case]:
    yield "tiff_grey", grey_tiff(4, 4, bytes(16)), {OK}
    yield "tiff_100k_x_100k", grey_tiff(100_000, 100_000, bytes(16)), {TOO_LARGE}
    yield "tiff_of_zero_width", grey_tiff(0, 4, bytes(16)), {INVALID}
    yield "tiff_shorter_than_its_strip", grey_tiff(400, 400, bytes(16)), {INVALID}
    yield "tiff_of_3_bits", grey_tiff(4, 4, bytes(16), bits=3), {OK}
    yield "tiff_without_tags", tiff(), {INVALID}
    yield "tiff_directory_beyond_its_end", b"II*\0\xff\xff\xff\x7f", {INVALID}
    yield "tiff_directory_at_itself", b"II*\0\0\0\0\0" + bytes(40), {INVALID}
    tags = [(tag, 7, 1_000_000, 8) for tag in range(1000, 3000)]
    yield "tiff_of_overlapping_tags", tiff((256, 4, 1, 4), (257, 4, 1, 4), *tags, pixels=bytes(1_000_000)), {INVALID}
    strips = (273, 4, 500_000, 8), (279, 4, 500_000, 8)
    yield "tiff_of_500k_strips", tiff((256, 4, 1, 4), (257, 4, 1, 4), *strips, pixels=bytes(2_000_000)), {INVALID}
    yield "tiff_of_5000_tags", tiff(*[(tag, 3, 1, 1) for tag in range(5000)]), {INVALID}
    yield (
        "tiff_of_unknown_compression",
        tiff((256, 4, 1, 4), (257, 4, 1, 4), (258, 3, 1, 8), (259, 3, 1, 12345), (262, 3, 1, 1), (273, 4, 1, 8)),
        {INVALID},
    )
    lying = encoded(picture(), "TIFF", compression="tiff_adobe_deflate")
    yield "tiff_of_broken_deflate", lying.replace(b"\x78", b"\x00"), {INVALID, OK, TOO_LARGE}
    big = b"II+\0\x08\0\0\0" + struct.pack("<Q", 2**62)
    yield "tiff_big_directory_beyond_its_end", big, {INVALID}


def _other_cases() -> Iterator[_Case]:
    canvas = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + (99_999).to_bytes(3, "little") * 2
    yield "webp_100k_x_100k", b"RIFF" + struct.pack("<I", 22) + b"WEBP" + canvas + bytes(20), {TOO_LARGE}
    small = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + (9).to_bytes(3, "little") * 2
    yield "webp_canvas_only", b"RIFF" + struct.pack("<I", 22) + b"WEBP" + small + bytes(20), {INVALID}
    yield "webp_of_unknown_chunk", b"RIFF" + struct.pack("<I", 22) + b"WEBPABCD" + bytes(40), {INVALID}
    bmp = encoded(picture(), "BMP")

    def resized(width: int, height: int) -> bytes:
        return bmp[:18] + struct.pack("<ii", width, height) + bmp[26:]

    yield "bmp_100k_x_100k", resized(100_000, 100_000), {TOO_LARGE}
    yield "bmp_of_negative_width", resized(-48, 32), {INVALID, TOO_LARGE}
    yield "bmp_of_zero_height", resized(48, 0), {INVALID}
    yield "bmp_top_down", resized(48, -32), {OK}
    yield "bmp_run_length_of_8_mb", bmp[:30] + b"\1\0\0\0" + bmp[34:] + bytes(8_000_000), {INVALID}
    yield "ppm_100k_x_100k", b"P6 100000 100000 255\n" + bytes(100), {TOO_LARGE}
    yield "ppm_of_zero_size", b"P6 0 0 255\n", {INVALID}
    yield "ppm_of_a_5_mb_comment", b"P6 #" + b"x" * 5_000_000 + b"\n1 1 255\nabc", {INVALID}
    yield "ppm_of_maximum_1000", b"P5 2 1 1000\n\0\1\0\2", {OK}
    yield "ppm_of_huge_numbers", b"P6 " + b"9" * 4000 + b" 1 255\n", {INVALID, TOO_LARGE}
    yield "pfm_of_zero_scale", b"Pf 1 1 0\n" + bytes(4), {INVALID}
    yield "pfm_of_nan", b"Pf 2 1 -1.0\n" + struct.pack("<ff", float("nan"), float("inf")), {OK}
    if features.check("avif"):
        avif = encoded(picture(), "AVIF")
        at = avif.index(b"ispe") + 8
        bomb = avif[:at] + struct.pack(">II", 100_000, 100_000) + avif[at + 8 :]
        yield "avif_100k_x_100k", bomb, {INVALID, TOO_LARGE}


def _shapes() -> Iterator[_Case]:
    for width, height in ((1, 1), (1, 10_000), (10_000, 1), (3, 3)):
        for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"):
            yield f"{kind.lower()}_of_{width}_x_{height}", encoded(picture(width, height), kind), {OK}
