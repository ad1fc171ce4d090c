from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco

from serve_app.masks.rle import (
    area,
    bounds,
    decode_box,
    decode_packed,
    decode_rle,
    encode_rle,
    rle_from_run_lengths,
)


def stock_rle(mask: NDArray[np.bool_]) -> dict[str, object]:
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (33, 1), (48, 65)])
def test_encode_rle_decodes_to_the_same_mask(shape: tuple[int, int], share: float) -> None:
    mask = np.random.default_rng(4).random(shape) < share
    rle = encode_rle(mask)
    assert rle == stock_rle(mask)
    np.testing.assert_array_equal(decode_rle(rle), mask)
    assert area(rle) == mask.sum()


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (8, 8), (17, 16), (5, 65), (300, 130)])
def test_decode_packed_gives_the_bits_of_the_mask(shape: tuple[int, int], share: float) -> None:
    mask = np.random.default_rng(3).random(shape) < share
    np.testing.assert_array_equal(decode_packed(encode_rle(mask)), np.packbits(mask, axis=1))


def test_decode_packed_takes_runs_of_no_length_and_refuses_what_does_not_fill_the_size() -> None:
    rle = rle_from_run_lengths(np.array([2, 3, 0, 4, 3]), (3, 4))
    np.testing.assert_array_equal(decode_packed(rle), np.packbits(decode_rle(rle), axis=1))
    with pytest.raises(ValueError, match="do not fill"):
        decode_packed({**rle, "size": [4, 4]})


def test_decode_rle_reads_long_runs() -> None:
    mask = np.zeros((5000, 3000), dtype=np.bool_)
    mask[1:, 1500] = True
    np.testing.assert_array_equal(decode_rle(encode_rle(mask)), mask)


@settings(deadline=None)
@given(st.lists(st.integers(1, 2**18), min_size=1, max_size=10), st.booleans())
def test_run_lengths_come_back(lengths: list[int], starts_inside: bool) -> None:
    expected = [0, *lengths] if starts_inside else lengths
    rle = rle_from_run_lengths(np.array(expected), (sum(expected), 1))
    inside = np.repeat(np.arange(len(expected)) % 2 == 1, expected)
    np.testing.assert_array_equal(decode_rle(rle), inside[:, None])


@pytest.mark.parametrize("counts", ["", "0", "abc", "P0000", "\x00\x01", " ", "é", "o" * 40, "P", "ÿÿ"])
def test_decode_rle_refuses_what_does_not_fill_the_size(counts: str) -> None:
    with pytest.raises(ValueError, match="RLE"):
        decode_rle({"size": [5, 5], "counts": counts})


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [
        (slice(2, 5), slice(3, 9), (3, 2, 9, 5)),
        (slice(0, 20), slice(0, 30), (0, 0, 30, 20)),
        (slice(19, 20), slice(29, 30), (29, 19, 30, 20)),
        (slice(0, 0), slice(0, 0), (0, 0, 0, 0)),
    ],
    ids=["inside", "all", "last-pixel", "empty"],
)
def test_bounds_are_the_smallest_box(rows: slice, columns: slice, expected: tuple[int, int, int, int]) -> None:
    mask = np.zeros((20, 30), dtype=np.bool_)
    mask[rows, columns] = True
    assert bounds(encode_rle(mask)) == expected


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]), st.data())
def test_decode_box_is_that_part_of_the_mask(height: int, width: int, share: float, data: st.DataObject) -> None:
    mask = np.random.default_rng(data.draw(st.integers(0, 99))).random((height, width)) < share
    x1, y1 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x2, y2 = data.draw(st.integers(x1 + 1, width)), data.draw(st.integers(y1 + 1, height))
    part = decode_box(encode_rle(mask), (x1, y1, x2, y2))
    assert part.dtype == np.bool_
    np.testing.assert_array_equal(part, mask[y1:y2, x1:x2])


def test_decode_box_refuses_counts_that_do_not_fill_the_size() -> None:
    with pytest.raises(ValueError, match="do not fill its size 9x9"):
        decode_box({"size": [9, 9], "counts": encode_rle(np.ones((3, 3), np.bool_))["counts"]}, (0, 0, 2, 2))
