"""TIFFs of any depth, format and number of samples, on white; what is not read is called so, not broken."""

from __future__ import annotations

import io
import itertools
import struct
import time
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from serve_app.config.schema import LimitsConfig
from serve_app.errors import InvalidImage, TooLarge
from serve_app.images.decoding import decode, read_header
from serve_app.images.structure.bounds import MAX_SAMPLE_BYTES

LIMITS = LimitsConfig()
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
GREY, RGB, PALETTE, CMYK = 1, 2, 3, 5
ASSOCIATED, UNASSOCIATED = 1, 2
NONE, LZW, DEFLATE, PACKBITS, ZSTD = 1, 5, 8, 32773, 50000


def tiff(
    chunks: list[bytes],
    size_wh: tuple[int, int],
    bits: list[int],
    photometric: int,
    *,
    mark: str = "<",
    big: bool = False,
    form: int = 0,
    extra: tuple[int, ...] = (),
    compression: int = NONE,
    predictor: int = 0,
    planar: int = 0,
    rows: int = 0,
    tile_wh: tuple[int, int] = (0, 0),
    orientation: int = 0,
    fill_order: int = 0,
    colour_map: Sequence[int] = (),
) -> bytes:
    """Write a TIFF or a BigTIFF of some strips or tiles."""
    width, height = size_wh
    lengths = [len(chunk) for chunk in chunks]
    wanted: list[tuple[int, str, list[int]]] = [(256, "I", [width]), (257, "I", [height]), (258, "H", bits)]
    wanted += [(259, "H", [compression]), (262, "H", [photometric]), (277, "H", [len(bits)])]
    if tile_wh != (0, 0):
        wanted += [(322, "I", [tile_wh[0]]), (323, "I", [tile_wh[1]]), (324, "I", lengths), (325, "I", lengths)]
    else:
        wanted += [(273, "I", lengths), (278, "I", [rows or height]), (279, "I", lengths)]
    for tag, value in ((266, fill_order), (274, orientation), (284, planar), (317, predictor)):
        wanted += [(tag, "H", [value])] if value else []
    wanted += [(320, "H", list(colour_map))] if colour_map else []
    wanted += [(338, "H", list(extra))] if extra else []
    wanted += [(339, "H", [form] * len(bits))] if form else []
    head = 16 if big else 8
    padded = [chunk + b"\0" * (len(chunk) % 2) for chunk in chunks]
    ends = list(itertools.accumulate(map(len, padded), initial=head))
    body, places = b"".join(padded), ends[:-1]
    entries, number, inline = b"", "Q" if big else "I", 8 if big else 4
    for tag, code, values in sorted(wanted):
        values = places if tag in {273, 324} else values
        packed = struct.pack(f"{mark}{len(values)}{code}", *values)
        if len(packed) > inline:
            packed, body = struct.pack(f"{mark}{number}", head + len(body)), body + packed + b"\0" * (len(packed) % 2)
        entries += struct.pack(f"{mark}HH{number}", tag, {"H": 3, "I": 4}[code], len(values)) + packed.ljust(
            inline, b"\0"
        )
    start = head + len(body)
    order = b"II" if mark == "<" else b"MM"
    if big:
        front = order + struct.pack(f"{mark}HHHQ", 43, 8, 0, start)
        return front + body + struct.pack(f"{mark}Q", len(wanted)) + entries + bytes(8)
    return (
        order + struct.pack(f"{mark}HI", 42, start) + body + struct.pack(f"{mark}H", len(wanted)) + entries + bytes(4)
    )


def pixels(values: Sequence[tuple[float, ...]], kind: str, photometric: int, **options: Any) -> list[list[int]]:
    """Write one line of pixels and read it."""
    mark = options.get("mark", "<")
    data = np.array(values, kind).astype(np.dtype(kind).newbyteorder(mark)).tobytes()
    form = {"u": UNSIGNED, "i": SIGNED, "f": FLOAT}[kind[0]]
    bits = [8 * np.dtype(kind).itemsize] * len(values[0])
    file = tiff([data], (len(values), 1), bits, photometric, form=form, **options)
    assert read_header(file, LIMITS).width == len(values)
    shown: list[list[int]] = decode(file, LIMITS)[0].tolist()
    return shown


def grey(*values: int) -> list[list[int]]:
    return [[value] * 3 for value in values]


FULL = {"u1": 255, "u2": 65_535, "u4": 2**32 - 1}


