"""Reads the items of a HEIC or HEIF. Knows no Pillow.

    box in meta | what it says of the items
    ------------+--------------------------------------------------------------
    pitm        | the number of the primary item
    iinf        | the type of each item
    iloc        | the extents in the file, or in idat, of each item
    iref        | references between items: parts of a grid, transparency
    iprp        | all properties (ipco), and the properties of each item (ipma)
    idat        | bytes of items

Source: ISO/IEC 14496-12:2020, 4.2 (boxes), 8.11 (meta and the boxes in it); ISO/IEC 23008-12:2017, 9.3 (iprp).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from serve_app.errors import InvalidImage
from serve_app.images.structure.bounds import MAX_BLOCKS, MAX_PIXEL_CHUNKS
from serve_app.images.structure.hevc import PartsLeft

NOT_READ = "a HEIF file of a variant that is not read"


@dataclass
class Item:
    """An item of the file.

    Attributes:
        kind: its type, such as hvc1 or grid.
        extents: where its bytes are: (whether in idat, offset, length in bytes; 0 means up to the end).
        properties: numbers of its properties in `Items.properties`, counted from 1.
        parts: numbers of the items that it is made of (dimg).
        auxiliary_to: numbers of the items to which it adds, for example, transparency (auxl).
        frame: pixels of its frame, once they have been counted.
    """

    kind: bytes = b""
    extents: list[tuple[bool, int, int]] = field(default_factory=list)
    properties: list[int] = field(default_factory=list)
    parts: list[int] = field(default_factory=list)
    auxiliary_to: list[int] = field(default_factory=list)
    frame: int | None = None


class Items:
    """The items of a file, by number, and their properties.

    Attributes:
        data: the whole file.
        items: the items by number.
        properties: (type, start, end) of the contents of each property. Items count them from 1.
        primary: the number of the primary item; -1 if none is named.
        stored: index of the contents of the idat box; 0 without one.
        left: how many boxes may still be read.
        associations_left: how many properties of items may still be read.
        parts_left: how many parameter sets and NAL units may still be read.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.items: dict[int, Item] = {}
        self.properties: list[tuple[bytes, int, int]] = []
        self.primary = -1
        self.stored = 0
        self.left = MAX_BLOCKS
        self.associations_left = MAX_PIXEL_CHUNKS
        self.parts_left = PartsLeft()

    def of(self, item: Item, wanted: bytes) -> Iterator[tuple[int, int]]:
        """Yield start and end of an item's properties of one type."""
        for kind, start, end in self.properties_of(item):
            if kind == wanted:
                yield start, end

    def properties_of(self, item: Item) -> Iterator[tuple[bytes, int, int]]:
        """Yield type, start and end of an item's properties, in the order in which they apply."""
        for number in item.properties:
            if 0 < number <= len(self.properties):
                yield self.properties[number - 1]

    def bytes_of(self, item: Item) -> bytes:
        """Join the bytes of an item.

        Raises:
            InvalidImage: the file is truncated.
        """
        parts = [(self.stored * inside + at, length) for inside, at, length in item.extents]
        if any(at + length > len(self.data) for at, length in parts):
            raise InvalidImage("truncated")
        return b"".join(self.data[at : at + length if length else None] for at, length in parts)

    def item(self, number: int) -> Item:
        """Return the item with a number; create it if it is new."""
        return self.items.setdefault(number, Item())

    def boxes(self, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
        """Yield type, start and end of the contents of the boxes between two indices of the file.

        A box is its size (4 bytes, big-endian; 1: the size follows in 8 bytes; 0: up to the end), its type (4 bytes),
        and its contents.

        Raises:
            InvalidImage: too many boxes, or a size is wrong.
            struct.error: the file is truncated.
        """
        while start + 8 <= end:
            self.left -= 1
            if self.left < 0:
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
            IndexError: the file ends before.
        """
        if at + size > len(self.data):
            raise IndexError
        return int.from_bytes(self.data[at : at + size], "big")


def read_items(data: bytes) -> Items:
    """Read the items of a file.

    Bound: in all boxes together, at most `MAX_BLOCKS` boxes, and `MAX_PIXEL_CHUNKS` each of extents, references and
    properties of items.

    Raises:
        InvalidImage: the file has no items or too many parts, or is of a variant that is not read.
        IndexError: the file is truncated.
        struct.error: the file is truncated.
    """
    items = Items(data)
    readers = {b"pitm": _read_pitm, b"iinf": _read_iinf, b"iloc": _read_iloc, b"iref": _read_iref, b"iprp": _read_iprp}
    top = [each for each in items.boxes(0, len(data)) if each[0] == b"meta"]
    if len(top) != 1:
        raise InvalidImage("a broken HEIF file: no picture in it" if not top else NOT_READ)
    seen: set[bytes] = set()
    for kind, start, end in items.boxes(top[0][1] + 4, top[0][2]):
        if kind in seen and (kind in readers or kind == b"idat"):
            raise InvalidImage(NOT_READ)
        seen.add(kind)
        if kind == b"idat":
            items.stored = start
        elif kind in readers:
            readers[kind](items, range(start, end))
    return items


def _read_pitm(items: Items, box: range) -> None:
    items.primary = items.number(box.start + 4, 4 if items.data[box.start] else 2)


def _read_iinf(items: Items, box: range) -> None:
    for kind, at, _ in items.boxes(box.start + (8 if items.data[box.start] else 6), box.stop):
        version = items.data[at]
        if kind != b"infe" or version < 2:
            raise InvalidImage(NOT_READ)
        wide = 4 if version > 2 else 2
        name = at + 4 + wide + 6
        item = items.item(items.number(at + 4, wide))
        item.kind = items.data[name - 4 : name]


def _read_iloc(items: Items, box: range) -> None:
    start = box.start
    version = items.data[start]
    offset_size, length_size = items.data[start + 4] >> 4, items.data[start + 4] & 15
    base_size, index_size = items.data[start + 5] >> 4, (items.data[start + 5] & 15) if version else 0
    wide = 4 if version >= 2 else 2
    at, left = start + 6 + wide, MAX_PIXEL_CHUNKS
    for _ in range(items.number(start + 6, wide)):
        item = items.item(items.number(at, wide))
        at += wide
        method = items.number(at, 2) & 15 if version else 0
        at += 2 if version else 0
        if method > 1 or items.number(at, 2):
            raise InvalidImage(NOT_READ)  # the bytes are in another file, or in another item
        base = items.number(at + 2, base_size)
        count = items.number(at + 2 + base_size, 2)
        at += 4 + base_size
        left -= count + 1
        if left < 0:
            raise InvalidImage("a broken HEIF file: too many items")
        for _ in range(count):
            at += index_size
            offset, length = items.number(at, offset_size), items.number(at + offset_size, length_size)
            item.extents.append((method == 1, base + offset, length))
            at += offset_size + length_size


def _read_iref(items: Items, box: range) -> None:
    wide, left = 4 if items.data[box.start] else 2, MAX_PIXEL_CHUNKS
    for kind, at, _ in items.boxes(box.start + 4, box.stop):
        item, count = items.item(items.number(at, wide)), items.number(at + wide, 2)
        left -= count
        if left < 0:
            raise InvalidImage("a broken HEIF file: too many items")
        named = [items.number(at + wide + 2 + index * wide, wide) for index in range(count)]
        if kind == b"dimg":
            item.parts += named
        elif kind == b"auxl":
            item.auxiliary_to += named


def _read_iprp(items: Items, box: range) -> None:
    for kind, at, stop in items.boxes(box.start, box.stop):
        if kind == b"ipco":
            items.properties += items.boxes(at, stop)
        elif kind == b"ipma":
            _read_ipma(items, at)


def _read_ipma(items: Items, start: int) -> None:
    wide, size = 4 if items.data[start] else 2, 2 if items.data[start + 3] & 1 else 1
    at = start + 8
    for _ in range(items.number(start + 4, 4)):
        item, count = items.item(items.number(at, wide)), items.number(at + wide, 1)
        at += wide + 1
        items.associations_left -= count + 1
        if items.associations_left < 0:
            raise InvalidImage("a broken HEIF file: too many items")
        item.properties += [
            items.number(at + index * size, size) & (0x7FFF if size == 2 else 0x7F) for index in range(count)
        ]
        at += count * size
