"""Our order of the vision encoder's modules against the stock forward."""

from __future__ import annotations

import pytest
import torch
from transformers import Sam3Model

from serve_app.models.sam3_vision import VisionEncoder
from tests.models.small_segmenter import config, tokenizer


@pytest.mark.parametrize("side", [56, 84, 70], ids=["two windows wide", "three windows wide", "padded windows"])
def test_the_maps_are_the_stock_encoders(side: int) -> None:
    torch.manual_seed(0)
    model = Sam3Model(config(tokenizer(), side)).eval()
    pixels = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        stock = model.vision_encoder(pixels).fpn_hidden_states
        fine, coarse = VisionEncoder(model.vision_encoder)(pixels)
    assert len(fine) == 2
    for ours, theirs in zip([*fine, coarse], stock, strict=False):
        assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_rounds_no_angle(dtype: torch.dtype) -> None:
    """A grid that is three windows wide, as the real one: a third has no exact number in half precision."""
    model = Sam3Model(config(tokenizer(), 84)).eval()
    exact = VisionEncoder(model.vision_encoder)._rotations
    rounded = VisionEncoder(model.vision_encoder, dtype)._rotations
    assert exact.keys() == rounded.keys() == {0, 2}
    for size, rotations in exact.items():
        assert torch.equal(rotations, rounded[size])
        assert rotations.dtype == torch.complex64
