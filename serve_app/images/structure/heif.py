"""What the decoder of a HEIC or HEIF has to do for its first picture, held against the size of that picture.

The file says how large its picture is; the frames inside say on their own how large they are, and a grid may name one
frame thousands of times. Only pictures of HEVC frames are let through, alone or as a grid of tiles, as phones write
them. The decoder gets to see a file that is written anew, with the picture and its transparency alone: metadata,
colour profiles, thumbnails and depth are where its bugs are. Knows no Pillow.

Source: ISO/IEC 23008-12 (ispe, grid, auxl, irot, imir, clap), 14496-15 (hvcC).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from serve_app.errors import InvalidImage
from serve_app.images.structure.heif_items import NOT_READ, Item, Items, read_items
from serve_app.images.structure.heif_plain import MOST_CONFIGURATION_BYTES, write_plain
from serve_app.images.structure.hevc import parameter_set_sizes, set_sizes_of_frame

_FRAMES_PER_PICTURE = 4
"""Frames that are decoded for one picture, by area: colours, transparency."""
_PADDING_PIXELS = 1_000_000
"""Frames are coded in blocks, which reach beyond a small picture."""
_ALPHA = (b"urn:mpeg:hevc:2015:auxid:1\0", b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0")

Size = tuple[int, int]


def heif_size(data: bytes) -> Size:
    """Find the size of the first picture, before it is turned.

    Bound: at most MAX_BLOCKS boxes, MAX_PIXEL_CHUNKS extents, references and NAL units each, in all items together, and
    one copy of an item.

    Args:
        data: a file with a HEIF signature.

    Returns:
        (width, height) in pixels, as the file says; at least 1.

    Raises:
        InvalidImage: no picture, too many parts, a variant that is not read, or more to decode than the picture has
            pixels.
    """
    return _checked(data)[2]


def plain_heif(data: bytes) -> bytes:
    """Cut a file down to what its first picture needs.

    Bound: the steps of `heif_size`, and three copies of the file.

    Args:
        data: a file that `heif_size` let through.
    """
    items, picture, _ = _checked(data)
    return write_plain(items, picture)


def _checked(data: bytes) -> tuple[Items, dict[int, Item], Size]:
    """Read a file; returns its items, those of the picture by number (the primary one first), and its size."""
    try:
        items = read_items(data)
        primary = items.items.get(items.primary)
        size = None if primary is None else _size_of(items, primary)
        if primary is None or size is None:
            raise InvalidImage("a broken HEIF file: no picture in it")
        picture = {items.primary: primary}
        alpha = next((n for n, each in items.items.items() if _is_alpha(items, each)), None)
        if alpha is not None:
            picture[alpha] = items.item(alpha)
        pictures = [*picture.values()]
        for each in pictures:
            picture.update({number: items.item(number) for number in each.parts})
        _check_extents(items, picture)  # before any of their bytes are copied
        work = sum(_work(items, each) for each in pictures)
    except (struct.error, IndexError):
        raise InvalidImage("truncated") from None
    if work > _FRAMES_PER_PICTURE * size[0] * size[1] + _PADDING_PIXELS:
        raise InvalidImage("a broken HEIF file: its frames are larger than its picture")
    return items, picture, size


def _is_alpha(items: Items, item: Item) -> bool:
    if items.primary not in item.auxiliary_to or items.items.get(items.primary) is item:
        return False
    return any(items.data.startswith(_ALPHA, start + 4, end) for start, end in items.of(item, b"auxC"))


def _check_extents(items: Items, picture: Mapping[int, Item]) -> None:
    """Refuse items that share bytes: each is copied."""
    total = sum(length or len(items.data) for item in picture.values() for _, _, length in item.extents)
    if total > 2 * len(items.data):
        raise InvalidImage("a broken HEIF file: its items overlap")


def _size_of(items: Items, item: Item) -> Size | None:
    sizes = [struct.unpack_from(">II", items.data, start + 4) for start, _ in items.of(item, b"ispe")]
    return None if not sizes or not all(sizes[0]) else (sizes[0][0], sizes[0][1])


def _work(items: Items, item: Item) -> int:
    """Count the pixels that are decoded for a picture: its frame, or the tiles of its grid."""
    if item.kind == b"hvc1":
        return _frame(items, item)
    if item.kind != b"grid":
        raise InvalidImage(NOT_READ)
    tiles = {number: items.item(number) for number in item.parts}
    if any(tile.kind != b"hvc1" for tile in tiles.values()):
        raise InvalidImage(NOT_READ)
    frames = {number: _frame(items, tile) for number, tile in tiles.items()}
    return sum(frames[number] for number in item.parts)


def _frame(items: Items, item: Item) -> int:
    if item.frame is None:
        item.frame = _pixels(items, item)
    return item.frame


def _pixels(items: Items, item: Item) -> int:
    sizes = [size for size in [_size_of(items, item)] if size is not None]
    places = [*items.of(item, b"hvcC")]
    if len(places) != 1 or places[0][1] - places[0][0] > MOST_CONFIGURATION_BYTES:
        raise InvalidImage(NOT_READ)
    configuration = items.data[slice(*places[0])]
    sizes += parameter_set_sizes(configuration, items.parts_left)
    sizes += set_sizes_of_frame(items.bytes_of(item), configuration, items.parts_left)
    return max((width * height for width, height in sizes), default=0)
