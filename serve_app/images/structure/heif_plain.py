"""Writes a HEIC or HEIF file that has only the first picture of another file, with its transparency.

Metadata, colour profiles, thumbnails and depth maps are left out, because they could trigger bugs of a decoder.

    ftyp
    meta: hdlr, pitm, iinf, iprp (ipco, ipma), iref, iloc
    mdat: the bytes of the items

Source: ISO/IEC 14496-12:2020, 8.11 (meta and the boxes in it), 12.1.4 (clap), 12.1.5 (colr); ISO/IEC 23008-12:2017, 6.5
(properties) and 9.3 (iprp).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from serve_app.images.structure.heif_items import Item, Items

MAX_CONFIGURATION_BYTES = (1 << 16) - 1
_LENGTHS: Mapping[bytes, range] = {
    b"hvcC": range(23, MAX_CONFIGURATION_BYTES + 1),
    b"ispe": range(12, 13),
    b"irot": range(1, 2),
    b"imir": range(1, 2),
    b"clap": range(32, 33),
    b"pixi": range(5, 21),
    b"colr": range(11, 12),
    b"auxC": range(5, 256),
}
"""The properties that affect the pixels, and the sizes in bytes that are allowed. A colr is kept only if it is nclx."""
_ESSENTIAL = frozenset({b"hvcC", b"irot", b"imir", b"clap"})


def write_plain(items: Items, picture: Mapping[int, Item]) -> bytes:
    """Write a file that has only some of the items.

    Args:
        items: all items of the file.
        picture: the items to keep, by ID. The first is the primary item.

    Returns:
        The new file. The IDs of its items count from 1.
    """
    properties = _properties(items, picture)
    new_ids = {old: new for new, old in enumerate(picture, 1)}
    new_indices = {old: new for new, old in enumerate(properties, 1)}
    associations = b""
    for old, item in picture.items():
        kept = [index for index in item.properties if index in new_indices]
        essential = [items.properties[index - 1][0] in _ESSENTIAL for index in kept]
        pairs = [new_indices[index] | 0x8000 * bit for index, bit in zip(kept, essential, strict=True)]
        associations += struct.pack(f">HB{len(pairs)}H", new_ids[old], len(pairs), *pairs)
    boxes = [
        _box(b"hdlr", bytes(8), b"pict", bytes(13)),
        _box(b"pitm", bytes(4), struct.pack(">H", new_ids[items.primary])),
        _box(b"iinf", bytes(4), struct.pack(">H", len(picture)), *_infos(picture, new_ids)),
        _box(
            b"iprp",
            _box(b"ipco", *properties.values()),
            _box(b"ipma", b"\0\0\0\1", struct.pack(">I", len(picture)), associations),
        ),
    ]
    if references := _references(picture, new_ids):
        boxes.append(_box(b"iref", bytes(4), *references))
    return _with_iloc(boxes, [items.bytes_of(item) for item in picture.values()])


def _with_iloc(boxes: list[bytes], blobs: list[bytes]) -> bytes:
    """Write the file from the boxes in meta and the bytes of the items; add iloc, which says where the bytes are."""
    start = _box(b"ftyp", b"heic", bytes(4), b"mif1heic")
    entry = struct.Struct(">HHHII")
    length = 8 + 4 + sum(map(len, boxes)) + 8 + 8 + entry.size * len(blobs)
    at = len(start) + length + 8
    entries = b""
    for item_id, blob in enumerate(blobs, 1):
        entries += entry.pack(item_id, 0, 1, at, len(blob))
        at += len(blob)
    iloc = _box(b"iloc", bytes(4), b"\x44\x00", struct.pack(">H", len(blobs)), entries)
    return start + _box(b"meta", bytes(4), *boxes, iloc) + _box(b"mdat", *blobs)


def _properties(items: Items, picture: Mapping[int, Item]) -> dict[int, bytes]:
    """Return the boxes of the properties to keep, each once, by their indices in the original file."""
    kept: dict[int, bytes] = {}
    for item in picture.values():
        for index in item.properties:
            if index in kept or not 0 < index <= len(items.properties):
                continue
            kind, start, end = items.properties[index - 1]
            if end - start not in _LENGTHS.get(kind, ()):
                continue  # before the copy, because many items can name one large property
            body = items.data[start:end]
            if kind != b"colr" or body.startswith(b"nclx"):
                kept[index] = _box(kind, body)
    return kept


def _infos(picture: Mapping[int, Item], new_ids: Mapping[int, int]) -> list[bytes]:
    """Return the boxes that give the type of each item. All items except the primary one are hidden."""
    first = next(iter(picture))
    return [
        _box(b"infe", struct.pack(">BxxBHH4sx", 2, old != first, new_ids[old], 0, item.kind))
        for old, item in picture.items()
    ]


def _references(picture: Mapping[int, Item], new_ids: Mapping[int, int]) -> list[bytes]:
    written = []
    for old, item in picture.items():
        auxiliary = [item_id for item_id in item.auxiliary_to if item_id in picture]
        for kind, named in ((b"dimg", item.tiles), (b"auxl", auxiliary)):
            if named:
                pack = struct.pack(f">HH{len(named)}H", new_ids[old], len(named), *(new_ids[each] for each in named))
                written.append(_box(kind, pack))
    return written


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body
