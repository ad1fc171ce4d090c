"""Reads where a TIFF's first page stores its samples and what they mean, for variants that Pillow cannot decode.

Knows no Pillow.

Source: TIFF 6.0, sections 3 to 6, 8 (tags), 14 (predictor), 15 (tiles), 16 (CMYK), 18 and 19 (alpha, sample format);
TIFF Technical Note 3 (predictor of floats); libtiff, tiff.h (later compressions).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from serve_app.errors import InvalidImage, TooLarge
from serve_app.images.structure.bounds import MAX_SAMPLE_BYTES
from serve_app.images.structure.tiff import tag_values

_COMPRESSIONS = frozenset({1, 5, 8, 32773, 32946, 34925, 50000})  # none, LZW, deflate, PackBits, deflate, LZMA, Zstd
_PREDICTED = _COMPRESSIONS - {1, 32773}
"""Compressions that can have a predictor. With others, libtiff ignores the tag."""
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK = 0, 1, 2, 5
_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _CMYK: 4}
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_ASSOCIATED, _UNASSOCIATED = 1, 2
_MOST_SAMPLES = 64

Tags = Mapping[int, tuple[int, ...]]


@dataclass(frozen=True)
class TiffLayout:
    """How the samples of a page are stored. A chunk is a strip or a tile.

    Attributes:
        size_wh: width and height in pixels, as stored.
        order: byte order of a sample: "<" (little-endian) or ">".
        bits: bits of a sample, the same for all samples of a pixel.
        form: "u", "i" or "f": unsigned, signed, float.
        samples: samples of a pixel.
        colours: how many of a pixel's first samples are colours: 1 (grey), 3 (RGB) or 4 (CMYK).
        inverted: whether a grey of 0 is white.
        alpha: index of the alpha sample in a pixel; None without alpha.
        premultiplied: whether the colours are multiplied by alpha.
        planar: whether each sample of a pixel has its own chunks (a plane).
        predictor: 1: none, 2: differences of whole numbers, 3: differences of floats.
        compression: the value of the tag.
        fill_order: 1 if the first bit of a byte is its highest, 2 if it is its lowest.
        chunk_wh: width and height of a chunk in pixels.
        tiled: whether chunks are tiles.
        chunks: offset and length in bytes of each chunk; if planar, one plane after another.
    """

    size_wh: tuple[int, int]
    order: str
    bits: int
    form: str
    samples: int
    colours: int
    inverted: bool
    alpha: int | None
    premultiplied: bool
    planar: bool
    predictor: int
    compression: int
    fill_order: int
    chunk_wh: tuple[int, int]
    tiled: bool
    chunks: tuple[tuple[int, int], ...]

    @property
    def planes(self) -> int:
        """Number of planes. The chunks of a plane cover the picture."""
        return self.samples if self.planar else 1

    @property
    def across(self) -> int:
        """Number of chunks in a row of the picture."""
        return -(-self.size_wh[0] // self.chunk_wh[0])

    @property
    def chunk_line_bytes(self) -> int:
        """Bytes of one line of one chunk."""
        return (self.chunk_wh[0] * (self.samples // self.planes) * self.bits + 7) // 8


def tiff_layout(data: bytes) -> TiffLayout:
    """Read the layout of a TIFF's first page.

    Bound: the steps of `check_tiff`, and one step a chunk.

    Args:
        data: a file that passed `check_tiff`.

    Raises:
        InvalidImage: the file is of a variant that is not read, its size is 0, or it has too few chunks for its size.
        TooLarge: the samples take more than `MAX_SAMPLE_BYTES` bytes.
    """
    tags = tag_values(data)
    layout = _described(tags, "<" if data[:2] == b"II" else ">")
    unread = _why_unread(tags, layout)
    if unread is not None:
        raise InvalidImage(f"a TIFF file of a variant that is not read ({unread})")
    (width, height), chunk_wh = layout.size_wh, layout.chunk_wh
    if min(width, height, *chunk_wh) < 1:
        raise InvalidImage("a broken TIFF file: its size is 0")
    if layout.across * layout.chunk_line_bytes * max(height, chunk_wh[1]) * layout.planes > MAX_SAMPLE_BYTES:
        raise TooLarge(f"the samples of the TIFF file take more than {MAX_SAMPLE_BYTES} bytes")
    if len(layout.chunks) < layout.planes * _chunks_of(layout):
        raise InvalidImage("a broken TIFF file: it has fewer strips or tiles than its size needs")
    return layout


def _described(tags: Tags, order: str) -> TiffLayout:
    """Return the layout that the tags describe, unchecked."""
    photometric, samples, compression = _one(tags, 262, -1), _one(tags, 277, 1), _one(tags, 259, 1)
    extras, colours = _extras(tags), _COLOURS.get(photometric, 0)
    alpha = extras[0] if extras and extras[0] in {_ASSOCIATED, _UNASSOCIATED} else None
    width, height = _one(tags, 256, 0), _one(tags, 257, 0)
    tiled = 324 in tags
    strip_wh = width, min(_one(tags, 278, height), height)
    return TiffLayout(
        size_wh=(width, height),
        order=order,
        bits=_one(tags, 258, 1),
        form={_UNSIGNED: "u", _SIGNED: "i", _FLOAT: "f"}.get(_one(tags, 339, _UNSIGNED), ""),
        samples=samples,
        colours=colours,
        inverted=photometric == _WHITE_IS_ZERO,
        alpha=None if alpha is None else colours,
        premultiplied=alpha == _ASSOCIATED,
        planar=_one(tags, 284, 1) == 2 and samples > 1,
        predictor=_one(tags, 317, 1) if compression in _PREDICTED else 1,
        compression=compression,
        fill_order=_one(tags, 266, 1),
        chunk_wh=(_one(tags, 322, 0), _one(tags, 323, 0)) if tiled else strip_wh,
        tiled=tiled,
        chunks=tuple(zip(tags.get(324 if tiled else 273, ()), tags.get(325 if tiled else 279, ()), strict=False)),
    )


def _why_unread(tags: Tags, layout: TiffLayout) -> str | None:
    """Return what makes a layout a variant that is not read; None if it is read."""
    photometric, form = _one(tags, 262, -1), _one(tags, 339, _UNSIGNED)
    rules = (
        (layout.compression in _COMPRESSIONS, f"compression {layout.compression}"),
        (
            layout.colours > 0,
            f"photometric interpretation {photometric}" if 262 in tags else "no photometric interpretation",
        ),
        (layout.fill_order in {1, 2}, f"fill order {layout.fill_order}"),
        (_is_read(layout.form, layout.bits), f"{layout.bits} bits a sample of format {form}"),
        (len({*tags.get(258, (1,))}) == 1, "samples of several depths"),
        (len({*tags.get(339, (_UNSIGNED,))}) == 1, "samples of several formats"),
        (
            layout.samples == layout.colours + len(_extras(tags)) <= _MOST_SAMPLES,
            f"{layout.samples} samples a pixel",
        ),
        (_is_predicted(layout.predictor, layout.form, layout.bits), f"predictor {layout.predictor}"),
    )
    return next((what for is_read, what in rules if not is_read), None)


def _one(tags: Tags, tag: int, default: int) -> int:
    """Return the first value of a tag."""
    return tags[tag][0] if tags.get(tag) else default


def _extras(tags: Tags) -> tuple[int, ...]:
    """Return the kinds of the extra samples. A fourth sample of RGB is alpha, even if the file does not say so."""
    extras = tags.get(338, ())
    if _one(tags, 262, -1) == _RGB and _one(tags, 277, 1) == 4 and not extras:
        return (_UNASSOCIATED,)
    return extras


def _is_read(form: str, bits: int) -> bool:
    whole = bits in {8, 16, 32, 64} or (form == "u" and 1 <= bits <= 32)
    return {"u": whole, "i": whole, "f": bits in {16, 32, 64}}.get(form, False)


def _is_predicted(predictor: int, form: str, bits: int) -> bool:
    return {1: True, 2: bits in {8, 16, 32, 64}, 3: form == "f"}.get(predictor, False)


def _chunks_of(layout: TiffLayout) -> int:
    return layout.across * -(-layout.size_wh[1] // layout.chunk_wh[1])


def plane_as_bytes(data: bytes, layout: TiffLayout, plane: int) -> bytes:
    """Return a plane as a grey 8-bit TIFF whose pixels are the bytes of the lines, so that any decoder can unpack it.

    Bound: one copy of the file.

    Args:
        data: the whole file.
        layout: its layout.
        plane: index of the plane, from 0.

    Returns:
        The file with another directory. A picture of it has the bytes of a line as its width.
    """
    count = _chunks_of(layout)
    chunks = layout.chunks[plane * count : (plane + 1) * count]
    body = bytearray(data)
    body += bytes(len(body) % 2)
    lists_at = len(body)
    body += struct.pack(f"<{2 * count}I", *(offset for offset, _ in chunks), *(length for _, length in chunks))
    offsets, lengths = (struct.unpack_from("<I", body, lists_at + 4 * count * index)[0] for index in (0, 1))
    if count > 1:
        offsets, lengths = lists_at, lists_at + 4 * count
    tags = [(256, 4, 1, layout.across * layout.chunk_line_bytes), (257, 4, 1, layout.size_wh[1]), (258, 3, 1, 8)]
    tags += [(259, 3, 1, layout.compression), (262, 3, 1, 1), (266, 3, 1, layout.fill_order), (277, 3, 1, 1)]
    if layout.tiled:
        tags += [(322, 4, 1, layout.chunk_line_bytes), (323, 4, 1, layout.chunk_wh[1])]
        tags += [(324, 4, count, offsets), (325, 4, count, lengths)]
    else:
        tags += [(273, 4, count, offsets), (278, 4, 1, layout.chunk_wh[1]), (279, 4, count, lengths)]
    body[:8] = b"II*\0" + struct.pack("<I", len(body))
    body += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags)) + bytes(4)
    return bytes(body)
