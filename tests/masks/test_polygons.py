from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from serve_app.masks.polygons import outline_of, rle_from_polygons
from serve_app.masks.rle import encode_rle, rle_from_run_lengths, run_lengths
from serve_app.schemas.dicts import RingDict

Mask = NDArray[np.bool_]
Value = TypeVar("Value")

shapes = st.tuples(st.integers(1, 12), st.integers(1, 12))


def mask_of(*rows: str) -> Mask:
    return np.array([[pixel == "#" for pixel in row] for row in rows])


def even_odd(rings: list[RingDict], shape: tuple[int, int]) -> Mask:
    """Fill rings the slow, plain way: a pixel is inside if a ray to the left of its centre crosses an odd number."""
    filled = np.zeros(shape, dtype=np.bool_)
    for ring in rings:
        points = np.array(ring["points"])
        for (x, y), (next_x, next_y) in zip(points, np.roll(points, -1, axis=0), strict=True):
            if x == next_x:
                filled[min(y, next_y) : max(y, next_y), x:] ^= True
    return filled


def followed(mask: Mask) -> list[RingDict]:
    """Follow the rings the slow, plain way: along the sides of the pixels, one after another, the mask on the right."""
    padded = np.pad(mask, 1)
    ways: dict[tuple[int, int], list[tuple[int, int]]] = {}  # from each corner, the directions of the sides that leave
    for y, x in np.argwhere(mask).tolist():
        sides = (
            ((x, y), (1, 0), (x, y - 1)),
            ((x + 1, y), (0, 1), (x + 1, y)),
            ((x + 1, y + 1), (-1, 0), (x, y + 1)),
            ((x, y + 1), (0, -1), (x - 1, y)),
        )
        for corner, way, beside in sides:
            if not padded[beside[1] + 1, beside[0] + 1]:
                ways.setdefault(corner, []).append(way)
    rings: list[RingDict] = []
    while ways:
        corner = start = min(ways)
        before = way = ways[start][0]
        points: list[list[float]] = []
        while ways.get(corner):
            leaving = ways[corner]
            # Where pixels touch at a corner, a ring turns to the right: it stays with its own pixel.
            right = (-before[1], before[0])
            way = right if right in leaving else leaving[0]
            leaving.remove(way)
            if not leaving:
                del ways[corner]
            if way != before or not points:
                points.append([*corner])
            corner, before = (corner[0] + way[0], corner[1] + way[1]), way
        first = points.index(min(points))
        rings.append(
            {
                "points": points[first:] + points[:first],
                "hole": points[first][0] == points[(first + 1) % len(points)][0],
            }
        )
    return rings


@pytest.mark.parametrize(
    ("mask", "outer", "holes"),
    [
        pytest.param(mask_of("#"), 1, 0, id="pixel"),
        pytest.param(mask_of(".."), 0, 0, id="empty"),
        pytest.param(mask_of("###", "###"), 1, 0, id="full"),
        pytest.param(mask_of("##..", "##..", "...#"), 2, 0, id="parts"),
        pytest.param(mask_of("####", "#..#", "####"), 1, 1, id="hole"),
        pytest.param(mask_of("#####", "#.#.#", "#####"), 1, 2, id="two-holes"),
        pytest.param(mask_of("#####", "#...#", "#.#.#", "#...#", "#####"), 2, 1, id="island-in-a-hole"),
        pytest.param(mask_of("#.", ".#"), 2, 0, id="falling-diagonal"),
        pytest.param(mask_of(".#", "#."), 2, 0, id="rising-diagonal"),
        pytest.param(mask_of("####", "#.##", "##.#", "####"), 1, 1, id="diagonal-hole"),
    ],
)
def test_rings_tell_outer_rings_from_holes(mask: Mask, outer: int, holes: int) -> None:
    rings = outline_of(encode_rle(mask)).rings()
    assert [ring["hole"] for ring in rings].count(False) == outer
    assert [ring["hole"] for ring in rings].count(True) == holes
    np.testing.assert_array_equal(even_odd(rings, mask.shape), mask)


def test_rings_turn_at_pixel_corners() -> None:
    mask = np.zeros((6, 8), dtype=np.bool_)
    mask[1:4, 2:7] = True
    (ring,) = outline_of(encode_rle(mask)).rings()
    assert ring["hole"] is False
    assert sorted(ring["points"]) == [[2, 1], [2, 4], [7, 1], [7, 4]]
    assert all(type(value) is int for point in ring["points"] for value in point)


@settings(deadline=None)
@given(arrays.arrays(np.bool_, shapes))
def test_rings_are_exact(mask: Mask) -> None:
    rle = encode_rle(mask)
    rings = outline_of(rle).rings()
    np.testing.assert_array_equal(even_odd(rings, mask.shape), mask)
    assert rle_from_polygons(rings, mask.shape) == rle


