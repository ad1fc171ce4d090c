"""The plain loop: calls the models as their documentation does. Tests and benchmarks compare the package with it.

For each image and each phrase, it runs the stock processor, one whole `Sam3Model` forward at batch size 1 and the stock
`post_process_instance_segmentation`. For each prompt, it runs one greedy `generate`.

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
    """The objects of one phrase in one image: N objects, in the model's own order. N may be 0.

    Attributes:
        scores: (N,) float32 in [0, 1].
        boxes: (N, 4) float32 xyxy in pixels; may extend over the image's edges.
        masks: (N, height, width), non-zero inside the object.
    """

    scores: NDArray[np.float32]
    boxes: NDArray[np.float32]
    masks: NDArray[Any]


class PlainSegmenter:
    """SAM3, as its documentation uses it: one image and one phrase at a time.

    Args:
        model: in eval mode, on its device, with all weights in one dtype.
        processor: the checkpoint's own.
    """

    def __init__(self, model: Sam3Model, processor: Sam3Processor) -> None:
        self.model, self.processor = model, processor

    @classmethod
    def load(cls, source: str, device: torch.device | None = None) -> Self:
        """Load a checkpoint as the documentation does, in float32.

        Args:
            source: a folder or a hub name.
            device: the device; None means the CPU.
        """
        model = Sam3Model.from_pretrained(source, dtype=torch.float32).to(device or "cpu").eval()
        return cls(model, Sam3Processor.from_pretrained(source))

    def inputs(self, image: Image.Image, phrase: str) -> Any:
        """Prepare one image and phrase with the stock processor, on the model's device and in its dtype."""
        made = self.processor(images=image, text=phrase, return_tensors="pt")
        return made.to(self.model.device, dtype=self.model.dtype)

    @torch.inference_mode()
    def find(
        self, inputs: Any, size_hw: tuple[int, int], threshold: float = 0.5, mask_threshold: float = 0.5
    ) -> PlainObjects:
        """Run one forward and the stock post-processing, and copy the result to the CPU.

        Args:
            inputs: output of `inputs`.
            size_hw: height and width of the image in pixels.
            threshold: objects with a score above it are kept, in [0, 1].
            mask_threshold: pixels with a mask probability above it belong to the object, in [0, 1].
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
    """Qwen3-VL, as its documentation uses it: one greedy `generate` per prompt.

    Args:
        model: in eval mode.
        processor: the checkpoint's own, with its chat template.
        max_new_tokens: longest reply in tokens.
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
        """Load a checkpoint as the documentation does.

        Args:
            source: a folder or a hub name.
            device: the device; None means the CPU.
            dtype: dtype of the weights.
            max_new_tokens: longest reply in tokens.
        """
        model = Qwen3VLForConditionalGeneration.from_pretrained(source, dtype=dtype).to(device or "cpu").eval()
        return cls(model, AutoProcessor.from_pretrained(source), max_new_tokens)

    @torch.inference_mode()
    def reply(self, prompt: str) -> str:
        """Return the model's reply to one prompt, without special tokens."""
        inputs = self._processor.apply_chat_template(
            chat_messages(prompt), add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        ).to(self._model.device)
        output = self._model.generate(**inputs, do_sample=False, max_new_tokens=self._max_new_tokens)
        text: str = self._processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return text
