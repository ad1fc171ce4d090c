"""The plain way to do the job, by the libraries' documented use: what the package is compared with.

For each image, for each phrase: the stock processor, one whole `Sam3Model` forward at batch 1, the stock
`post_process_instance_segmentation`. For each prompt: one chat, one greedy `generate`.

Source: the examples in the documentation of transformers, pages "SAM3" (text prompt, one image) and "Qwen3-VL". The
instruction is the package's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration, Sam3Model, Sam3Processor

from serve_app.entities.chat import chat_messages


@dataclass(frozen=True)
class PlainObjects:
    """What was found of one phrase in one image: N objects, in the model's own order.

    Attributes:
        scores: (N,) float32.
        boxes: (N, 4) float32 xyxy in pixels; they may hang over the image's edges.
        masks: (N, height, width), non-zero inside.
    """

    scores: NDArray[np.float32]
    boxes: NDArray[np.float32]
    masks: NDArray[Any]


class PlainSegmenter:
    """The documented loop over images and phrases.

    Args:
        model: in eval mode, on its device, wholly in one type.
        processor: the checkpoint's own.
    """

    def __init__(self, model: Sam3Model, processor: Sam3Processor) -> None:
        self.model, self.processor = model, processor

    @classmethod
    def load(cls, source: str, device: torch.device | None = None) -> Self:
        """Load a checkpoint as the documentation does, in float32.

        Args:
            source: a folder or a hub name.
            device: where it computes; None for the CPU.
        """
        model = Sam3Model.from_pretrained(source, dtype=torch.float32).to(device or "cpu").eval()
        return cls(model, Sam3Processor.from_pretrained(source))

    def inputs(self, image: Image.Image, phrase: str) -> Any:
        """Prepare one pair with the stock processor, and bring it to the model's device and type."""
        made = self.processor(images=image, text=phrase, return_tensors="pt")
        return made.to(self.model.device, dtype=self.model.dtype)

    @torch.inference_mode()
    def find(
        self, inputs: Any, size_hw: tuple[int, int], threshold: float = 0.5, mask_threshold: float = 0.5
    ) -> PlainObjects:
        """Run one forward and the stock post-processing, and bring the result to the CPU.

        Args:
            inputs: from `inputs`.
            size_hw: height and width of the image.
            threshold: objects with a score above it are kept.
            mask_threshold: pixels with a mask probability above it belong to the object.
        """
        outputs = self.model(**{key: inputs[key] for key in ("pixel_values", "input_ids", "attention_mask")})
        (found,) = self.processor.post_process_instance_segmentation(
            outputs, threshold=threshold, mask_threshold=mask_threshold, target_sizes=[size_hw]
        )
        return PlainObjects(
            scores=found["scores"].float().cpu().numpy(),
            boxes=found["boxes"].float().cpu().numpy(),
            masks=found["masks"].cpu().numpy(),
        )


class PlainParser:
    """One greedy `generate` per prompt.

    Args:
        model: in eval mode.
        processor: the checkpoint's own, with its chat template.
        max_new_tokens: longest reply.
    """

    def __init__(self, model: Qwen3VLForConditionalGeneration, processor: Any, max_new_tokens: int = 256) -> None:
        self._model = model
        self._processor = processor
        self._max_new_tokens = max_new_tokens

    @classmethod
    def load(
        cls,
        source: str,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        max_new_tokens: int = 256,
    ) -> Self:
        """Load a checkpoint as the documentation does; None for the device is the CPU."""
        model = Qwen3VLForConditionalGeneration.from_pretrained(source, dtype=dtype).to(device or "cpu").eval()
        return cls(model, AutoProcessor.from_pretrained(source), max_new_tokens)

    @torch.inference_mode()
    def reply(self, prompt: str) -> str:
        """Answer one prompt."""
        inputs = self._processor.apply_chat_template(
            chat_messages(prompt), add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        ).to(self._model.device)
        output = self._model.generate(**inputs, do_sample=False, max_new_tokens=self._max_new_tokens)
        text: str = self._processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return text
