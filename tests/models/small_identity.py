"""Very small identity models with random weights, and their processors, of the stock classes, as checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import DINOv3ViTConfig, DINOv3ViTImageProcessor, DINOv3ViTModel

from serve_app.embedded.identity.model import build_model, build_processor

DINOV3_SIDE = 32


def dinov2(folder: Path, seed: int = 0) -> Path:
    """Save the embedded model's architecture with fresh weights."""
    torch.manual_seed(seed)
    build_model().save_pretrained(folder)
    build_processor().save_pretrained(folder)
    return folder


def dinov3(folder: Path, seed: int = 0) -> Path:
    """Save a DINOv3 model of two layers with fresh weights."""
    torch.manual_seed(seed)
    config = DINOv3ViTConfig(
        patch_size=8, hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        image_size=DINOV3_SIDE, num_register_tokens=4,
    )  # fmt: skip
    DINOv3ViTModel(config).save_pretrained(folder)
    DINOv3ViTImageProcessor(size={"height": DINOV3_SIDE, "width": DINOV3_SIDE}).save_pretrained(folder)
    return folder


def edit(folder: Path, file: str, **values: Any) -> None:
    """Change keys of a JSON file of a checkpoint."""
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
