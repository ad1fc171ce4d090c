"""HEIC and HEIF: pixels of known pictures, and files that would cost more than their picture."""

from __future__ import annotations

import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from serve_app.config.schema import LimitsConfig
from serve_app.errors import GensegError, InvalidImage, TooLarge
from serve_app.images import decode, read_header
from serve_app.images.heif import is_heif
from serve_app.images.structure.heif import heif_size, plain_heif
from tests.images.heif_files import Frames, box, contents, grid_file

FOLDER = Path(__file__).parents[1] / "data" / "heif"
FILES = {path.stem: path.read_bytes() for path in sorted(FOLDER.glob("*.heic"))}
LIMITS = LimitsConfig()
RED, GREEN, BLUE, YELLOW, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 255, 255)
OVERLAP = r"^a broken HEIF file: its items overlap$"
TOO_MUCH = r"^a broken HEIF file: its frames are larger than its picture$"
NOT_READ = r"^a HEIF file of a variant that is not read$"


@pytest.mark.parametrize(
    ("name", "size_wh", "last"),
    [
        ("plain", (96, 64), YELLOW),
        ("alpha", (96, 64), WHITE),  # its last quarter is transparent
        ("ten_bit", (96, 64), YELLOW),
        ("two_images", (96, 64), YELLOW),  # the first one counts
        ("phone", (80, 120), YELLOW),  # tiles in a grid; turned once, though a box and EXIF say it both
    ],
)
def test_a_picture_is_read_as_people_see_it(name: str, size_wh: tuple[int, int], last: tuple[int, int, int]) -> None:
    header = read_header(FILES[name], LIMITS)
    assert (header.width, header.height, header.format) == (*size_wh, "HEIF")
    pixels = decode(FILES[name], LIMITS)
    assert pixels.shape == (size_wh[1], size_wh[0], 3)
    assert pixels.flags.writeable
    found = [pixels[y, x].astype(int) for y in (8, -9) for x in (8, -9)]
    for colour, wanted in zip(found, (RED, GREEN, BLUE, last), strict=True):
        assert np.abs(colour - wanted).max() <= 3


@pytest.mark.parametrize("name", ["plain", "alpha", "phone"])
def test_a_file_that_is_cut_off_anywhere_is_invalid(name: str) -> None:
    data = FILES[name]
    for length in range(12, len(data)):
        with pytest.raises(InvalidImage):
            decode(data[:length], LIMITS)


@pytest.mark.parametrize("name", ["alpha", "phone", "two_images"])
def test_any_bytes_give_a_picture_of_the_size_that_is_checked_or_an_error(name: str) -> None:
    rng = np.random.default_rng(0)
    read = 0
    for _ in range(400):
        data = bytearray(FILES[name])
        for at in rng.integers(12, len(data), rng.integers(1, 4)):
            data[at] = rng.integers(256)
        try:
            header = read_header(bytes(data), LIMITS)
            pixels = decode(bytes(data), LIMITS)
        except GensegError:
            continue
        assert pixels.shape[0] * pixels.shape[1] <= LIMITS.max_megapixels * 1e6
        read += pixels.shape[:2] == (header.height, header.width)
    assert read > 20


def says(size_wh: tuple[int, int], data: bytes) -> bytes:
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", *size_wh) + data[at + 8 :]


def test_limits_hold_before_pixels_are_decoded() -> None:
    for size_wh, match in (((8_000, 8_000), "megapixels"), ((70_000, 10), "pixels per side")):
        with pytest.raises(TooLarge, match=match):
            read_header(says(size_wh, FILES["plain"]), LIMITS)
    with pytest.raises(TooLarge, match="megapixels"):
        read_header(FILES["large"], LimitsConfig(max_megapixels=4))


def test_a_frame_counts_by_its_own_size() -> None:
    assert heif_size(FILES["large"]) == (2048, 2048)
    with pytest.raises(InvalidImage, match=TOO_MUCH):
        heif_size(says((1, 1), FILES["large"]))


