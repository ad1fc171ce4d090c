"""Checks that decoding the first picture of a HEIC or HEIF takes no more work than its size justifies.

The header gives the size of the picture, but each HEVC frame has a size of its own, and a grid can use one frame
thousands of times. Only pictures of HEVC frames are accepted: a single frame or a grid of tiles, as phones write them.
The decoder then sees a rewritten file with the picture and its transparency only. Metadata, colour profiles, thumbnails
and depth maps are left out, so that they cannot trigger bugs of a decoder.

Source: ISO/IEC 23008-12:2017, 6.5 (ispe, auxC, irot, imir) and 6.6.2.3 (grid); ISO/IEC 14496-15:2017, 8.3.3 (hvcC).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from serve_app.errors import InvalidImage
from serve_app.images.structure.heif_items import NOT_READ, Item, Items, read_items
from serve_app.images.structure.heif_plain import MAX_CONFIGURATION_BYTES, write_plain
from serve_app.images.structure.hevc import parameter_set_sizes, set_sizes_of_frame

_FRAMES_PER_PICTURE = 4
"""The frames that are decoded may have this many times the picture's area: colours, transparency, and a reserve."""
_PADDING_PIXELS = 1_000_000
"""Further pixels that are allowed, because frames consist of blocks that reach beyond a small picture."""
_ALPHA = (b"urn:mpeg:hevc:2015:auxid:1\0", b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0")

Size = tuple[int, int]


def heif_size(data: bytes) -> Size:
    """Return the size of the first picture before it is rotated, after checking the work of decoding it.

    Work: for all items together at most `MAX_BLOCKS` boxes, and at most `MAX_PIXEL_CHUNKS` extents, as many references,
    as many properties of items, and as many parameter sets and NAL units. Memory: one copy of an item.

    Args:
        data: a file with a HEIF signature.

    Returns:
        (width, height) in pixels, as the header says; each at least 1.

    Raises:
        InvalidImage: the file has no picture, is truncated, has too many boxes or entries, or is of a variant that is
            not read; or its frames have far more pixels than the picture.
    """
    return _checked(data)[2]


def plain_heif(data: bytes) -> bytes:
    """Reduce a file to the parts that its first picture needs.

    Work: as in `heif_size`. Memory: three copies of the file.

    Args:
        data: a file that passed `heif_size`.
    """
    items, picture, _ = _checked(data)
    return write_plain(items, picture)


def _checked(data: bytes) -> tuple[Items, dict[int, Item], Size]:
    """Check a file; return its items, the picture's items by ID (the primary item first), and the picture's size."""
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
            picture.update({item_id: items.item(item_id) for item_id in each.tiles})
        _check_extents(items, picture)  # before their bytes are copied
        work = sum(_work(items, each) for each in pictures)
    except (struct.error, IndexError):
        raise InvalidImage("truncated") from None
    if work > _FRAMES_PER_PICTURE * size[0] * size[1] + _PADDING_PIXELS:
        raise InvalidImage("a broken HEIF file: its frames are larger than its picture")
    return items, picture, size


def _is_alpha(items: Items, item: Item) -> bool:
    if items.primary not in item.auxiliary_to or items.items.get(items.primary) is item:
        return False
    return any(items.data.startswith(_ALPHA, start + 4, end) for start, end in items.properties_of_type(item, b"auxC"))


def _check_extents(items: Items, picture: Mapping[int, Item]) -> None:
    """Refuse items that share many bytes, because the bytes of each item are copied."""
    total = sum(length or len(items.data) for item in picture.values() for _, _, length in item.extents)
    if total > 2 * len(items.data):
        raise InvalidImage("a broken HEIF file: its items overlap")


def _size_of(items: Items, item: Item) -> Size | None:
    sizes = [struct.unpack_from(">II", items.data, start + 4) for start, _ in items.properties_of_type(item, b"ispe")]
    return None if not sizes or not all(sizes[0]) else (sizes[0][0], sizes[0][1])


def _work(items: Items, item: Item) -> int:
    """Count the pixels that are decoded for an item: of its frame, or of all tiles of its grid."""
    if item.kind == b"hvc1":
        return _frame(items, item)
    if item.kind != b"grid":
        raise InvalidImage(NOT_READ)
    tiles = {item_id: items.item(item_id) for item_id in item.tiles}
    if any(tile.kind != b"hvc1" for tile in tiles.values()):
        raise InvalidImage(NOT_READ)
    frames = {item_id: _frame(items, tile) for item_id, tile in tiles.items()}
    return sum(frames[item_id] for item_id in item.tiles)


def _frame(items: Items, item: Item) -> int:
    """Return the number of pixels of an item's frame, counted once, even if a grid uses the frame often."""
    if item.frame_pixels is None:
        item.frame_pixels = _pixels(items, item)
    return item.frame_pixels


def _pixels(items: Items, item: Item) -> int:
    """Count the pixels of an item's frame: the largest of the sizes in its ispe and in all its parameter sets."""
    sizes = [size for size in [_size_of(items, item)] if size is not None]
    boxes = [*items.properties_of_type(item, b"hvcC")]
    if len(boxes) != 1 or boxes[0][1] - boxes[0][0] > MAX_CONFIGURATION_BYTES:
        raise InvalidImage(NOT_READ)
    configuration = items.data[slice(*boxes[0])]
    sizes += parameter_set_sizes(configuration, items.hevc_units_left)
    sizes += set_sizes_of_frame(items.bytes_of(item), configuration, items.hevc_units_left)
    return max((width * height for width, height in sizes), default=0)
