"""Outlines without holes: pycocotools fills them to the same mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco
from scipy.ndimage import gaussian_filter, label

from serve_app.masks.areas import covered_pixels
from serve_app.masks.filled import Ring, fill_holes, one_ring
from serve_app.masks.rle import check_rle, decode_rle, encode_rle
from serve_app.schemas.dicts import ObjectDict


def filled_by_coco(rings: list[Ring], height: int, width: int) -> NDArray[np.bool_]:
    polygons = [ring.astype(float).ravel().tolist() for ring in rings]
    pixels: NDArray[np.bool_] = coco.decode(coco.merge(coco.frPyObjects(polygons, height, width))).astype(np.bool_)
    return pixels


@st.composite
def masks(draw: st.DrawFn) -> NDArray[np.bool_]:
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    noise = random.random((draw(st.integers(1, 30)), draw(st.integers(1, 30))))
    smooth = gaussian_filter(noise, draw(st.sampled_from([0.0, 1.0, 2.0])))
    return np.asarray(smooth > np.quantile(smooth, draw(st.sampled_from([0.2, 0.5, 0.8]))))


@given(masks())
def test_rings_enclose_the_mask_and_its_holes_and_nothing_else(mask: NDArray[np.bool_]) -> None:
    filled = fill_holes(encode_rle(mask))
    expected = decode_rle(filled.mask)
    assert (expected >= mask).all()
    # What was filled are the parts of the background that do not reach the border, corners counted as ways.
    outside, _ = label(np.pad(~mask, 1, constant_values=True), np.ones((3, 3)))
    assert np.array_equal(expected, (outside != outside[0, 0])[1:-1, 1:-1])
    assert (filled.holes == 0) == (expected == mask).all()
    if not mask.any():
        assert filled.rings == ()
        return
    assert np.array_equal(filled_by_coco(list(filled.rings), *mask.shape), expected)
    assert np.array_equal(filled_by_coco([one_ring(filled.rings)], *mask.shape), expected)


def test_a_ring_has_one_hole_and_its_island_is_filled_with_it() -> None:
    mask = np.zeros((12, 12), np.bool_)
    mask[1:11, 1:11] = True
    mask[3:9, 3:9] = False
    mask[5:7, 5:7] = True
    filled = fill_holes(encode_rle(mask))
    assert (filled.holes, [ring.tolist() for ring in filled.rings]) == (1, [[[1, 1], [11, 1], [11, 11], [1, 11]]])


@pytest.mark.parametrize("counts", ["", "0", "000", "~", "\u00e9", "11"])
def test_an_rle_that_is_malformed_is_refused_before_pycocotools_reads_it(counts: str) -> None:
    with pytest.raises(ValueError, match="RLE"):
        check_rle({"size": [4, 6], "counts": counts}, (4, 6))


def test_an_rle_of_another_size_is_refused() -> None:
    rle = encode_rle(np.ones((4, 6), np.bool_))
    with pytest.raises(ValueError, match="a mask of 6x4 pixels on an image of 4x6"):
        check_rle(rle, (6, 4))
    assert check_rle(rle, (4, 6)) == rle


def item(mask: NDArray[np.bool_] | None) -> ObjectDict:
    one: ObjectDict = {"object_id": "a_0", "label": "a", "bbox": [0, 0, 1, 1], "score": 0.5}
    return one if mask is None else {**one, "mask_rle": encode_rle(mask)}


def test_pixels_that_two_objects_share_count_once() -> None:
    first, second = np.zeros((2, 6, 8), np.bool_)
    first[:3], second[2:4] = True, True
    assert covered_pixels([item(first), item(second)], (6, 8)) == 4 * 8
    assert covered_pixels([], (6, 8)) == 0
    assert covered_pixels([item(first), item(None)], (6, 8)) is None
