"""The table of mask formats: how a mask is written and read in each `mask_format`.

Inside the package, masks are RLEs. The server writes an answer's masks by this table; the client and the overlays read
them by it. To add a format, add its name to `schemas.base.MaskFormat`, a row to `ENCODINGS`, and the row's key to
`schemas.documents.ObjectDocument` and `schemas.dicts.ObjectDict`.

Does not use the models.
"""

from __future__ import annotations

import base64
import binascii
import io
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serve_app.masks.polygons import outline_of, rle_from_polygons
from serve_app.masks.rle import decode_packed, encode_rle
from serve_app.schemas.base import MaskFormat
from serve_app.schemas.dicts import RingDict, RleDict

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

POINT_BYTES = 64
"""Bytes that a point of a polygon counts as. Two numbers in a list take at least this much memory."""

Value = TypeVar("Value")
Take = Callable[[int], None]


@dataclass(frozen=True)
class Packed(Generic[Value]):
    """A value in a form that is cheap to send to another process.

    Attributes:
        unpack: returns the value. It can be pickled.
    """

    unpack: Callable[[], Value]


@dataclass(frozen=True)
class MaskEncoding(Generic[Value]):
    """How a mask is written and read in one format.

    Attributes:
        key: the object's key that has the mask.
        write: takes an RLE and `take`, and returns the value of that key. It calls `take` with the value's size in
            bytes as soon as the size is known. An error that `take` raises stops the writing.
        read: takes the value and the image's height and width, and returns an RLE. It raises ValueError for a malformed
            value. If the value has a size of its own, the RLE has that size, which may differ from the image's.
        pack: like `write`, but returns a `Packed` value, which is cheaper to send to another process of the service.
            None if the value itself is cheap to send.
    """

    key: str
    write: Callable[[RleDict, Take], Value]
    read: Callable[[Value, tuple[int, int]], RleDict]
    pack: Callable[[RleDict, Take], Packed[Value]] | None = None


def _write_rle(rle: RleDict, take: Take) -> RleDict:
    take(len(rle["counts"]))
    return rle


def _write_polygons(rle: RleDict, take: Take) -> list[RingDict]:
    return _pack_polygons(rle, take).unpack()


def _pack_polygons(rle: RleDict, take: Take) -> Packed[list[RingDict]]:
    outline = outline_of(rle)
    take(POINT_BYTES * len(outline))  # before the rings are followed, which takes several times this memory
    return Packed(outline.packed().rings)


def _write_png(rle: RleDict, take: Take) -> str:
    """Write a mask as a 1-bit PNG of the image's size, white on black, in base64.

    Pillow would need one byte per pixel and three times as long, and would hold the GIL for a part of it.

    Memory: about 100 bytes per run of the mask, an eighth of a byte per pixel, and the text (at most a sixth of a byte
    per pixel).

    Source: PNG specification, third edition, sections 5, 7 and 11.
    """
    height, width = rle["size"]
    bits = decode_packed(rle)
    rows = np.zeros((height, 1 + bits.shape[1]), dtype=np.uint8)  # each row begins with its filter: 0, none
    rows[:, 1:] = bits
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)  # one bit of grey, not interlaced
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.data)), (b"IEND", b""))
    data = _PNG_SIGNATURE + b"".join(_png_chunk(name, content) for name, content in chunks)
    text = base64.b64encode(data).decode("ascii")
    take(len(text))
    return text


def _png_chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(name))
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def _read_png(text: str, size_hw: tuple[int, int]) -> RleDict:
    return encode_rle(_png_pixels(text, size_hw))


def _png_pixels(text: str, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]) as image:
            if (image.height, image.width) != size_hw:  # before it is decoded, because its header may name any size
                raise ValueError(f"a mask of {image.width}x{image.height} pixels")
            return np.array(image.convert("1"), dtype=np.bool_)
    except (binascii.Error, Image.DecompressionBombError, OSError, SyntaxError) as error:
        raise ValueError(f"not a PNG in base64: {error}") from None


ENCODINGS: Mapping[MaskFormat, MaskEncoding[Any]] = {
    "rle": MaskEncoding("mask_rle", _write_rle, lambda rle, _: rle),
    "polygon": MaskEncoding("mask_polygons", _write_polygons, rle_from_polygons, _pack_polygons),
    "png": MaskEncoding("mask_png", _write_png, _read_png),
}
"""The encoding of each format. `none` has no row, because its objects have no mask."""


def read_mask(
    item: Mapping[str, object],
    size_hw: tuple[int, int],
    encodings: Mapping[MaskFormat, MaskEncoding[Any]] = ENCODINGS,
) -> RleDict | None:
    """Read the mask of an object in any format.

    Args:
        item: an object of an image document.
        size_hw: the image's height and width in pixels.
        encodings: the formats to look for.

    Returns:
        The mask; None if the object has none. Its size may differ from the image's, so check it before decoding.

    Raises:
        ValueError: the mask is malformed. The counts of an RLE are not checked here; use `check_rle` for that.
    """
    for encoding in encodings.values():
        if (value := item.get(encoding.key)) is not None:
            return encoding.read(value, size_hw)
    return None


def png_pixels(item: Mapping[str, object], size_hw: tuple[int, int]) -> NDArray[np.bool_] | None:
    """Read the pixels of a mask that was sent as a PNG. For noise, this is ten times as fast as through an RLE.

    Args:
        item: an object of an image document.
        size_hw: the image's height and width in pixels.

    Returns:
        (H, W) bool, a new array; None if the object has no PNG.

    Raises:
        ValueError: the PNG is malformed, or has another size than the image.
    """
    text = item.get(ENCODINGS["png"].key)
    return _png_pixels(text, size_hw) if isinstance(text, str) else None
