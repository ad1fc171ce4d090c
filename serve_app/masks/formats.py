"""The table of mask formats: how a mask is sent in each `mask_format`, and read back.

The package itself keeps masks as RLE. The server writes an answer's masks by this table; the client and the overlays
read them by it. A new format is a name in `schemas.base.MaskFormat`, a row of ENCODINGS, and the row's key in
`schemas.documents.ObjectDocument` and `schemas.dicts.ObjectDict`.

Pure; knows no model.
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
"""What a point of a polygon counts as: two numbers in a list take this much memory and more."""

Value = TypeVar("Value")
Take = Callable[[int], None]


@dataclass(frozen=True)
class Packed(Generic[Value]):
    """A value on its way to another process.

    Attributes:
        unpack: makes the value; can be pickled.
    """

    unpack: Callable[[], Value]


@dataclass(frozen=True)
class MaskEncoding(Generic[Value]):
    """How a mask is sent.

    Attributes:
        key: the object's key that holds the mask.
        write: makes the value of that key from an RLE. It calls `take` with the value's size in bytes, as soon as the
            size is known; an error that `take` raises ends the writing.
        read: makes an RLE from the value and the image's height and width. It raises ValueError for a malformed value.
            The RLE may be of another size where the value has a size of its own.
        pack: as `write`, but makes the value in a form that is cheaper to send to another process of the service,
            which gets the value itself by `Packed.unpack`; None where the value is cheap to send.
    """

    key: str
    write: Callable[[RleDict, Take], Value]
    read: Callable[[Value, tuple[int, int]], RleDict]
    pack: Callable[[RleDict, Take], Packed[Value]] | None = None


def _write_rle(rle: RleDict, take: Take) -> RleDict:
    take(len(rle["counts"]))
    return rle


def _read_rle(rle: RleDict, size_hw: tuple[int, int]) -> RleDict:
    return rle


def _write_polygons(rle: RleDict, take: Take) -> list[RingDict]:
    return _pack_polygons(rle, take).unpack()


def _pack_polygons(rle: RleDict, take: Take) -> Packed[list[RingDict]]:
    outline = outline_of(rle)
    take(POINT_BYTES * len(outline))  # before the rings are followed, which takes several times this much
    return Packed(outline.packed().rings)


def _write_png(rle: RleDict, take: Take) -> str:
    """Write a mask as a 1-bit PNG of the image's size, white on black, in base64.

    By hand, because Pillow makes it from a byte a pixel, which takes three times as long, a part of it with the
    interpreter's lock held. Source: PNG specification, sections 5, 7 and 11.

    Bound: some hundred bytes a run of the mask, an eighth of a byte a pixel, and the text, at most a sixth of a byte a
    pixel.
    """
    height, width = rle["size"]
    bits = decode_packed(rle)
    rows = np.zeros((height, 1 + bits.shape[1]), dtype=np.uint8)  # each begins with its filter, 0 for none
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
            if (image.height, image.width) != size_hw:  # before it is decoded, whatever size it names
                raise ValueError(f"a mask of {image.width}x{image.height} pixels")
            return np.array(image.convert("1"), dtype=np.bool_)
    except (binascii.Error, Image.DecompressionBombError, OSError, SyntaxError) as error:
        raise ValueError(f"not a PNG in base64: {error}") from None


ENCODINGS: Mapping[MaskFormat, MaskEncoding[Any]] = {
    "rle": MaskEncoding("mask_rle", _write_rle, _read_rle),
    "polygon": MaskEncoding("mask_polygons", _write_polygons, rle_from_polygons, _pack_polygons),
    "png": MaskEncoding("mask_png", _write_png, _read_png),
}
"""How each format is sent. `none` has no row: its objects carry no mask."""


def read_mask(
    item: Mapping[str, object],
    size_hw: tuple[int, int],
    encodings: Mapping[MaskFormat, MaskEncoding[Any]] = ENCODINGS,
) -> RleDict | None:
    """Read the mask of an object, whichever format it was sent in.

    Args:
        item: an object of an image document.
        size_hw: the image's height and width in pixels.
        encodings: the formats to look for.

    Returns:
        The mask, or None if the object has none. Its size may differ from the image's: check it before decoding.

    Raises:
        ValueError: the mask is malformed. The counts of an RLE are not checked: `decode_rle` does that.
    """
    for encoding in encodings.values():
        if (value := item.get(encoding.key)) is not None:
            return encoding.read(value, size_hw)
    return None


def png_pixels(item: Mapping[str, object], size_hw: tuple[int, int]) -> NDArray[np.bool_] | None:
    """Read the pixels of a mask that was sent as a PNG; an RLE between takes ten times as long for noise.

    Args:
        item: an object of an image document.
        size_hw: the image's height and width in pixels.

    Returns:
        (H, W) bool, a new array; None if the object has no PNG.

    Raises:
        ValueError: the PNG is malformed, or not of the image's size.
    """
    text = item.get(ENCODINGS["png"].key)
    return _png_pixels(text, size_hw) if isinstance(text, str) else None
