"""Reads the items of a HEIC or HEIF file: its pictures, tiles and metadata.

The file consists of boxes; the boxes inside `meta` describe the items:

    box in meta | content
    ------------+----------------------------------------------------------------------------------------
    pitm        | the ID of the primary item
    iinf        | the type of each item
    iloc        | where the bytes of each item are (its extents), in the file or in idat
    iref        | references: from a grid to its tiles, from a transparency mask to its picture
    iprp        | the list of all properties (ipco), and which of them each item has (ipma)
    idat        | the bytes of the items that are stored inside meta

Source: ISO/IEC 14496-12:2020, 4.2 (boxes), 8.11 (meta and the boxes in it); ISO/IEC 23008-12:2017, 9.3 (iprp).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from serve_app.errors import InvalidImage
from serve_app.images.structure.bounds import MAX_BLOCKS, MAX_PIXEL_CHUNKS
from serve_app.images.structure.hevc import UnitsLeft

NOT_READ = "a HEIF file of a variant that is not read"


@dataclass
class Item:
    """An item of the file.

    Attributes:
        kind: its type, such as hvc1 or grid.
        extents: where its bytes are: (is in idat, offset, length), in bytes. The offset counts from the start of the
            file, or of idat's contents. A length of 0 means: to the end of the file.
        properties: indices of its properties in `Items.properties`, counted from 1.
        tiles: IDs of the items that it consists of (dimg).
        auxiliary_to: IDs of the items that it is an auxiliary image of, for example their transparency (auxl).
        frame_pixels: number of pixels of its HEVC frame; None until `structure.heif` has counted them.
    """

    kind: bytes = b""
    extents: list[tuple[bool, int, int]] = field(default_factory=list)
    properties: list[int] = field(default_factory=list)
    tiles: list[int] = field(default_factory=list)
    auxiliary_to: list[int] = field(default_factory=list)
    frame_pixels: int | None = None


class Items:
    """The items of a file, by ID, and their properties.

    Attributes:
        data: the whole file.
        items: the items by ID.
        properties: (type, start, end) of each property; its contents are `data[start:end]`. `Item.properties` counts
            them from 1.
        primary: the ID of the primary item; -1 if the file names none.
        idat_start: offset of the contents of idat in `data`; 0 if the file has no idat box.
        boxes_left: how many boxes may still be read.
        associations_left: how many more entries of ipma may be read; each property in an entry counts too.
        hevc_units_left: counts the HEVC parameter sets and NAL units that may still be read.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.items: dict[int, Item] = {}
        self.properties: list[tuple[bytes, int, int]] = []
        self.primary = -1
        self.idat_start = 0
        self.boxes_left = MAX_BLOCKS
        self.associations_left = MAX_PIXEL_CHUNKS
        self.hevc_units_left = UnitsLeft()

    def properties_of_type(self, item: Item, wanted: bytes) -> Iterator[tuple[int, int]]:
        """Yield (start, end) of the contents of each property of one type that an item has."""
        for kind, start, end in self.properties_of(item):
            if kind == wanted:
                yield start, end

    def properties_of(self, item: Item) -> Iterator[tuple[bytes, int, int]]:
        """Yield (type, start, end) of an item's properties, in the order of ipma; skip indices without a property."""
        for index in item.properties:
            if 0 < index <= len(self.properties):
                yield self.properties[index - 1]

    def bytes_of(self, item: Item) -> bytes:
        """Return the bytes of an item: its extents, joined.

        Raises:
            InvalidImage: the file is truncated.
        """
        extents = [(self.idat_start * in_idat + at, length) for in_idat, at, length in item.extents]
        if any(at + length > len(self.data) for at, length in extents):
            raise InvalidImage("truncated")
        return b"".join(self.data[at : at + length if length else None] for at, length in extents)

    def item(self, item_id: int) -> Item:
        """Return the item with this ID; add an empty item if there is none."""
        return self.items.setdefault(item_id, Item())

    def boxes(self, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
        """Yield (type, start, end) of each box from offset `start` to `end`. They enclose the box's contents.

        A box begins with its size (4 bytes, big-endian) and its type (4 bytes); its contents follow. Size 1 means that
        the real size is in the 8 bytes after the type. Size 0 means that the box reaches to `end`.

        Raises:
            InvalidImage: there are too many boxes; or a box is smaller than its header, or reaches beyond `end`.
            struct.error: the file ends within the header of a box.
        """
        while start + 8 <= end:
            self.boxes_left -= 1
            if self.boxes_left < 0:
                raise InvalidImage("a broken HEIF file: too many boxes")
            size, kind = struct.unpack_from(">I4s", self.data, start)
            body = start + 8
            if size == 1:
                (size,) = struct.unpack_from(">Q", self.data, body)
                body += 8
            stop = end if size == 0 else start + size
            if stop < body:
                raise InvalidImage("a broken HEIF file")
            if stop > end:
                raise InvalidImage("truncated")
            yield kind, body, stop
            start = stop

    def number(self, at: int, size: int) -> int:
        """Read a big-endian number of `size` bytes.

        Raises:
            IndexError: the file ends before the number does.
        """
        if at + size > len(self.data):
            raise IndexError
        return int.from_bytes(self.data[at : at + size], "big")


def read_items(data: bytes) -> Items:
    """Read the items of a file.

    Work: at most `MAX_BLOCKS` boxes, and at most `MAX_PIXEL_CHUNKS` extents, as many references, and as many properties
    of items.

    Raises:
        InvalidImage: the file has no `meta` box, too many boxes or entries, or a box of a wrong size; or it is of a
            variant that is not read.
        IndexError: the file is truncated.
        struct.error: the file is truncated.
    """
    items = Items(data)
    readers = {b"pitm": _read_pitm, b"iinf": _read_iinf, b"iloc": _read_iloc, b"iref": _read_iref, b"iprp": _read_iprp}
    metas = [each for each in items.boxes(0, len(data)) if each[0] == b"meta"]
    if len(metas) != 1:
        raise InvalidImage("a broken HEIF file: no picture in it" if not metas else NOT_READ)
    _, meta_start, meta_end = metas[0]
    seen: set[bytes] = set()
    for kind, start, end in items.boxes(meta_start + 4, meta_end):  # after version and flags
        if kind in seen and (kind in readers or kind == b"idat"):
            raise InvalidImage(NOT_READ)
        seen.add(kind)
        if kind == b"idat":
            items.idat_start = start
        elif kind in readers:
            readers[kind](items, range(start, end))
    return items


def _read_pitm(items: Items, contents: range) -> None:
    items.primary = items.number(contents.start + 4, 4 if items.data[contents.start] else 2)


def _read_iinf(items: Items, contents: range) -> None:
    for kind, at, _ in items.boxes(contents.start + (8 if items.data[contents.start] else 6), contents.stop):
        version = items.data[at]
        if kind != b"infe" or version < 2:
            raise InvalidImage(NOT_READ)
        id_size = 4 if version > 2 else 2
        kind_at = at + 4 + id_size + 2  # after version and flags, ID, and protection
        item = items.item(items.number(at + 4, id_size))
        item.kind = items.data[kind_at : kind_at + 4]


def _read_iloc(items: Items, contents: range) -> None:
    start = contents.start
    version = items.data[start]
    offset_size, length_size = items.data[start + 4] >> 4, items.data[start + 4] & 15
    base_size, index_size = items.data[start + 5] >> 4, (items.data[start + 5] & 15) if version else 0
    id_size = 4 if version >= 2 else 2
    at, entries_left = start + 6 + id_size, MAX_PIXEL_CHUNKS
    for _ in range(items.number(start + 6, id_size)):
        item = items.item(items.number(at, id_size))
        at += id_size
        method = items.number(at, 2) & 15 if version else 0
        at += 2 if version else 0
        if method > 1 or items.number(at, 2):
            raise InvalidImage(NOT_READ)  # method 2: bytes in another item; a data reference: bytes in another file
        base = items.number(at + 2, base_size)
        count = items.number(at + 2 + base_size, 2)
        at += 4 + base_size
        entries_left -= count + 1
        if entries_left < 0:
            raise InvalidImage("a broken HEIF file: too many items or extents")
        for _ in range(count):
            at += index_size
            offset, length = items.number(at, offset_size), items.number(at + offset_size, length_size)
            item.extents.append((method == 1, base + offset, length))
            at += offset_size + length_size


def _read_iref(items: Items, contents: range) -> None:
    id_size, references_left = 4 if items.data[contents.start] else 2, MAX_PIXEL_CHUNKS
    for kind, at, _ in items.boxes(contents.start + 4, contents.stop):
        item, count = items.item(items.number(at, id_size)), items.number(at + id_size, 2)
        references_left -= count
        if references_left < 0:
            raise InvalidImage("a broken HEIF file: too many references")
        named = [items.number(at + id_size + 2 + index * id_size, id_size) for index in range(count)]
        if kind == b"dimg":
            item.tiles += named
        elif kind == b"auxl":
            item.auxiliary_to += named


def _read_iprp(items: Items, contents: range) -> None:
    for kind, at, stop in items.boxes(contents.start, contents.stop):
        if kind == b"ipco":
            items.properties += items.boxes(at, stop)
        elif kind == b"ipma":
            _read_ipma(items, at)


def _read_ipma(items: Items, start: int) -> None:
    id_size, index_size = 4 if items.data[start] else 2, 2 if items.data[start + 3] & 1 else 1
    index_bits = 0x7FFF if index_size == 2 else 0x7F  # the highest bit says whether the property is essential
    at = start + 8
    for _ in range(items.number(start + 4, 4)):
        item, count = items.item(items.number(at, id_size)), items.number(at + id_size, 1)
        at += id_size + 1
        items.associations_left -= count + 1
        if items.associations_left < 0:
            raise InvalidImage("a broken HEIF file: too many items or properties")
        item.properties += [items.number(at + place * index_size, index_size) & index_bits for place in range(count)]
        at += count * index_size
