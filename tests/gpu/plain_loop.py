"""The plain way to do it, in half precision: for each image, for each phrase, one whole forward of the stock model.

The loop itself is `serve_app.models.plain_loop`, with a model loaded by `dtype=torch.bfloat16`; its results as tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import torch
from PIL import Image
from torch import Tensor

from serve_app.models.plain_loop import PlainSegmenter
from tests.gpu.models import threshold_below


class PlainLoop(PlainSegmenter):
    """The documented loop."""

    def run(
        self, images: Sequence[Image.Image], phrases: Sequence[str], thresholds: Sequence[float]
    ) -> list[dict[str, Tensor]]:
        """Run the loop; one result a pair, image by image."""
        limits = iter(thresholds)
        return [
            self.tensors(self.inputs(image, phrase), (image.height, image.width), next(limits))
            for image in images
            for phrase in phrases
        ]

    def tensors(self, inputs: object, size_hw: tuple[int, int], threshold: float) -> dict[str, Tensor]:
        """Run one forward and the stock post-processing; scores, boxes and masks of the image's size, on the CPU."""
        found = self.find(inputs, size_hw, threshold)
        return {field.name: torch.from_numpy(getattr(found, field.name)) for field in fields(found)}

    @torch.inference_mode()
    def thresholds(self, images: Sequence[Image.Image], phrases: Sequence[str]) -> list[float]:
        """Choose a threshold for every pair from this model's own scores, which rounding has moved."""
        chosen = []
        for image in images:
            for phrase in phrases:
                inputs = self.inputs(image, phrase)
                out = self.model(**{key: inputs[key] for key in ("pixel_values", "input_ids", "attention_mask")})
                scores = out.pred_logits.sigmoid()[0] * out.presence_logits.sigmoid()[0]
                chosen.append(threshold_below(scores.float().cpu().numpy()))
        return chosen
