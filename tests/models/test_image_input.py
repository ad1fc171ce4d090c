"""Preparation in uint8 gives the same bits as the stock processor; other processors run as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import Sam3ImageProcessor

from serve_app.models.image_input import ImagePreparer

SIZE = {"height": 56, "width": 56}
CPU = torch.device("cpu")


def pictures() -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(5)
    sizes = [(1, 1), (56, 56), (2, 400), *rng.integers(1, 300, (40, 2))]
    # Where a tall, narrow picture is shortened first, rounding may differ.
    wide = [(min(int(height), 2 * int(width)), int(width)) for height, width in sizes]
    return [rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8) for size_hw in wide]


def stock(processor: Any, image: NDArray[np.uint8]) -> Tensor:
    pixels: Tensor = processor(images=torch.from_numpy(image).permute(2, 0, 1), return_tensors="pt")["pixel_values"][0]
    return pixels


@pytest.mark.parametrize(
    "settings",
    [{}, {"image_mean": [0.1, 0.4, 0.6], "image_std": [0.2, 0.3, 0.7]}, {"rescale_factor": 0.01}, {"resample": 3}],
    ids=["as published", "other mean and deviation", "other scale", "bicubic"],
)
def test_a_batch_of_uint8_is_the_processors_pixels_bit_for_bit(settings: dict[str, Any]) -> None:
    processor = Sam3ImageProcessor(size=SIZE, **settings)
    preparer = ImagePreparer(processor)
    images = pictures()
    prepared = [preparer.prepare(image) for image in images]
    assert {(each.dtype, tuple(each.shape)) for each in prepared} == {(torch.uint8, (3, 56, 56))}
    batch = preparer.batch(prepared, CPU)
    assert batch.is_contiguous()
    for ours, image in zip(batch, images, strict=True):
        assert torch.equal(ours, stock(processor, image))


class Mirrored(Sam3ImageProcessor):  # type: ignore[misc]  # transformers has no types here, see pyproject.toml
    """Mirrors the image, which the stock processor does not do."""

    def rescale_and_normalize(self, images: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        normalised: Tensor = super().rescale_and_normalize(images, *args, **kwargs)
        return normalised.flip(-1)


@pytest.mark.parametrize(
    "processor",
    [
        Sam3ImageProcessor(size=SIZE, do_normalize=False),
        Sam3ImageProcessor(size=SIZE, do_rescale=False),
        Sam3ImageProcessor(size=SIZE, do_center_crop=True, crop_size={"height": 40, "width": 40}),
        Sam3ImageProcessor(size=SIZE, do_pad=True, pad_size={"height": 60, "width": 60}),
        Mirrored(size=SIZE),
    ],
    ids=["no mean", "no scale", "crop", "pad", "of another class"],
)
def test_a_processor_that_does_anything_else_does_all_of_it(processor: Any) -> None:
    preparer = ImagePreparer(processor)
    images = pictures()
    batch = preparer.batch([preparer.prepare(image) for image in images], CPU)
    for ours, image in zip(batch, images, strict=True):
        assert torch.equal(ours, stock(processor, image))
