from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco

from serve_app.masks.from_logits import rles_from_logits
from serve_app.masks.interpolation import sigmoid
from serve_app.masks.rle import area

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


def zeros(_: np.random.Generator, count: int, height: int, width: int) -> Float32:
    return np.zeros((count, height, width), dtype=np.float32)


def saturated(rng: np.random.Generator, count: int, height: int, width: int) -> Float32:
    return np.sign(blobs(rng, count, height, width)) * np.float32(100)


def stripes(_: np.random.Generator, count: int, height: int, width: int) -> Float32:
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
        assert rles_from_logits(logits, size_hw, threshold) == stock_rles(logits, size_hw, threshold), threshold


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
    assert rles_from_logits(logits, size_hw, threshold) == stock_rles(logits, size_hw, threshold)


@pytest.mark.parametrize("value", [-3.0, 0.0, 3.0])
def test_rles_from_logits_of_a_single_cell_fills_or_leaves_the_image(value: float) -> None:
    (rle,) = rles_from_logits(np.full((1, 1, 1), value, np.float32), (37, 200), 0.5)
    assert area(rle) == (37 * 200 if value > 0 else 0)


@pytest.mark.parametrize("make", [blobs, noise])
def test_rles_from_logits_equals_the_stock_path_at_full_size(make: Callable[..., Float32]) -> None:
    logits = make(np.random.default_rng(7), 4, 288, 288)
    assert rles_from_logits(logits, (2160, 3840), 0.5) == stock_rles(logits, (2160, 3840), 0.5)


def test_rles_from_logits_keeps_the_order_among_plain_and_noisy_masks() -> None:
    rng = np.random.default_rng(1)
    logits = np.concatenate([blobs(rng, 1, 60, 60), noise(rng, 1, 60, 60), blobs(rng, 2, 60, 60)])
    assert rles_from_logits(logits, (600, 600), 0.5) == stock_rles(logits, (600, 600), 0.5)


def test_rles_from_logits_of_no_mask_is_empty() -> None:
    assert rles_from_logits(np.zeros((0, 72, 72), np.float32), (480, 640), 0.5) == []


def test_rles_from_logits_takes_a_view_that_is_not_contiguous() -> None:
    logits = blobs(np.random.default_rng(2), 4, 40, 40)
    expected = rles_from_logits(np.ascontiguousarray(logits[::2, ::-1]), (100, 120), 0.5)
    assert rles_from_logits(logits[::2, ::-1], (100, 120), 0.5) == expected


@pytest.mark.parametrize("value", [np.nan, -np.inf], ids=["nan", "minus-infinity"])
def test_rles_from_logits_of_nothing_finite_is_an_empty_mask(value: float) -> None:
    (rle,) = rles_from_logits(np.full((1, 8, 8), value, np.float32), (50, 60), 0.5)
    assert area(rle) == 0


@pytest.mark.parametrize(
    ("shape", "size_hw"),
    [((8, 8), (5, 5)), ((1, 0, 8), (5, 5)), ((1, 8, 8), (0, 5))],
    ids=["flat", "no-row", "no-size"],
)
def test_rles_from_logits_refuses_impossible_shapes(shape: tuple[int, ...], size_hw: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="cannot be resized"):
        rles_from_logits(np.zeros(shape, np.float32), size_hw, 0.5)


@pytest.mark.parametrize(("make", "count"), [(blobs, 100), (noise, 2)], ids=["blobs", "noise"])
def test_rles_from_logits_holds_no_full_size_stack(make: Callable[..., Float32], count: int) -> None:
    logits = make(np.random.default_rng(3), count, 288, 288)
    tracemalloc.start()
    try:
        rles_from_logits(logits, (4032, 4032), 0.5)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 300e6


@pytest.mark.parametrize("scale", [0.01, 1, 10, 60])
def test_sigmoid_equals_torch_bit_for_bit(scale: float) -> None:
    values = np.random.default_rng(0).normal(size=1 << 16).astype(np.float32) * np.float32(scale)
    np.testing.assert_array_equal(sigmoid(values), torch.from_numpy(values).sigmoid().numpy())
