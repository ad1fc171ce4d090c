"""One object cut out of a picture, as the contract says: the mask's box, grey outside, a square, bicubic."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from serve_app.images import crops
from serve_app.images.crops import GREY, object_crop


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8)


def rectangle(height: int, width: int, box: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), np.bool_)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


def test_a_square_object_of_the_models_side_is_its_pixels() -> None:
    image = noise(60, 80)
    crop = object_crop(image, rectangle(60, 80, (30, 20, 62, 52)), 32)
    np.testing.assert_array_equal(crop, image[20:52, 30:62])


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [((10, 20, 50, 40), (10, 30), (0, 40)), ((10, 0, 30, 40), (0, 40), (10, 30))],
    ids=["wide", "tall"],
)
def test_the_aspect_is_kept_and_the_object_stands_in_the_middle(
    box: tuple[int, int, int, int], rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    image = noise(60, 80)
    crop = object_crop(image, rectangle(60, 80, box), 40)
    x1, y1, x2, y2 = box
    np.testing.assert_array_equal(crop[slice(*rows), slice(*columns)], image[y1:y2, x1:x2])
    padding = np.ones((40, 40), np.bool_)
    padding[slice(*rows), slice(*columns)] = False
    assert (crop[padding] == GREY).all()


def test_what_is_not_the_object_is_grey_128() -> None:
    image, mask = noise(40, 40), np.random.default_rng(2).random((40, 40)) < 0.5
    mask[0, 0] = mask[-1, -1] = True
    crop = object_crop(image, mask, 40)
    assert (crop[~mask] == 128).all()
    np.testing.assert_array_equal(crop[mask], image[mask])


def test_it_is_resized_bicubic() -> None:
    image = noise(50, 50)
    expected = Image.fromarray(image).resize((24, 24), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(object_crop(image, np.ones((50, 50), np.bool_), 24), np.asarray(expected))


def test_an_object_of_one_pixel_fills_the_crop() -> None:
    image = noise(9, 9)
    crop = object_crop(image, rectangle(9, 9, (4, 5, 5, 6)), 14)
    assert (crop == image[5, 4]).all()


def test_an_empty_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="the mask is empty"):
        object_crop(noise(9, 9), np.zeros((9, 9), np.bool_), 14)


def test_a_very_long_object_takes_no_square_of_its_length() -> None:
    image = np.full((8, 65_535, 3), (200, 30, 90), np.uint8)
    mask = np.ones(image.shape[:2], np.bool_)
    tracemalloc.start()
    crop = object_crop(image, mask, 112)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6  # the square of its length would be 12.9 GB
    assert crop.shape == (112, 112, 3)
    assert (crop[:54] == GREY).all()


def test_a_long_object_looks_as_it_would_by_the_direct_way(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = Image.fromarray(noise(6, 20)).resize((1500, 450), Image.Resampling.BICUBIC)
    image, mask = np.asarray(blocks), np.ones((450, 1500), np.bool_)
    direct = object_crop(image, mask, 112).astype(int)
    monkeypatch.setattr(crops, "LONGEST_SIDE", 700)
    assert np.abs(object_crop(image, mask, 112) - direct)[44:68].max() <= 6
