from __future__ import annotations

import numpy as np
import pytest

from serve_app.masks.boxes import pixel_boxes


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


@pytest.mark.parametrize(
    ("relative", "size_wh", "expected"),
    [
        pytest.param((0.0, 0.0, 1.0, 1.0), (640, 480), [0, 0, 640, 480], id="whole-image"),
        pytest.param((0.25, 0.5, 0.75, 1.0), (640, 480), [160, 240, 480, 480], id="part"),
        pytest.param((0.502, 0.2, 0.504, 0.4), (100, 100), [50, 20, 51, 40], id="thin"),
        pytest.param((0.506, 0.2, 0.508, 0.4), (100, 100), [50, 20, 51, 40], id="thin-in-the-second-half-of-a-pixel"),
        pytest.param((0.3, 0.999, 0.6, 1.0), (100, 100), [30, 99, 60, 100], id="flat-at-the-lower-edge"),
        pytest.param((1.0, 0.2, 1.0, 0.4), (100, 100), [99, 20, 100, 40], id="empty-at-the-right-edge"),
        pytest.param((1.2, 0.2, 1.4, 0.4), (100, 100), [99, 20, 100, 40], id="beyond-the-right-edge"),
        pytest.param((-0.4, -0.3, -0.2, -0.1), (100, 100), [0, 0, 1, 1], id="beyond-the-top-left-corner"),
        pytest.param((0.0, 0.0, 0.0, 0.0), (100, 100), [0, 0, 1, 1], id="nothing-at-the-corner"),
        pytest.param((0.4, 0.4, 0.6, 0.6), (1, 1), [0, 0, 1, 1], id="image-of-one-pixel"),
        pytest.param((0.6, 0.1, 0.9, 0.2), (2, 65_535), [1, 6554, 2, 13107], id="narrow-image"),
    ],
)
def test_a_box_covers_a_pixel_at_least_and_stays_inside(
    relative: tuple[float, float, float, float], size_wh: tuple[int, int], expected: list[int]
) -> None:
    assert pixel_boxes(boxes(relative), size_wh) == [expected]


def test_no_box_is_degenerate_whatever_the_image_and_the_box() -> None:
    rng = np.random.default_rng(3)
    starts = rng.uniform(-0.2, 1.2, (3000, 2))
    relative = np.concatenate([starts, starts + rng.exponential(0.01, (3000, 2))], axis=1).astype(np.float32)
    for width, height in ((1, 1), (2, 3), (100, 40), (65_535, 700)):
        for x1, y1, x2, y2 in pixel_boxes(relative, (width, height)):
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height


def test_no_boxes_are_no_boxes() -> None:
    assert pixel_boxes(boxes(), (10, 10)) == []