@pytest.mark.parametrize("mark", ["<", ">"])
@pytest.mark.parametrize("big", [False, True], ids=["classic", "big"])
class TestBothOrders:
    def test_greys_of_32_bits_do_not_wrap(self, mark: str, big: bool) -> None:
        values = [(0.0,), (2**30,), (2**31,), (2**32 - 1,)]
        assert pixels(values, "u4", GREY, mark=mark, big=big) == grey(0, 64, 128, 255)
        assert pixels(values, "u4", 0, mark=mark, big=big) == grey(255, 191, 127, 0)
        assert pixels([(2**31 + 10,), (2**31 + 20,)], "u4", GREY, mark=mark, big=big) == grey(0, 255)

    @pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
    def test_floats_of_any_depth(self, kind: str, mark: str, big: bool) -> None:
        options: dict[str, Any] = {"mark": mark, "big": big}
        assert pixels([(0.0,), (0.25,), (1.0,)], kind, GREY, **options) == grey(0, 64, 255)
        assert pixels([(0.0,), (0.25,), (1.0,)], kind, 0, **options) == grey(255, 191, 0)
        assert pixels([(-5.0,), (0.0,), (5.0,)], kind, GREY, **options) == grey(0, 128, 255)
        assert pixels([(0.0, 0.2, 1.0), (1.0, 0.0, 0.4)], kind, RGB, **options) == [[0, 51, 255], [255, 0, 102]]

    @pytest.mark.parametrize("kind", ["u1", "u2"])
    def test_grey_with_alpha_lies_on_white(self, kind: str, mark: str, big: bool) -> None:
        full = FULL[kind]
        fifth, half = full // 5, (full + 1) // 2
        straight = [(0, full), (half, full), (full, 0), (0, fifth)]
        assert pixels(straight, kind, GREY, mark=mark, big=big, extra=(UNASSOCIATED,)) == grey(0, 128, 255, 204)
        multiplied = [(0, full), (half, full), (0, 0), (fifth, fifth)]
        assert pixels(multiplied, kind, GREY, mark=mark, big=big, extra=(ASSOCIATED,)) == grey(0, 128, 255, 255)

    @pytest.mark.parametrize("kind", ["u1", "u2"])
    def test_cmyk_with_alpha_lies_on_white(self, kind: str, mark: str, big: bool) -> None:
        full = FULL[kind]
        values = [(0, full, full, 0, full), (0, 0, 0, full, full), (0, full, full, 0, 0), (0, 0, 0, 0, full)]
        shown = pixels(values, kind, CMYK, mark=mark, big=big, extra=(UNASSOCIATED,))
        assert shown == [[255, 0, 0], [0, 0, 0], [255] * 3, [255] * 3]

    def test_colours_of_32_bits_share_their_stretch(self, mark: str, big: bool) -> None:
        values = [(0, 2**31, 2**32 - 1), (2**30, 0, 0)]
        assert pixels(values, "u4", RGB, mark=mark, big=big) == [[0, 128, 255], [64, 0, 0]]

    def test_extra_samples_that_are_no_alpha_do_not_matter(self, mark: str, big: bool) -> None:
        values = [(10, 20, 30, 1, 2, 3, 4), (40, 50, 60, 5, 6, 7, 8)]
        shown = pixels(values, "u1", RGB, mark=mark, big=big, extra=(0, 0, 0, 0))
        assert shown == [[10, 20, 30], [40, 50, 60]]
        assert pixels([(9, 1, 2, 3, 4, 5, 6)], "u1", GREY, mark=mark, big=big, extra=(0,) * 6) == grey(9)


def test_what_is_no_number_is_black_and_infinity_is_white() -> None:
    inf, nan = float("inf"), float("nan")
    assert pixels([(nan, 0, 1), (inf, -inf, 0.4)], "f4", RGB) == [[0, 0, 255], [255, 0, 102]]


