from __future__ import annotations

import base64
import io
import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

from serve_app.masks import formats
from serve_app.masks.interpolation import sigmoid
from serve_app.masks.rle import rle_from_run_lengths, run_lengths

Float32 = NDArray[np.float32]


def stock_rles(logits: Float32, size_hw: tuple[int, int], threshold: float) -> list[dict[str, object]]:
    """Post-process the way `Sam3ImageProcessor` does, then encode."""
    probabilities = torch.from_numpy(logits).sigmoid()[None]
    resized = torch.nn.functional.interpolate(probabilities, size=size_hw, mode="bilinear", align_corners=False)[0]
    return [coco_rle((mask > threshold).numpy()) for mask in resized]


def coco_rle(mask: NDArray[np.bool_]) -> dict[str, object]:
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


def blobs(rng: np.random.Generator, count: int, height: int, width: int) -> Float32:
    """Smooth logits with a few ellipses in each mask."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    logits = np.full((count, height, width), -9.0)
    for mask in logits:
        for _ in range(rng.integers(1, 5)):
            (cy, cx), radius = rng.random(2), rng.uniform(0.05, 0.35)
            np.maximum(mask, 16 * (1 - np.hypot((y - cy) * rng.uniform(0.5, 2), x - cx) / radius), out=mask)
    clipped: Float32 = np.clip(logits, -12, 12).astype(np.float32)
    return clipped


def noise(rng: np.random.Generator, count: int, height: int, width: int) -> Float32:
    return (3 * rng.normal(size=(count, height, width))).astype(np.float32)


def rounded(rng: np.random.Generator, count: int, height: int, width: int) -> Float32:
    """Whole numbers: plateaus that lie exactly on the threshold 0.5."""
    return np.round(noise(rng, count, height, width) / 4).astype(np.float32)


def zeros(rng: np.random.Generator, count: int, height: int, width: int) -> Float32:
    return np.zeros((count, height, width), dtype=np.float32)


def saturated(rng: np.random.Generator, count: int, height: int, width: int) -> Float32:
    return np.sign(blobs(rng, count, height, width)) * np.float32(100)


def stripes(rng: np.random.Generator, count: int, height: int, width: int) -> Float32:
    y, x = np.mgrid[:height, :width]
    return np.stack([np.where((y if i % 2 else x) // 3 % 2, 5.0, -5.0) for i in range(count)]).astype(np.float32)


def non_finite(rng: np.random.Generator, count: int, height: int, width: int) -> Float32:
    logits = blobs(rng, count, height, width)
    kind = rng.random(logits.shape)
    logits[kind < 0.01] = np.nan
    logits[(kind > 0.9) & (logits > 0)] = np.inf
    logits[(kind > 0.9) & (logits < 0)] = -np.inf
    return logits


@pytest.fixture(autouse=True, scope="module")
def two_threads() -> Iterator[None]:
    """Torch picks its kernel by the number of threads where there are three masks; see `bilinear`."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


MAKERS = [blobs, noise, rounded, zeros, saturated, stripes, non_finite]
SIZES = [
    pytest.param((72, 72), (480, 640), id="larger"),
    pytest.param((72, 72), (1081, 719), id="odd"),
    pytest.param((72, 72), (72, 72), id="same"),
    pytest.param((72, 72), (30, 41), id="smaller"),
    pytest.param((72, 72), (200, 50), id="taller-and-narrower"),
    pytest.param((72, 72), (1, 1), id="one-pixel"),
    pytest.param((72, 72), (1, 900), id="one-row"),
    pytest.param((1, 2), (37, 200), id="one-cell"),
    pytest.param((5, 3), (60, 60), id="tiny-grid"),
]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(("grid_hw", "size_hw"), SIZES)
@pytest.mark.parametrize("count", [1, 4])
def test_rles_from_logits_equals_the_stock_path(
    make: Callable[..., Float32], grid_hw: tuple[int, int], size_hw: tuple[int, int], count: int
) -> None:
    logits = make(np.random.default_rng(count), count, *grid_hw)
    for threshold in (0.5, 0.0, 1.0, 0.3, 0.999):
        assert formats.rles_from_logits(logits, size_hw, threshold) == stock_rles(logits, size_hw, threshold), threshold


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 5),
    grid_hw=st.tuples(st.integers(1, 40), st.integers(2, 40)),
    size_hw=st.tuples(st.integers(1, 260), st.integers(1, 260)),
    threshold=st.floats(0, 1, width=32),
    make=st.sampled_from(MAKERS),
)
def test_rles_from_logits_equals_the_stock_path_for_any_size(
    seed: int,
    count: int,
    grid_hw: tuple[int, int],
    size_hw: tuple[int, int],
    threshold: float,
    make: Callable[..., Float32],
) -> None:
    logits = make(np.random.default_rng(seed), count, *grid_hw)
    assert formats.rles_from_logits(logits, size_hw, threshold) == stock_rles(logits, size_hw, threshold)


@pytest.mark.parametrize("value", [-3.0, 0.0, 3.0])
def test_rles_from_logits_of_a_single_cell_fills_or_leaves_the_image(value: float) -> None:
    (rle,) = formats.rles_from_logits(np.full((1, 1, 1), value, np.float32), (37, 200), 0.5)
    assert formats.area(rle) == (37 * 200 if value > 0 else 0)


@pytest.mark.parametrize("make", [blobs, noise])
def test_rles_from_logits_equals_the_stock_path_at_full_size(make: Callable[..., Float32]) -> None:
    logits = make(np.random.default_rng(7), 4, 288, 288)
    assert formats.rles_from_logits(logits, (2160, 3840), 0.5) == stock_rles(logits, (2160, 3840), 0.5)