def test_a_parameter_set_in_front_of_a_frame_counts() -> None:
    """The header of the file says 96 x 64, and the frame itself brings the set of a frame of 2048 x 2048."""
    configuration = contents(FILES["large"], b"hvcC")
    at = configuration.index(b"\x42\x01\x01")
    unit = configuration[at - 2 : at + int.from_bytes(configuration[at - 2 : at], "big")]
    frame = contents(FILES["plain"], b"mdat")
    size = struct.pack(">I", len(unit) - 2)
    first = FILES["plain"].index(b"mdat") + 4
    assert FILES["plain"][first:] == frame
    place = FILES["plain"].index(struct.pack(">I", len(frame)))
    data = FILES["plain"][:first] + size + unit[2:] + frame
    data = data[:place] + struct.pack(">I", len(frame) + len(unit) + 2) + data[place + 4 :]
    box = struct.pack(">I", 8 + len(frame) + len(unit) + 2)
    with pytest.raises(InvalidImage, match=TOO_MUCH):
        heif_size(data[: first - 8] + box + data[first - 4 :])


def test_a_grid_that_names_one_tile_many_times_is_refused() -> None:
    tile = Frames([FILES["plain"]])
    assert heif_size(grid_file(tile, [1] * 4, 2, (192, 128))) == (192, 128)
    with pytest.raises(InvalidImage, match=TOO_MUCH):
        heif_size(grid_file(tile, [1] * 250, 25, (96, 64)))


@pytest.mark.parametrize("options", [{"described": 200}, {"packed": True}])
def test_the_decoder_sees_no_metadata(options: dict[str, int]) -> None:
    """It would copy it for each picture that it describes, or unpack it to any size."""
    tile, exif = Frames([FILES["plain"]]), bytes(200_000)
    data = grid_file(tile, [1], 1, (96, 64), exif=exif, **options)  # type: ignore[arg-type]
    plain = plain_heif(data)
    assert len(plain) < 1_000
    assert not {b"Exif", b"mime", b"cdsc"} & {plain[at : at + 4] for at in range(len(plain))}
    assert decode(data, LIMITS).shape == (64, 96, 3)


def test_the_decoder_sees_one_picture_and_its_transparency() -> None:
    assert plain_heif(FILES["two_images"]).count(b"infe") == 1
    assert plain_heif(FILES["alpha"]).count(b"infe") == 2
    assert plain_heif(plain_heif(FILES["phone"])) == plain_heif(FILES["phone"])


def test_items_that_share_bytes_are_refused() -> None:
    data = bytearray(FILES["phone"])
    at = data.index(b"iloc") + 12
    for tile in range(4):
        struct.pack_into(">II", data, at + 14 * tile + 6, 0, len(data) - 1)
    with pytest.raises(InvalidImage, match=OVERLAP):
        heif_size(bytes(data))


@pytest.mark.parametrize("kind", [b"av01", b"iovl", b"jpeg", b"unci"])
def test_pictures_of_other_codecs_are_refused(kind: bytes) -> None:
    with pytest.raises(InvalidImage, match=NOT_READ):
        heif_size(FILES["plain"].replace(b"hvc1", kind))


def test_a_file_without_a_picture_is_named() -> None:
    for data in (FILES["plain"][:28] + bytes(200), FILES["plain"].replace(b"ispe", b"free")):
        with pytest.raises(InvalidImage, match=r"^a broken HEIF file: no picture in it$"):
            heif_size(data)


def test_thousands_of_boxes_are_refused_at_once() -> None:
    with pytest.raises(InvalidImage, match=r"^a broken HEIF file: too many boxes$"):
        heif_size(FILES["plain"] + struct.pack(">I4s", 8, b"free") * 5_000)


def places(count: int) -> bytes:
    """A box that says of so many items that they have no bytes."""
    entries = b"".join(struct.pack(">IHHH", number, 0, 0, 0) for number in range(count))
    return box(b"iloc", bytes([2, 0, 0, 0, 0, 0]), struct.pack(">I", count), entries)