@pytest.mark.parametrize("mark", ["<", ">"])
def test_signed_numbers_are_stretched(mark: str) -> None:
    for kind, most in (("i1", 100), ("i2", 500), ("i4", 70_000)):
        assert pixels([(-most,), (0,), (most,)], kind, GREY, mark=mark) == grey(0, 128, 255)
    assert pixels([(-128,), (0,), (127,)], "i1", GREY, mark=mark) == grey(0, 128, 255)
    assert pixels([(-100, 0, 100)], "i1", RGB) == [[0, 128, 255]]
    assert pixels([(-500, 0, 500)], "i2", RGB) == [[0, 128, 255]]


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 10, 12, 14, 24])
@pytest.mark.parametrize("samples", [1, 3])
def test_samples_may_have_any_depth(bits: int, samples: int) -> None:
    full = (1 << bits) - 1
    line = [0] * samples + [full] * samples + [full // 3] * samples + [0] * samples
    written = "".join(format(value, f"0{bits}b") for value in line)
    written += "0" * (-len(written) % 8)
    data = int(written, 2).to_bytes(len(written) // 8, "big")
    shown = decode(tiff([data * 2], (4, 2), [bits] * samples, GREY if samples == 1 else RGB), LIMITS)
    third = round(255 * (full // 3) / full)
    np.testing.assert_array_equal(shown, np.repeat([[[0], [255], [third], [0]]] * 2, 3, axis=2))


RAMP = np.arange(40 * 50 * 3, dtype=np.float64).reshape(40, 50, 3)


def compressed(data: bytes, compression: int) -> bytes:
    if compression == DEFLATE:
        return zlib.compress(data)
    if compression == PACKBITS:
        return b"".join(bytes([len(data[i : i + 128]) - 1]) + data[i : i + 128] for i in range(0, len(data), 128))
    if compression in {LZW, ZSTD}:
        buffer, name = io.BytesIO(), "tiff_lzw" if compression == LZW else "zstd"
        Image.frombytes("L", (len(data), 1), data).save(buffer, "TIFF", compression=name)
        with Image.open(buffer) as image:
            tags: Any = image.tag_v2  # type: ignore[attr-defined]
            (start,), (length,) = tags[273], tags[279]
        return buffer.getvalue()[start : start + length]
    return data


def differences(line: NDArray[Any], predictor: int, mark: Any) -> bytes:
    """Predict each of (width, samples) numbers by the one to its left."""
    if predictor == 2:
        whole = line.view(f"u{line.dtype.itemsize}") if line.dtype.kind != "u" else line
        changed = whole.copy()
        changed[1:] -= whole[:-1]
        return changed.astype(changed.dtype.newbyteorder(mark)).tobytes()
    if predictor == 3:
        samples, size = line.shape[1], line.dtype.itemsize
        planes = line.astype(line.dtype.newbyteorder(">")).tobytes()
        ordered = np.frombuffer(planes, np.uint8).reshape(-1, size).T.reshape(-1, samples)
        changed = ordered.copy()
        changed[1:] -= ordered[:-1]
        return changed.tobytes()
    return line.astype(line.dtype.newbyteorder(mark)).tobytes()


@pytest.mark.parametrize("mark", ["<", ">"])
@pytest.mark.parametrize("layout", ["strips", "tiles", "planes", "tiles-in-planes"])
@pytest.mark.parametrize(
    ("kind", "compression", "predictor"),
    [
        ("u4", NONE, 1), ("u4", LZW, 2), ("u4", DEFLATE, 2), ("f4", DEFLATE, 3), ("f2", DEFLATE, 3), ("f8", LZW, 3),
        ("f2", LZW, 2),
        ("f4", PACKBITS, 1), ("f4", LZW, 1), ("f4", ZSTD, 3),
        ("u1", NONE, 1), ("u2", NONE, 1), ("u2", LZW, 2), ("u1", PACKBITS, 1),
    ],
)  # fmt: skip
def test_strips_tiles_and_planes_of_every_compression(
    kind: str, compression: int, predictor: int, layout: str, mark: str
) -> None:
    full = 1.0 if kind[0] == "f" else float(np.iinfo(kind).max)
    picture = np.rint(RAMP * 8) / 65_536 if kind[0] == "f" else np.rint(RAMP / RAMP.max() * full)
    picture = picture.astype(kind)
    planes = [picture[:, :, i : i + 1] for i in range(3)] if "planes" in layout else [picture]
    chunk_w, chunk_h = (32, 16) if "tiles" in layout else (50, 16)
    chunks = []
    for plane in planes:
        for top in range(0, 40, chunk_h):
            for left in range(0, 50, chunk_w):
                part = plane[top : top + chunk_h, left : left + chunk_w]
                if "tiles" in layout:
                    part = np.pad(part, ((0, chunk_h - part.shape[0]), (0, chunk_w - part.shape[1]), (0, 0)))
                chunks.append(compressed(b"".join(differences(line, predictor, mark) for line in part), compression))
    data = tiff(
        chunks,
        (50, 40),
        [8 * np.dtype(kind).itemsize] * 3,
        RGB,
        mark=mark,
        form=FLOAT if kind[0] == "f" else UNSIGNED,
        compression=compression,
        predictor=predictor,
        planar=2 if "planes" in layout else 1,
        rows=chunk_h,
        tile_wh=(chunk_w, chunk_h) if "tiles" in layout else (0, 0),
    )
    values = picture.astype(np.float64)
    # Pillow keeps the higher byte of 16 bits, which may be one less than the nearest.
    np.testing.assert_allclose(decode(data, LIMITS), np.rint(values / full * 255), atol=1 if kind == "u2" else 0)


SEVERAL_SAMPLES = [
    pytest.param(GREY, (0,), id="grey-extra"), pytest.param(GREY, (UNASSOCIATED,), id="grey-alpha"),
    pytest.param(RGB, (), id="rgb"), pytest.param(RGB, (0,), id="rgb-extra"),
    pytest.param(RGB, (ASSOCIATED,), id="rgb-multiplied"), pytest.param(RGB, (UNASSOCIATED,), id="rgb-alpha"),
    pytest.param(RGB, (UNASSOCIATED, 0), id="rgb-alpha-extra"), pytest.param(RGB, None, id="rgb-unnamed"),
    pytest.param(CMYK, (), id="cmyk"), pytest.param(CMYK, (0,), id="cmyk-extra"),
]  # fmt: skip
COLOURS = {GREY: 1, RGB: 3, CMYK: 4}
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def packed_bits(samples: NDArray[Any], bits: int, mark: str) -> bytes:
    """Write lines of (height, width, samples) numbers of any depth."""
    if bits in {8, 16, 32}:
        return samples.astype(f"{mark}{samples.dtype.kind}{bits // 8}").tobytes()
    single = samples.astype(np.uint32)[..., None] >> np.arange(bits - 1, -1, -1) & 1
    return np.packbits(single.reshape(len(samples), -1).astype(np.uint8), axis=1).tobytes()


@pytest.mark.parametrize("mark", ["<", ">"])
@pytest.mark.parametrize("compression", [NONE, LZW, DEFLATE, PACKBITS, ZSTD])
@pytest.mark.parametrize(("photometric", "extra"), SEVERAL_SAMPLES)
def test_planes_show_what_pixels_one_after_another_show(
    photometric: int, extra: tuple[int, ...] | None, compression: int, mark: str
) -> None:
    count = COLOURS[photometric] + (1 if extra is None else len(extra))
    options: dict[str, Any] = {"mark": mark, "extra": extra or (), "compression": compression}
    for bits, form in (
        (2, UNSIGNED),
        (4, UNSIGNED),
        (8, UNSIGNED),
        (8, SIGNED),
        (16, UNSIGNED),
        (16, SIGNED),
        (32, FLOAT),
    ):
        numbers = np.random.default_rng(bits).integers(0, 1 << bits - (form == SIGNED), (5, 21, count))
        numbers = (numbers / 2**32).astype("f4") if form == FLOAT else numbers.astype("i8" if form == SIGNED else "u8")
        shown = []
        for planar, parts in ((1, [numbers]), (2, np.split(numbers, count, axis=2))):
            chunks = [compressed(packed_bits(part, bits, mark), compression) for part in parts]
            data = tiff(chunks, (21, 5), [bits] * count, photometric, form=form, planar=planar, **options)
            shown.append(decode(data, LIMITS).astype(int))
        chunky, planes = shown
        np.testing.assert_allclose(chunky, planes, atol=3, err_msg=f"{bits} bits of format {form}")


@pytest.mark.parametrize("mark", ["<", ">"])
@pytest.mark.parametrize("compression", [NONE, LZW, DEFLATE, PACKBITS, ZSTD])
@pytest.mark.parametrize("planar", [1, 2])
def test_one_sample_in_planes_or_not_is_the_same(planar: int, compression: int, mark: str) -> None:
    for photometric, bits, form in itertools.product((0, GREY), (1, 2, 4, 8, 16, 32), (UNSIGNED, SIGNED, FLOAT)):
        if (form == SIGNED and bits < 8) or (form == FLOAT and bits < 16):
            continue
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if form == SIGNED else (0, (1 << bits) - 1)
        numbers = np.random.default_rng(bits).integers(low, high, (5, 21, 1), endpoint=True)
        numbers[0, :2, 0] = low, high
        values = (numbers - low) / (high - low)
        stored = values.astype(f"f{bits // 8}") if form == FLOAT else numbers.astype("i8")
        chunk = compressed(packed_bits(stored, bits, mark), compression)
        options: dict[str, Any] = {"form": form, "compression": compression, "planar": planar, "mark": mark}
        shown = decode(tiff([chunk], (21, 5), [bits], photometric, **options), LIMITS).astype(int)
        expected = np.repeat(255 * (values if photometric == GREY else 1 - values), 3, axis=2)
        # Rounded to the nearest; a float of 16 bits is itself rounded.
        np.testing.assert_allclose(shown, expected, atol=0.6, err_msg=f"{photometric}, {bits} bits, format {form}")


@pytest.mark.parametrize("mark", ["<", ">"])
@pytest.mark.parametrize("compression", [NONE, LZW, DEFLATE, PACKBITS])
@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("bits", [2, 8, 16])
def test_bytes_may_have_their_lowest_bit_first(bits: int, planar: int, compression: int, mark: str) -> None:
    full = (1 << bits) - 1
    numbers = np.random.default_rng(bits).integers(0, full, (5, 21, 3), dtype=np.uint32, endpoint=True)
    parts = np.split(numbers, 3, axis=2) if planar == 2 else [numbers]
    chunks = [compressed(packed_bits(part, bits, mark), compression).translate(REVERSED) for part in parts]
    options: dict[str, Any] = {"compression": compression, "planar": planar, "mark": mark, "fill_order": 2}
    shown = decode(tiff(chunks, (21, 5), [bits] * 3, RGB, **options), LIMITS)
    np.testing.assert_allclose(shown, 255.0 * numbers / full, atol=1)


@pytest.mark.parametrize("compression", [NONE, PACKBITS])
@pytest.mark.parametrize("predictor", [2, 3])
def test_compressions_without_differences_ignore_the_predictor(predictor: int, compression: int) -> None:
    data = compressed(np.array([0.0, 0.2, 0.4, 1.0], "<f2").tobytes(), compression)
    file = tiff([data], (4, 1), [16], GREY, form=FLOAT, compression=compression, predictor=predictor)
    assert decode(file, LIMITS)[0].tolist() == grey(0, 51, 102, 255)


@pytest.mark.parametrize("mark", ["<", ">"])
@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_colour_map_of_8_bits_is_as_bright_as_one_of_16(bits: int, planar: int, mark: str) -> None:
    colours = np.random.default_rng(bits).integers(0, 256, (1 << bits, 3))
    colours[1] = 200, 40, 255
    numbers = np.arange(1 << bits).reshape(1, -1, 1)
    for scale in (1, 257, 256):
        stored = [int(value) * scale for value in colours.T.reshape(-1)]
        data = tiff(
            [packed_bits(numbers, bits, mark)],
            (1 << bits, 1), [bits], PALETTE, mark=mark, planar=planar, colour_map=stored,
        )  # fmt: skip
        assert decode(data, LIMITS)[0].tolist() == colours.tolist()


def test_a_colour_map_is_of_16_bits_where_one_value_is() -> None:
    data = tiff([b"\0\x01"], (2, 1), [8], PALETTE, colour_map=[255, 256] + [0] * 766)
    assert decode(data, LIMITS)[0].tolist() == [[0, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize("extra", [(), (0,), (UNASSOCIATED,)])
def test_planes_that_pillow_misreads_and_nothing_else_reads_are_refused(extra: tuple[int, ...]) -> None:
    photometric, colours = (8, 3) if not extra else (PALETTE, 1)  # Lab
    count = colours + len(extra)
    options: dict[str, Any] = {"extra": extra, "colour_map": [65_535] * 768 if photometric == PALETTE else ()}
    data = tiff([bytes(4)] * count, (2, 2), [8] * count, photometric, planar=2, **options)
    with pytest.raises(InvalidImage, match=rf"^a TIFF file of a variant .*interpretation {photometric}\)$"):
        decode(data, LIMITS)


def test_orientation_of_what_is_read_here_is_applied() -> None:
    data = tiff([np.array([0.0, 0.2, 0.4], "<f2").tobytes()], (3, 1), [16], GREY, form=FLOAT, orientation=6)
    assert (read_header(data, LIMITS).width, read_header(data, LIMITS).height) == (1, 3)
    assert decode(data, LIMITS)[:, 0, 0].tolist() == [0, 51, 102]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        pytest.param({"photometric": 32803}, "photometric interpretation 32803", id="raw-camera"),
        pytest.param({"compression": 34712, "bits": [16, 16]}, "compression 34712", id="jpeg-2000"),
        pytest.param({"bits": [8, 16, 8], "photometric": RGB}, "samples with different numbers of bits", id="mixed"),
        pytest.param({"bits": [8] * 5, "photometric": RGB}, "5 samples per pixel", id="unnamed-samples"),
        pytest.param(
            {"bits": [64, 64, 64], "form": 5, "photometric": RGB}, "samples of format 5 with 64 bits", id="complex"
        ),
        pytest.param({"bits": [40]}, "samples of format 1 with 40 bits", id="40-bits"),
    ],
)
def test_what_is_not_read_is_named_and_not_called_broken(options: dict[str, Any], reason: str) -> None:
    options = {"bits": [8], "photometric": GREY, **options}
    data = tiff([bytes(64)], (2, 2), options.pop("bits"), options.pop("photometric"), **options)
    with pytest.raises(InvalidImage, match=rf"^a TIFF file of a variant that is not read \({reason}\)$"):
        read_header(data, LIMITS)


@pytest.mark.parametrize("compression", [6, 34676, 34712, 50001, 12345])
def test_unknown_compressions_of_plain_colours_are_variants_too(compression: int) -> None:
    data = tiff([bytes(64)], (2, 2), [8], GREY, compression=compression)
    with pytest.raises(InvalidImage, match=r"^a TIFF file of a variant that is not read"):
        decode(data, LIMITS)


def test_a_palette_of_16_bits_is_a_variant_that_is_not_read() -> None:
    data = tiff([bytes(8)], (2, 2), [16], 3)
    with pytest.raises(InvalidImage, match=r"^a TIFF file of a variant that is not read"):
        read_header(data, LIMITS)


def test_missing_strips_and_pixels_are_damage() -> None:
    whole = tiff([bytes(12), bytes(12)], (1, 2), [32] * 3, RGB, form=FLOAT, rows=1)
    assert decode(whole, LIMITS).shape == (2, 1, 3)
    with pytest.raises(
        InvalidImage, match=r"^a broken TIFF file: it has fewer strips or tiles than its picture needs$"
    ):
        read_header(tiff([bytes(12)], (1, 2), [32] * 3, RGB, form=FLOAT, rows=1), LIMITS)
    with pytest.raises(InvalidImage, match=r"^(truncated|a broken TIFF file)$"):
        decode(tiff([b"garbage"], (1, 2), [32] * 3, RGB, form=FLOAT, compression=DEFLATE), LIMITS)


def test_samples_have_a_bound_of_their_own() -> None:
    side = 6000
    assert side * side * 12 > MAX_SAMPLE_BYTES
    data = tiff([zlib.compress(bytes(100))], (side, side), [32] * 3, RGB, form=FLOAT, compression=DEFLATE)
    for read in (read_header, decode):
        with pytest.raises(TooLarge, match=r"^the TIFF file unpacks to more than 300000000 bytes$"):
            read(data, LIMITS)
    with pytest.raises(TooLarge, match=r"^40000 x 40000 pixels are over the limit"):
        read_header(tiff([bytes(8)], (40_000, 40_000), [16], GREY, form=FLOAT), LIMITS)


def test_many_small_tiles_take_no_step_each_in_python() -> None:
    side, tile = 3200, 16
    tiles = (side // tile) ** 2
    data = tiff([b"\0\x3c" * tile * tile] * tiles, (side, side), [16], GREY, form=FLOAT, tile_wh=(tile, tile))
    begin = time.process_time()
    assert (decode(data, LIMITS) == 255).all()
    assert time.process_time() - begin < 20  # 2 s; a few milliseconds a tile would be minutes


def test_any_tags_give_a_picture_or_an_allowed_error() -> None:
    rng = np.random.default_rng(6)
    whole = tiff([bytes(range(48)) * 2], (4, 2), [32] * 3, RGB, form=FLOAT, extra=(), predictor=1, planar=1)
    start = struct.unpack_from("<I", whole, 4)[0]
    for _ in range(2000):
        data = bytearray(whole)
        for place in rng.integers(start, len(data), rng.integers(1, 4)):
            data[place] = rng.integers(0, 256)
        try:
            assert decode(bytes(data), LIMITS).dtype == np.uint8
        except (InvalidImage, TooLarge):
            continue
