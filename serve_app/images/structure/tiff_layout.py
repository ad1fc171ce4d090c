"""Where a TIFF's first page keeps its samples, and what they mean; for the variants that Pillow does not read.

Source: TIFF 6.0, sections 3 to 18; TIFF Technical Note 3 (predictor of floats). Knows no Pillow.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from serve_app.errors import InvalidImage, TooLarge
from serve_app.images.structure.bounds import MAX_SAMPLE_BYTES
from serve_app.images.structure.tiff import tag_values

_COMPRESSIONS = frozenset({1, 5, 8, 32773, 32946, 34925, 50000})  # none, LZW, deflate, PackBits, deflate, LZMA, Zstd
_PREDICTED = _COMPRESSIONS - {1, 32773}
"""Compressions that may store differences; with the others libtiff ignores the predictor."""
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK = 0, 1, 2, 5
_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _CMYK: 4}
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_ASSOCIATED, _UNASSOCIATED = 1, 2
_MOST_SAMPLES = 64


@dataclass(frozen=True)
class TiffLayout:
    """How the samples of a page are stored.

    Attributes:
        size_wh: width and height in pixels, as stored.
        order: "<" or ">", of the bytes of a sample.
        bits: of a sample, the same for all.
        form: "u", "i" or "f": unsigned, signed, float.
        samples: of a pixel.
        colours: 1 grey, 3 RGB, 4 CMYK: the first samples of a pixel.
        inverted: a grey of 0 is white.
        alpha: the place of the alpha sample, or None.
        premultiplied: the colours are multiplied by alpha.
        planar: every sample has chunks of its own.
        predictor: 1 none, 2 differences of whole numbers, 3 of floats.
        compression: the tag's value.
        fill_order: 1 where the first bit of a byte is its highest, 2 where it is its lowest.
        chunk_wh: size of a strip or of a tile in pixels.
        tiled: chunks are tiles.
        chunks: offset and length in bytes of each, one plane after another where planar.
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
        """Sequences of chunks, each of which covers the picture."""
        return self.samples if self.planar else 1

    @property
    def across(self) -> int:
        """Chunks beside one another."""
        return -(-self.size_wh[0] // self.chunk_wh[0])

    @property
    def chunk_line_bytes(self) -> int:
        """Bytes of one line of one chunk."""
        return (self.chunk_wh[0] * (self.samples // self.planes) * self.bits + 7) // 8


def tiff_layout(data: bytes) -> TiffLayout:
    """Read how a TIFF's first page is stored.

    Bound: the steps of `check_tiff`, and its strips.

    Args:
        data: a file that `check_tiff` let through.

    Raises:
        InvalidImage: the variant is not read, or the file has fewer strips than it needs.
        TooLarge: its samples take over MAX_SAMPLE_BYTES.
    """
    tags = tag_values(data)

    def one(tag: int, default: int) -> int:
        return tags[tag][0] if tags.get(tag) else default

    photometric, samples, bits = one(262, -1), one(277, 1), one(258, 1)
    form = {_UNSIGNED: "u", _SIGNED: "i", _FLOAT: "f"}.get(one(339, _UNSIGNED), "")
    extras, colours = tags.get(338, ()), _COLOURS.get(photometric, 0)
    compression, fill_order = one(259, 1), one(266, 1)
    predictor = one(317, 1) if compression in _PREDICTED else 1
    if photometric == _RGB and samples == 4 and not extras:
        extras = (_UNASSOCIATED,)
    for is_read, what in (
        (compression in _COMPRESSIONS, f"compression {compression}"),
        (colours > 0, f"photometric interpretation {photometric}" if 262 in tags else "no photometric interpretation"),
        (fill_order in {1, 2}, f"fill order {fill_order}"),
        (_is_read(form, bits), f"{bits} bits a sample of format {one(339, _UNSIGNED)}"),
        (len({*tags.get(258, (1,))}) == 1, "samples of several depths"),
        (len({*tags.get(339, (_UNSIGNED,))}) == 1, "samples of several formats"),
        (samples == colours + len(extras) <= _MOST_SAMPLES, f"{samples} samples a pixel"),
        (_is_predicted(predictor, form, bits), f"predictor {predictor}"),
    ):
        if not is_read:
            raise InvalidImage(f"a TIFF file of a variant that is not read ({what})")
    alpha = extras[0] if extras and extras[0] in {_ASSOCIATED, _UNASSOCIATED} else None
    width, height = one(256, 0), one(257, 0)
    tiled = 324 in tags
    chunk_wh = (one(322, 0), one(323, 0)) if tiled else (width, min(one(278, height), height))
    layout = TiffLayout(
        size_wh=(width, height),
        order="<" if data[:2] == b"II" else ">",
        bits=bits,
        form=form,
        samples=samples,
        colours=colours,
        inverted=photometric == _WHITE_IS_ZERO,
        alpha=None if alpha is None else colours,
        premultiplied=alpha == _ASSOCIATED,
        planar=one(284, 1) == 2 and samples > 1,
        predictor=predictor,
        compression=compression,
        fill_order=fill_order,
        chunk_wh=chunk_wh,
        tiled=tiled,
        chunks=tuple(zip(tags.get(324 if tiled else 273, ()), tags.get(325 if tiled else 279, ()), strict=False)),
    )
    if min(width, height, *chunk_wh) < 1:
        raise InvalidImage("a broken TIFF file: its size is 0")
    if layout.across * layout.chunk_line_bytes * max(height, chunk_wh[1]) * layout.planes > MAX_SAMPLE_BYTES:
        raise TooLarge(f"the samples of the TIFF file take more than {MAX_SAMPLE_BYTES} bytes")
    if len(layout.chunks) < layout.planes * _chunks_of(layout):
        raise InvalidImage("a broken TIFF file: it has fewer strips or tiles than its size needs")
    return layout


def _is_read(form: str, bits: int) -> bool:
    whole = bits in {8, 16, 32, 64} or (form == "u" and 1 <= bits <= 32)
    return {"u": whole, "i": whole, "f": bits in {16, 32, 64}}.get(form, False)


def _is_predicted(predictor: int, form: str, bits: int) -> bool:
    return {1: True, 2: bits in {8, 16, 32, 64}, 3: form == "f"}.get(predictor, False)


def _chunks_of(layout: TiffLayout) -> int:
    return layout.across * -(-layout.size_wh[1] // layout.chunk_wh[1])


def plane_as_bytes(data: bytes, layout: TiffLayout, plane: int) -> bytes:
    """Write a plane as a TIFF whose samples are the bytes of the lines, so that any decoder unpacks them as they are.

    Bound: one copy of the file.
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