def associations(count: int, boxes: int) -> bytes:
    """Boxes that say of so many items each that they have no property."""
    entries = [b"".join(struct.pack(">IB", count * at + each, 0) for each in range(count)) for at in range(boxes)]
    return box(b"iprp", *(box(b"ipma", b"\1\0\0\0", struct.pack(">I", count), each) for each in entries))


@pytest.mark.parametrize("content", [places(70_000), associations(40_000, 2)], ids=["no bytes", "no properties"])
def test_thousands_of_items_are_refused_though_they_say_nothing(content: bytes) -> None:
    data = box(b"ftyp", b"heic", bytes(4), b"mif1heic") + box(b"meta", bytes(4), content)
    with pytest.raises(InvalidImage, match=r"^a broken HEIF file: too many items or (extents|properties)$"):
        heif_size(data)


def frames(configuration: bytes, frame: bytes, count: int) -> Frames:
    """Tiles that a file says nothing else of."""
    plain = FILES["plain"]
    parts = {b"hvcC": configuration, b"ispe": contents(plain, b"ispe"), b"colr": contents(plain, b"colr")}
    one = b"".join(box(kind, content) for kind, content in {**parts, b"mdat": frame}.items())
    return Frames([one] * count)


def test_parameter_sets_and_units_of_all_tiles_together_are_bounded() -> None:
    """Empty ones take two bytes and one byte, and each tile names the same sets."""
    configuration = contents(FILES["plain"], b"hvcC")
    many_sets = configuration[:22] + struct.pack(">BBH", 1, 0x21, 30_000) + bytes(60_000)
    short = configuration[:21] + bytes([configuration[21] & 0xFC]) + configuration[22:]  # lengths of one byte
    for tiles in (frames(many_sets, contents(FILES["plain"], b"mdat"), 3), frames(short, bytes(40_000), 2)):
        numbers = [*range(1, len(tiles.files) + 1)]
        with pytest.raises(InvalidImage, match=r"^a broken HEIF file: too many parameter sets or NAL units$"):
            heif_size(grid_file(tiles, numbers, 1, (96, 64 * len(numbers))))


def test_a_large_property_is_not_copied_for_each_time_that_it_is_named() -> None:
    named = bytes([255, *[1] * 254, 2])
    meta = box(
        b"meta",
        bytes(4),
        box(b"pitm", bytes(4), b"\0\1"),
        box(b"iinf", bytes(4), b"\0\1", box(b"infe", struct.pack(">BxxxHH4s", 2, 1, 0, b"hvc1"))),
        box(
            b"iprp",
            box(b"ipco", box(b"hvcC", bytes(1 << 20)), box(b"ispe", struct.pack(">III", 0, 9, 9))),
            box(b"ipma", bytes(4), struct.pack(">IH", 1, 1), named),
        ),
    )
    data = box(b"ftyp", b"heic", bytes(4), b"mif1heic") + meta
    tracemalloc.start()
    try:
        with pytest.raises(InvalidImage, match=NOT_READ):
            heif_size(data)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_brands_tell_heic_from_avif_and_video() -> None:
    def start(*brands: bytes) -> bytes:
        return struct.pack(">I4s4s4x", 16 + 4 * len(brands[1:]), b"ftyp", brands[0]) + b"".join(brands[1:])

    assert is_heif(start(b"heic", b"mif1"))
    assert is_heif(start(b"mif1", b"miaf", b"heic"))
    assert not is_heif(start(b"mif1", b"avif"))
    assert not is_heif(start(b"isom", b"heic"))
    assert not is_heif(b"heic" * 10)


def test_without_the_package_the_error_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['pi_heif.as_plugin'] = None\n"
        "from serve_app.config.schema import LimitsConfig\n"
        "from serve_app.images import read_header\n"
        "try: read_header(sys.stdin.buffer.read(), LimitsConfig())\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=FILES["plain"], capture_output=True, check=True)
    told = "InvalidImage a HEIF file: the server needs the package pi-heif to read it (pip install 'genseg[heif]')\n"
    assert done.stdout.decode() == told
