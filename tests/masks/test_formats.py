"""The table of mask formats: every format gives back the same mask."""

from __future__ import annotations

import base64
import io
import tracemalloc
from itertools import groupby
from typing import Any, cast, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from serve_app.errors import TooLarge
from serve_app.masks.formats import ENCODINGS, POINT_BYTES, MaskEncoding, Take, png_pixels, read_mask
from serve_app.masks.rle import area, bounds, decode_rle, encode_rle
from serve_app.masks.steps import finish
from serve_app.schemas.base import MaskFormat
from serve_app.schemas.dicts import ObjectDict, RleDict
from serve_app.schemas.documents import ObjectDocument
from serve_app.serving.documents import MaskBytes, to_mask_format

Mask = NDArray[np.bool_]

FORMATS: tuple[MaskFormat, ...] = get_args(MaskFormat)


def noise(shape: tuple[int, int]) -> st.SearchStrategy[Mask]:
    return arrays.arrays(np.bool_, shape)


def plain(shape: tuple[int, int]) -> st.SearchStrategy[Mask]:
    return st.booleans().map(lambda inside: np.full(shape, inside))


def rectangle(shape: tuple[int, int]) -> st.SearchStrategy[Mask]:
    def draw(ends: tuple[int, int, int, int]) -> Mask:
        mask = np.zeros(shape, np.bool_)
        mask[min(ends[:2]) : max(ends[:2]), min(ends[2:]) : max(ends[2:])] = True
        return mask

    height, width = (st.integers(0, side) for side in shape)
    return st.tuples(height, height, width, width).map(draw)


sides = st.one_of(st.just(1), st.integers(1, 40))
masks = st.tuples(sides, sides).flatmap(lambda shape: st.one_of(noise(shape), plain(shape), rectangle(shape)))


def write_rows(rle: RleDict, take: Take) -> list[int]:
    """Write a mask row by row, as lengths of runs: outside, inside and so on."""
    pixels = decode_rle(rle).ravel().tolist()
    runs = [] if not pixels[0] else [0]
    runs += [len([*run]) for _, run in groupby(pixels)]
    take(8 * len(runs))
    return runs


def read_rows(runs: list[int], size_hw: tuple[int, int]) -> RleDict:
    return encode_rle(np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size_hw))


TOY = cast(MaskFormat, "toy")
WITH_TOY = {**ENCODINGS, TOY: MaskEncoding("mask_toy", write_rows, read_rows)}


def found(rle: RleDict) -> ObjectDict:
    return {"object_id": "dog_0", "label": "dog", "bbox": [0, 0, 1, 1], "score": 0.5, "mask_rle": rle}


def test_every_format_but_none_is_a_row() -> None:
    assert set(ENCODINGS) | {"none"} == set(FORMATS)


def test_the_key_of_every_row_is_a_field_of_objects() -> None:
    keys = [encoding.key for encoding in ENCODINGS.values()]
    assert len({*keys}) == len(keys)
    mask_fields = {name for name in ObjectDocument.model_fields if name.startswith("mask_")}
    assert {*keys} == mask_fields, "ObjectDocument and the table disagree about these keys"


@pytest.mark.parametrize("mask_format", [*WITH_TOY])
@settings(deadline=None)
@given(mask=masks)
def test_a_mask_that_the_server_writes_is_read_back(mask_format: MaskFormat, mask: Mask) -> None:
    rle = encode_rle(mask)
    (item,) = finish(to_mask_format([found(rle)], mask_format, MaskBytes(), WITH_TOY))
    assert list(item) == ["object_id", "label", "bbox", "score", WITH_TOY[mask_format].key]
    assert read_mask(item, mask.shape, WITH_TOY) == rle
    if mask_format in ENCODINGS:
        sent = ObjectDocument.model_validate_json(ObjectDocument.model_validate(item).model_dump_json())
        assert read_mask(sent.model_dump(), mask.shape) == rle


def test_an_object_without_a_mask_has_none() -> None:
    (item,) = finish(to_mask_format([found(encode_rle(np.ones((2, 3), np.bool_)))], "none", MaskBytes()))
    assert "mask_rle" not in item
    assert read_mask(item, (2, 3)) is None
    assert read_mask({**item, "mask_rle": None}, (2, 3)) is None


class Refused(Exception):
    """The writer asked for more than there is."""


@pytest.mark.parametrize(
    ("mask_format", "size"),
    [("rle", lambda value: len(value["counts"])), ("polygon", lambda _: 5 * 4 * POINT_BYTES), ("png", len)],
)
def test_a_writer_says_what_its_value_takes(mask_format: MaskFormat, size: Any) -> None:
    mask = np.zeros((9, 9), np.bool_)
    mask[::2, 0] = True  # five pixels that do not touch: five rings of four points
    taken: list[int] = []
    value = ENCODINGS[mask_format].write(encode_rle(mask), taken.append)
    assert taken == [size(value)]


@pytest.mark.parametrize("mask_format", [*ENCODINGS])
def test_a_writer_stops_where_it_is_refused(mask_format: MaskFormat) -> None:
    def refuse(_: int) -> None:
        raise Refused

    with pytest.raises(Refused):
        ENCODINGS[mask_format].write(encode_rle(np.ones((3, 3), np.bool_)), refuse)


def test_polygons_over_the_bound_are_refused_before_their_points_are_listed() -> None:
    rle = encode_rle(np.random.default_rng(6).random((300, 300)) < 0.5)

    def peak(max_bytes: int | None) -> int:
        tracemalloc.start()
        try:
            finish(to_mask_format([found(rle)], "polygon", MaskBytes(max_bytes)))
        except TooLarge:
            assert max_bytes is not None
        finally:
            held = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return held

    assert peak(1000) < peak(None) / 2


@pytest.mark.parametrize("shape", [(1, 1), (7, 9), (40, 64)])
def test_png_is_a_one_bit_png_of_the_mask(shape: tuple[int, int]) -> None:
    mask = np.random.default_rng(5).random(shape) < 0.5
    text = ENCODINGS["png"].write(encode_rle(mask), lambda _: None)
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "1", (shape[1], shape[0]))
    assert ENCODINGS["png"].read(text, shape) == encode_rle(mask)


@pytest.mark.parametrize("text", ["", "%%%", "aGVsbG8=", "é"])
def test_png_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"PNG|ASCII"):
        read_mask({"mask_png": text}, (5, 5))


def test_a_png_is_read_as_pixels_without_an_rle() -> None:
    mask = np.random.default_rng(5).random((70, 90)) > 0.5
    text = ENCODINGS["png"].write(encode_rle(mask), lambda _: None)
    read = png_pixels({"mask_png": text}, (70, 90))
    assert read is not None
    np.testing.assert_array_equal(read, mask)
    assert read.flags.writeable
    assert png_pixels({"mask_rle": encode_rle(mask)}, (70, 90)) is None
    with pytest.raises(ValueError, match="90x70 pixels"):
        png_pixels({"mask_png": text}, (90, 70))


@pytest.mark.parametrize("name", ENCODINGS)
def test_an_empty_mask_is_a_mask_in_every_format(name: MaskFormat) -> None:
    empty = encode_rle(np.zeros((7, 9), np.bool_))
    value = ENCODINGS[name].write(empty, lambda _: None)
    again = read_mask({ENCODINGS[name].key: value}, (7, 9))
    assert again == empty
    assert (area(empty), bounds(empty)) == (0, (0, 0, 0, 0))
