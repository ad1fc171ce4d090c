"""The plain way to do it, in half precision: for each image, for each phrase, one whole forward of the stock model.

Source: the example of transformers' documentation, page "SAM3" (text prompt, one image), with `dtype=torch.bfloat16`
at loading and the result brought to the CPU. Without the last step of `tests.benchmarks.reference_loop`, the encoding
by pycocotools.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import Sam3Model, Sam3Processor

from tests.gpu.models import threshold_below


class PlainLoop:
    """The documented loop.

    Args:
        model: in eval mode, on its device, wholly in one type.
        processor: the checkpoint's own.
    """

    def __init__(self, model: Sam3Model, processor: Sam3Processor) -> None:
        self._model, self._processor = model, processor

    def inputs(self, image: Image.Image, phrase: str) -> Any:
        """Prepare one pair with the stock processor, and bring it to the device."""
        made = self._processor(images=image, text=phrase, return_tensors="pt")
        return made.to(self._model.device, dtype=self._model.dtype)

    @torch.inference_mode()
    def find(self, inputs: Any, size_hw: tuple[int, int], threshold: float) -> dict[str, Tensor]:
        """Run one forward and the stock post-processing; scores, boxes and masks of the image's size, on the CPU."""
        outputs = self._model(
            pixel_values=inputs["pixel_values"],
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
        )
        (found,) = self._processor.post_process_instance_segmentation(
            outputs, threshold=threshold, mask_threshold=0.5, target_sizes=[size_hw]
        )
        return {key: found[key].cpu() for key in ("scores", "boxes", "masks")}

    def run(
        self, images: Sequence[Image.Image], phrases: Sequence[str], thresholds: Sequence[float]
    ) -> list[dict[str, Tensor]]:
        """Run the loop; one result a pair, image by image."""
        limits = iter(thresholds)
        return [
            self.find(self.inputs(image, phrase), (image.height, image.width), next(limits))
            for image in images
            for phrase in phrases
        ]

    @torch.inference_mode()
    def thresholds(self, images: Sequence[Image.Image], phrases: Sequence[str]) -> list[float]:
        """Choose a threshold for every pair from this model's own scores, which rounding has moved."""
        chosen = []
        for image in images:
            for phrase in phrases:
                inputs = self.inputs(image, phrase)
                out = self._model(**{key: inputs[key] for key in ("pixel_values", "input_ids", "attention_mask")})
                scores = out.pred_logits.sigmoid()[0] * out.presence_logits.sigmoid()[0]
                chosen.append(threshold_below(scores.float().cpu().numpy()))
        return chosen
