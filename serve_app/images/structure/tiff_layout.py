"""Reads how a TIFF's first page stores its samples (the numbers of a pixel).

The layout is used for variants that Pillow does not support or decodes wrongly.

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

# None, LZW, deflate, PackBits, deflate (an older number), LZMA, Zstd.
_COMPRESSIONS = frozenset({1, 5, 8, 32773, 32946, 34925, 50000})
_WITH_PREDICTOR = _COMPRESSIONS - {1, 32773}
"""Compressions that can have a predictor. With the others, libtiff ignores the Predictor tag."""
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK = 0, 1, 2, 5
_COLOUR_SAMPLES = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _CMYK: 4}
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_ASSOCIATED, _UNASSOCIATED = 1, 2
_MAX_SAMPLES = 64

Tags = Mapping[int, tuple[int, ...]]


@dataclass(frozen=True)
class TiffLayout:
    """How the samples of a page are stored. A chunk is a strip or a tile.

    Attributes:
        size_wh: width and height in pixels, before rotation by the Orientation tag.
        order: byte order of a sample: "<" (little-endian) or ">".
        bits: bits per sample, the same for all samples of a pixel.
        form: "u", "i" or "f": unsigned, signed, float.
        samples: number of samples per pixel.
        colours: number of samples per pixel that are colours: 1 (grey), 3 (RGB) or 4 (CMYK). They come first.
        inverted: whether a grey of 0 is white.
        alpha: index of the alpha sample in a pixel; None without alpha.
        premultiplied: whether the colours are multiplied by alpha.
        planar: whether the samples are stored separately: for example all reds in one plane of chunks, then all greens.
        predictor: 1: samples are stored as they are; 2: as differences from the pixel before (of whole numbers); 3: as
            differences of the bytes of floats.
        compression: the value of the Compression tag.
        fill_order: 1 if the first bit of a byte is its highest, 2 if it is its lowest.
        chunk_wh: width and height of a chunk in pixels.
        tiled: whether chunks are tiles.
        chunks: (offset, length) in bytes of each chunk. If planar, the chunks of the first plane come first.
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
        """Number of planes; 1 if not planar. Each plane has chunks for the whole picture."""
        return self.samples if self.planar else 1

    @property
    def chunks_across(self) -> int:
        """Number of chunks side by side."""
        return -(-self.size_wh[0] // self.chunk_wh[0])

    @property
    def chunk_line_bytes(self) -> int:
        """Number of bytes of one line of one chunk."""
        return (self.chunk_wh[0] * (self.samples // self.planes) * self.bits + 7) // 8


def tiff_layout(data: bytes) -> TiffLayout:
    """Read the layout of a TIFF's first page.

    Work: at most `MAX_BLOCKS` tags, `MAX_PIXEL_CHUNKS` numbers per tag, and one step per chunk.

    Args:
        data: a file that passed `check_tiff`.

    Raises:
        InvalidImage: the file is of a variant that is not read, its picture or its chunks have no pixels, or it has
            fewer chunks than its picture needs.
        TooLarge: the unpacked samples take more than `MAX_SAMPLE_BYTES` bytes.
    """
    tags = tag_values(data)
    layout = _read_layout(tags, "<" if data[:2] == b"II" else ">")
    reason = _why_unsupported(tags, layout)
    if reason is not None:
        raise InvalidImage(f"a TIFF file of a variant that is not read ({reason})")
    (width, height), chunk_wh = layout.size_wh, layout.chunk_wh
    if min(width, height, *chunk_wh) < 1:
        raise InvalidImage("a broken TIFF file: its picture, or its strips or tiles, have size 0")
    if layout.chunks_across * layout.chunk_line_bytes * max(height, chunk_wh[1]) * layout.planes > MAX_SAMPLE_BYTES:
        raise TooLarge(f"the TIFF file unpacks to more than {MAX_SAMPLE_BYTES} bytes")
    if len(layout.chunks) < layout.planes * _chunks_of(layout):
        raise InvalidImage("a broken TIFF file: it has fewer strips or tiles than its picture needs")
    return layout


def _read_layout(tags: Tags, order: str) -> TiffLayout:
    """Read the layout from the tags, without checking it."""
    photometric, samples, compression = _one(tags, 262, -1), _one(tags, 277, 1), _one(tags, 259, 1)
    extras, colours = _extras(tags), _COLOUR_SAMPLES.get(photometric, 0)
    alpha_kind = extras[0] if extras and extras[0] in {_ASSOCIATED, _UNASSOCIATED} else None
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
        alpha=None if alpha_kind is None else colours,
        premultiplied=alpha_kind == _ASSOCIATED,
        planar=_one(tags, 284, 1) == 2 and samples > 1,
        predictor=_one(tags, 317, 1) if compression in _WITH_PREDICTOR else 1,
        compression=compression,
        fill_order=_one(tags, 266, 1),
        chunk_wh=(_one(tags, 322, 0), _one(tags, 323, 0)) if tiled else strip_wh,
        tiled=tiled,
        chunks=tuple(zip(tags.get(324 if tiled else 273, ()), tags.get(325 if tiled else 279, ()), strict=False)),
    )


def _why_unsupported(tags: Tags, layout: TiffLayout) -> str | None:
    """Return why a layout is not supported; None if it is."""
    photometric, form = _one(tags, 262, -1), _one(tags, 339, _UNSIGNED)
    rules = (
        (layout.compression in _COMPRESSIONS, f"compression {layout.compression}"),
        (
            layout.colours > 0,
            f"photometric interpretation {photometric}" if 262 in tags else "no photometric interpretation",
        ),
        (layout.fill_order in {1, 2}, f"fill order {layout.fill_order}"),
        (_is_form_supported(layout.form, layout.bits), f"samples of format {form} with {layout.bits} bits"),
        (len({*tags.get(258, (1,))}) == 1, "samples with different numbers of bits"),
        (len({*tags.get(339, (_UNSIGNED,))}) == 1, "samples with different formats"),
        (
            layout.samples == layout.colours + len(_extras(tags)) <= _MAX_SAMPLES,
            f"{layout.samples} samples per pixel",
        ),
        (_is_predictor_supported(layout.predictor, layout.form, layout.bits), f"predictor {layout.predictor}"),
    )
    return next((reason for is_supported, reason in rules if not is_supported), None)


def _one(tags: Tags, tag: int, default: int) -> int:
    """Return the first value of a tag; `default` if the tag is missing or empty."""
    return tags[tag][0] if tags.get(tag) else default


def _extras(tags: Tags) -> tuple[int, ...]:
    """Return the values of the ExtraSamples tag. A fourth sample of RGB is alpha, even if the file does not say so."""
    extras = tags.get(338, ())
    if _one(tags, 262, -1) == _RGB and _one(tags, 277, 1) == 4 and not extras:
        return (_UNASSOCIATED,)
    return extras


def _is_form_supported(form: str, bits: int) -> bool:
    is_integer_depth = bits in {8, 16, 32, 64} or (form == "u" and 1 <= bits <= 32)
    return {"u": is_integer_depth, "i": is_integer_depth, "f": bits in {16, 32, 64}}.get(form, False)


def _is_predictor_supported(predictor: int, form: str, bits: int) -> bool:
    return {1: True, 2: bits in {8, 16, 32, 64}, 3: form == "f"}.get(predictor, False)


def _chunks_of(layout: TiffLayout) -> int:
    return layout.chunks_across * -(-layout.size_wh[1] // layout.chunk_wh[1])


def plane_as_grey_tiff(data: bytes, layout: TiffLayout, plane: int) -> bytes:
    """Return a copy of the file that describes one plane as a grey 8-bit picture.

    Each stored byte becomes one pixel, so a decoder unpacks the bytes without interpreting them.

    Memory: two copies of the file.

    Args:
        data: the whole file.
        layout: its layout.
        plane: index of the plane, from 0.

    Returns:
        The file with another directory. Its picture is as wide as a line of the plane has bytes.
    """
    count = _chunks_of(layout)
    chunks = layout.chunks[plane * count : (plane + 1) * count]
    body = bytearray(data)
    body += bytes(len(body) % 2)
    lists_at = len(body)
    body += struct.pack(f"<{2 * count}I", *(offset for offset, _ in chunks), *(length for _, length in chunks))
    offsets, lengths = (struct.unpack_from("<I", body, lists_at + 4 * count * index)[0] for index in (0, 1))
    if count > 1:  # one value is stored in the tag itself, several in a list
        offsets, lengths = lists_at, lists_at + 4 * count
    tags = [(256, 4, 1, layout.chunks_across * layout.chunk_line_bytes), (257, 4, 1, layout.size_wh[1]), (258, 3, 1, 8)]
    tags += [(259, 3, 1, layout.compression), (262, 3, 1, 1), (266, 3, 1, layout.fill_order), (277, 3, 1, 1)]
    if layout.tiled:
        tags += [(322, 4, 1, layout.chunk_line_bytes), (323, 4, 1, layout.chunk_wh[1])]
        tags += [(324, 4, count, offsets), (325, 4, count, lengths)]
    else:
        tags += [(273, 4, count, offsets), (278, 4, 1, layout.chunk_wh[1]), (279, 4, count, lengths)]
    body[:8] = b"II*\0" + struct.pack("<I", len(body))
    body += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags)) + bytes(4)
    return bytes(body)
