"""Builds HEIC files out of frames that an encoder wrote: pictures in a grid of tiles, as phones write them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass


def box(kind: bytes, *parts: bytes) -> bytes:
    """Write a box."""
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def contents(data: bytes, kind: bytes) -> bytes:
    """Read what the first box of a kind holds."""
    at = data.index(kind)
    (size,) = struct.unpack_from(">I", data, at - 4)
    return data[at + 4 : at - 4 + size]


@dataclass(frozen=True)
class Frames:
    """Frames of one size and configuration, out of files that hold one picture each."""

    files: Sequence[bytes]

    @property
    def size_wh(self) -> tuple[int, int]:
        width, height = struct.unpack_from(">II", contents(self.files[0], b"ispe"), 4)
        return width, height

    def properties(self, canvas_wh: tuple[int, int], turn: int) -> bytes:
        """Write the properties: 1 hvcC, 2 size of a tile, 3 size of the grid, 4 turn, 5 colours."""
        first = self.files[0]
        return box(
            b"ipco",
            box(b"hvcC", contents(first, b"hvcC")),
            box(b"ispe", struct.pack(">III", 0, *self.size_wh)),
            box(b"ispe", struct.pack(">III", 0, *canvas_wh)),
            box(b"irot", bytes([turn])),
            box(b"colr", contents(first, b"colr")),
        )


def grid_file(
    frames: Frames,
    parts: Sequence[int],
    columns: int,
    canvas_wh: tuple[int, int],
    *,
    exif: bytes = b"",
    turn: int = 0,
    described: int = 1,
    packed: bool = False,
) -> bytes:
    """Write a picture of tiles.

    Args:
        frames: the tiles.
        parts: which tiles stand in the grid, from 1, row by row.
        columns: of the grid.
        canvas_wh: size of the picture before it is turned.
        exif: metadata.
        turn: quarters of a circle, anticlockwise.
        described: how often the metadata says that it is the picture's.
        packed: write the metadata as packed text.
    """
    tiles = len(frames.files)
    grid = struct.pack(">BBBBHH", 0, 0, len(parts) // columns - 1, columns - 1, *canvas_wh)
    blobs = [*(contents(file, b"mdat") for file in frames.files), grid, exif]
    kinds = [b"hvc1"] * tiles + [b"grid", b"mime" if packed else b"Exif"]
    names = [b"\0"] * (tiles + 1) + [b"\0text/xml\0deflate\0" if packed else b"\0"]
    infos = [
        box(b"infe", struct.pack(">BxBBHH4s", 2, 0, kind != b"grid", number, 0, kind), name)
        for number, (kind, name) in enumerate(zip(kinds, names, strict=True), 1)
    ]
    has = [struct.pack(">H", number) + bytes([3, 0x81, 2, 5]) for number in range(1, tiles + 1)]
    has.append(struct.pack(">H", tiles + 1) + bytes([3, 3, 0x84, 5]))
    references = [
        box(b"dimg", struct.pack(f">HH{len(parts)}H", tiles + 1, len(parts), *parts)),
        box(b"cdsc", struct.pack(f">HH{described}H", tiles + 2, described, *[tiles + 1] * described)),
    ]
    start = box(b"ftyp", b"heic", bytes(4), b"mif1heic")

    def meta(at: int) -> bytes:
        places = b""
        for number, blob in enumerate(blobs, 1):
            places += struct.pack(">HHHII", number, 0, 1, at, len(blob))
            at += len(blob)
        return box(
            b"meta",
            bytes(4),
            box(b"hdlr", bytes(8), b"pict", bytes(13)),
            box(b"pitm", bytes(4), struct.pack(">H", tiles + 1)),
            box(b"iloc", bytes(4), b"\x44\x00", struct.pack(">H", len(blobs)), places),
            box(b"iinf", bytes(4), struct.pack(">H", len(infos)), *infos),
            box(b"iref", bytes(4), *references),
            box(
                b"iprp",
                frames.properties(canvas_wh, turn),
                box(b"ipma", bytes(4), struct.pack(">I", len(has)), *has),
            ),
        )

    return start + meta(len(start) + len(meta(0)) + 8) + box(b"mdat", *blobs)
