"""Defines the embedded identity model: a small Dinov2Model and its image processor."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn import functional as F
from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

CHECKPOINT_DIR = Path(__file__).parents[1] / "checkpoints" / "identity"
SIDE = 112
"""Height and width of the model's input in pixels: 8 x 8 patches of 14."""

THRESHOLD_KEY = "genseg_threshold"
"""Key of the threshold in the checkpoint's config.json. Objects with at least this cosine are the same individual."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of the channels. Source: preprocessor_config.json of facebook/dinov2-base."""


def build_model() -> Dinov2Model:
    """Build the model with random weights: 1.3 M parameters, 2.7 MB in half precision."""
    config = Dinov2Config(
        hidden_size=144, num_hidden_layers=5, num_attention_heads=3, mlp_ratio=4, image_size=SIDE, patch_size=14,
        drop_path_rate=0.0, layerscale_value=0.1,
    )  # fmt: skip
    return Dinov2Model(config)


def build_processor() -> BitImageProcessor:
    """Build the stock image processor for square crops."""
    return BitImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, resample=3,
        image_mean=MEAN, image_std=STD, do_convert_rgb=True,
    )  # fmt: skip


def embed(model: Dinov2Model, crops: torch.Tensor) -> torch.Tensor:
    """Embed crops of objects.

    Args:
        model: in training or evaluation mode.
        crops: (N, 3, SIDE, SIDE) uint8 RGB, on the model's device.

    Returns:
        (N, D) float32, the CLS token with L2 norm 1.
    """
    mean, std = (torch.tensor(values, device=crops.device).view(1, 3, 1, 1) for values in (MEAN, STD))
    pixels = (crops.float() / 255 - mean) / std
    return F.normalize(model(pixels).last_hidden_state[:, 0].float(), dim=-1)