def test_rles_from_logits_keeps_the_order_among_plain_and_noisy_masks() -> None:
    rng = np.random.default_rng(1)
    logits = np.concatenate([blobs(rng, 1, 60, 60), noise(rng, 1, 60, 60), blobs(rng, 2, 60, 60)])
    assert formats.rles_from_logits(logits, (600, 600), 0.5) == stock_rles(logits, (600, 600), 0.5)


def test_rles_from_logits_of_no_mask_is_empty() -> None:
    assert formats.rles_from_logits(np.zeros((0, 72, 72), np.float32), (480, 640), 0.5) == []


def test_rles_from_logits_takes_a_view_that_is_not_contiguous() -> None:
    logits = blobs(np.random.default_rng(2), 4, 40, 40)
    expected = formats.rles_from_logits(np.ascontiguousarray(logits[::2, ::-1]), (100, 120), 0.5)
    assert formats.rles_from_logits(logits[::2, ::-1], (100, 120), 0.5) == expected


@pytest.mark.parametrize("value", [np.nan, -np.inf], ids=["nan", "minus-infinity"])
def test_rles_from_logits_of_nothing_finite_is_an_empty_mask(value: float) -> None:
    (rle,) = formats.rles_from_logits(np.full((1, 8, 8), value, np.float32), (50, 60), 0.5)
    assert formats.area(rle) == 0


@pytest.mark.parametrize(
    ("shape", "size_hw"),
    [((8, 8), (5, 5)), ((1, 0, 8), (5, 5)), ((1, 8, 8), (0, 5))],
    ids=["flat", "no-row", "no-size"],
)
def test_rles_from_logits_refuses_impossible_shapes(shape: tuple[int, ...], size_hw: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="cannot be resized"):
        formats.rles_from_logits(np.zeros(shape, np.float32), size_hw, 0.5)


@pytest.mark.parametrize(("make", "count"), [(blobs, 100), (noise, 2)], ids=["blobs", "noise"])
def test_rles_from_logits_holds_no_full_size_stack(make: Callable[..., Float32], count: int) -> None:
    logits = make(np.random.default_rng(3), count, 288, 288)
    tracemalloc.start()
    try:
        formats.rles_from_logits(logits, (4032, 4032), 0.5)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 300e6


@pytest.mark.parametrize("scale", [0.01, 1, 10, 60])
def test_sigmoid_equals_torch_bit_for_bit(scale: float) -> None:
    values = np.random.default_rng(0).normal(size=1 << 16).astype(np.float32) * np.float32(scale)
    np.testing.assert_array_equal(sigmoid(values), torch.from_numpy(values).sigmoid().numpy())


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (33, 1), (48, 65)])
def test_encode_rle_decodes_to_the_same_mask(shape: tuple[int, int], share: float) -> None:
    mask = np.random.default_rng(4).random(shape) < share
    rle = formats.encode_rle(mask)
    assert rle == coco_rle(mask)
    np.testing.assert_array_equal(formats.decode_rle(rle), mask)
    assert formats.area(rle) == mask.sum()


def test_decode_rle_reads_long_runs() -> None:
    mask = np.zeros((5000, 3000), dtype=np.bool_)
    mask[1:, 1500] = True
    np.testing.assert_array_equal(formats.decode_rle(formats.encode_rle(mask)), mask)


@settings(deadline=None)
@given(st.lists(st.integers(1, 2**20), min_size=1, max_size=30), st.booleans())
def test_run_lengths_come_back(lengths: list[int], starts_inside: bool) -> None:
    expected = [0, *lengths] if starts_inside else lengths
    rle = rle_from_run_lengths(np.array(expected), (sum(expected), 1))
    assert run_lengths(rle).tolist() == expected


@pytest.mark.parametrize("counts", ["", "0", "abc", "P0000", "\x00\x01", " ", "é", "o" * 40, "P", b"\xff\xff"])
def test_decode_rle_refuses_what_does_not_fill_the_size(counts: str | bytes) -> None:
    with pytest.raises(ValueError, match="RLE"):
        formats.decode_rle({"size": [5, 5], "counts": counts})


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
    assert formats.bounds(formats.encode_rle(mask)) == expected


def test_iou_of_every_pair() -> None:
    left, right, none = (np.zeros((4, 8), dtype=np.bool_) for _ in range(3))
    left[:, :4], right[:, 2:6] = True, True
    rles = [formats.encode_rle(mask) for mask in (left, right, none)]
    expected = np.array([[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 0]], dtype=np.float64)
    np.testing.assert_allclose(formats.iou(rles, rles), expected)


@pytest.mark.parametrize(("count_a", "count_b"), [(0, 2), (2, 0), (0, 0)])
def test_iou_with_no_mask_is_empty(count_a: int, count_b: int) -> None:
    rle = formats.encode_rle(np.ones((3, 3), dtype=np.bool_))
    assert formats.iou([rle] * count_a, [rle] * count_b).shape == (count_a, count_b)


@pytest.mark.parametrize("shape", [(1, 1), (7, 9), (40, 64)])
def test_png_base64_is_a_one_bit_png_of_the_mask(shape: tuple[int, int]) -> None:
    mask = np.random.default_rng(5).random(shape) < 0.5
    text = formats.png_base64(formats.encode_rle(mask))
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "1", (shape[1], shape[0]))
    np.testing.assert_array_equal(formats.decode_png(text), mask)


@pytest.mark.parametrize("text", ["", "%%%", "aGVsbG8=", "é"])
def test_decode_png_refuses_what_is_no_png(text: str) -> None:
    with pytest.raises(ValueError, match=r"PNG|ASCII"):
        formats.decode_png(text)
