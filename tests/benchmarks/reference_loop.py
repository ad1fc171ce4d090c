"""The plain way to do the job, written once from the libraries' documented use; what the benchmarks compare with.

For each image, for each phrase: the stock processor, one whole `Sam3Model` forward at batch 1, the stock
`post_process_instance_segmentation`, `pycocotools.mask.encode`. For each prompt: one chat, one greedy `generate`.

Source: the examples in the documentation of transformers, pages "SAM3" (text prompt, one image) and "Qwen3-VL", and of
pycocotools. The instruction, the reading of the reply and the entity filter are the package's own on both sides:
they cost microseconds, and without them the two sides would segment different things.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration, Sam3Model, Sam3Processor

from serve_app.config.schema import AppConfig
from serve_app.entities.chat import chat_messages, read_entities
from serve_app.entities.filter import EntityFilter


class ReferenceSegmenter:
    """The documented loop over images and phrases.

    Args:
        model: in eval mode, in float32.
        processor: the checkpoint's own.
    """

    def __init__(self, model: Sam3Model, processor: Sam3Processor) -> None:
        self._model = model
        self._processor = processor

    @classmethod
    def load(cls, folder: str) -> ReferenceSegmenter:
        """Load a checkpoint as the documentation does."""
        model = Sam3Model.from_pretrained(folder, dtype=torch.float32).eval()
        return cls(model, Sam3Processor.from_pretrained(folder))

    @torch.inference_mode()
    def segment(
        self, image: Image.Image, phrase: str, *, threshold: float = 0.5, mask_threshold: float = 0.5
    ) -> list[dict[str, Any]]:
        """Find every instance of one phrase in one image.

        Args:
            image: RGB.
            phrase: what to look for.
            threshold: instances with a score above it are listed.
            mask_threshold: pixels with a mask probability above it belong to the instance.

        Returns:
            Objects with label, bbox (xyxy in pixels, floats), score and mask_rle, best first; may be empty.
        """
        inputs = self._processor(images=image, text=phrase, return_tensors="pt")
        outputs = self._model(
            pixel_values=inputs["pixel_values"],
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
        )
        (found,) = self._processor.post_process_instance_segmentation(
            outputs, threshold=threshold, mask_threshold=mask_threshold, target_sizes=[(image.height, image.width)]
        )
        objects = [
            {"label": phrase, "bbox": box.tolist(), "score": float(score), "mask_rle": encode(mask.numpy())}
            for box, score, mask in zip(found["boxes"], found["scores"], found["masks"], strict=True)
        ]
        return sorted(objects, key=lambda found_object: -float(found_object["score"]))

    def segment_all(
        self, image: Image.Image, phrases: Sequence[str], *, threshold: float = 0.5, mask_threshold: float = 0.5
    ) -> list[dict[str, Any]]:
        """Run the loop over the phrases of one image; objects as in `segment`, phrase by phrase."""
        return [
            found
            for phrase in phrases
            for found in self.segment(image, phrase, threshold=threshold, mask_threshold=mask_threshold)
        ]


class ReferenceParser:
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
        self._filter = EntityFilter.of(AppConfig())

    @classmethod
    def load(cls, folder: str) -> ReferenceParser:
        """Load a checkpoint as the documentation does."""
        model = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        return cls(model, AutoProcessor.from_pretrained(folder))

    @torch.inference_mode()
    def reply(self, prompt: str) -> str:
        """Answer one prompt."""
        inputs = self._processor.apply_chat_template(
            chat_messages(prompt), add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        output = self._model.generate(**inputs, do_sample=False, max_new_tokens=self._max_new_tokens)
        text: str = self._processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return text

    def entities(self, prompt: str) -> list[str]:
        """List the entities of one prompt."""
        return self._filter.apply(read_entities(self.reply(prompt)), prompt).kept


def encode(mask: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Encode a mask (H, W), non-zero inside, as COCO RLE with text counts."""
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [*rle["size"]], "counts": rle["counts"].decode("ascii")}