@settings(deadline=None)
@given(arrays.arrays(np.bool_, shapes))
def test_rings_are_those_that_one_walks_along_the_pixels(mask: Mask) -> None:
    assert outline_of(encode_rle(mask)).rings() == followed(mask)


@settings(deadline=None)
@given(arrays.arrays(np.bool_, shapes), st.data())
def test_runs_of_no_pixels_change_nothing(mask: Mask, data: st.DataObject) -> None:
    rle = encode_rle(mask)
    lengths = run_lengths(rle).tolist()
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lengths)))
        lengths[at:at] = [0, 0]
    widened = rle_from_run_lengths(np.array(lengths), mask.shape)
    assert run_lengths(widened).tolist() == lengths
    assert outline_of(widened).rings() == outline_of(rle).rings()


@pytest.mark.parametrize("counts", ["", "0", "~", "111"])
def test_outlines_of_malformed_counts_are_refused(counts: str) -> None:
    with pytest.raises(ValueError, match="the RLE's counts"):
        outline_of({"size": [9, 9], "counts": counts})


def test_outlines_cost_what_their_runs_do_whatever_the_number_of_pixels() -> None:
    lengths = np.full(2001, 10_000)
    lengths[0] = 50_000_000 - 2000 * 10_000
    rle = rle_from_run_lengths(lengths, (10_000, 5_000))
    rings, peak = traced(lambda: outline_of(rle).rings())
    assert len(rings) == 1000
    assert peak < 4_000_000, "a byte a pixel would be 50 MB"


def test_outlines_of_noise_and_their_rings_stay_within_their_bounds() -> None:
    rle = encode_rle(np.random.default_rng(0).random((1000, 1000)) < 0.5)
    outline, outline_bytes = traced(lambda: outline_of(rle))
    packed, packed_bytes = traced(outline.packed)
    assert len(outline) > 700_000
    assert outline_bytes < 80 * len(rle["counts"])
    assert packed_bytes < 110 * len(outline)
    assert len(pickle.dumps(packed)) < 11 * len(outline)


def traced(work: Callable[[], Value]) -> tuple[Value, int]:
    """Do some work: its result, and the most memory that it took."""
    tracemalloc.start()
    try:
        return work(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_packed_rings_are_the_rings() -> None:
    mask = np.random.default_rng(4).random((300, 200)) < 0.5
    outline = outline_of(encode_rle(mask))
    packed = pickle.loads(pickle.dumps(outline.packed()))
    assert packed.rings() == outline.rings()
    assert len(packed.points) == len(outline)


@settings(deadline=None)
@given(arrays.arrays(np.bool_, shapes))
def test_rings_turn_at_every_point(mask: Mask) -> None:
    for ring in outline_of(encode_rle(mask)).rings():
        steps = np.roll(ring["points"], -1, axis=0) - np.array(ring["points"])
        horizontal = steps[:, 1] == 0
        assert np.all(np.count_nonzero(steps, axis=1) == 1)
        assert np.all(horizontal != np.roll(horizontal, 1))


def test_rings_keep_every_part_of_a_large_mask() -> None:
    image = Image.new("1", (1600, 1200))
    draw = ImageDraw.Draw(image)
    for x, y, radius in ((300, 300, 250), (900, 700, 400), (1500, 100, 3)):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
        draw.ellipse((x - radius / 3, y - radius / 3, x + radius / 3, y + radius / 3), fill=0)
    rle = encode_rle(np.asarray(image))
    rings = outline_of(rle).rings()
    assert [ring["hole"] for ring in rings].count(False) == 3
    assert [ring["hole"] for ring in rings].count(True) == 3
    assert rle_from_polygons(rings, (1200, 1600)) == rle


def test_rle_from_polygons_of_no_ring_is_empty() -> None:
    assert rle_from_polygons([], (5, 7)) == encode_rle(np.zeros((5, 7), dtype=np.bool_))


def test_rle_from_polygons_cuts_off_what_lies_outside() -> None:
    ring: RingDict = {"points": [[-3, -2], [4, -2], [4, 99], [-3, 99]], "hole": False}
    mask = np.zeros((5, 7), dtype=np.bool_)
    mask[:, :4] = True
    assert rle_from_polygons([ring], (5, 7)) == encode_rle(mask)


def test_rle_from_polygons_refuses_slanted_edges() -> None:
    with pytest.raises(ValueError, match="neither horizontal nor vertical"):
        rle_from_polygons([{"points": [[0, 0], [4, 0], [2, 3]], "hole": False}], (5, 5))
