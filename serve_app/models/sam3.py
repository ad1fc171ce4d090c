"""Sam3Segmenter: images and phrases in; boxes, scores, presence and mask logits out. A NumPy face over SAM3.

Three steps, so that the caller can cache and batch between them: `encode` (the vision pass, once per image), `embed`
(the text pass, once per phrase), `detect` (the head, once per pair). Keeps no state of a request: thresholds are
arguments. Knows no Ray, no wire format and no cache. Not thread-safe: one thread calls it; `prepare` and
`check_phrases` alone may be called from any thread.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import Sam3Model, Sam3Processor

from serve_app.config.models import SegmentationModel
from serve_app.config.schema import AppConfig, DeviceConfig
from serve_app.errors import DeviceOutOfMemory, GensegError, InternalError, InvalidRequest
from serve_app.models import checkpoints, devices, interface, locations
from serve_app.models.checkpoint_files import check_before_loading
from serve_app.models.compiling import BatchSizes, check_compiler, compiler, failed
from serve_app.models.image_input import ImagePreparer
from serve_app.models.interface import Detections
from serve_app.models.memory import halve_when_full
from serve_app.models.precision import allow_tf32
from serve_app.models.sam3_answers import Scores, copied_to_host, scores_of
from serve_app.models.sam3_features import ImageFeatures, Pair, PhraseFeatures
from serve_app.models.sam3_head import DetectorHead, PairOutputs
from serve_app.models.sam3_text import PhraseEmbedder
from serve_app.models.sam3_vision import VisionEncoder

logger = logging.getLogger(__name__)

UNBOUNDED = 1 << 30

Item = TypeVar("Item")


def load(config: AppConfig) -> interface.Segmenter[Tensor, ImageFeatures, PhraseFeatures]:
    """Load the configured checkpoint and warm it up; see config.engines."""
    model = config.models.segmentation
    segmenter = Sam3Segmenter.load(model, config.device)
    wall = devices.memory_wall(segmenter.device, model.gpu_memory_fraction)
    try:
        segmenter.warm_up(config.batching.max_pixels, config.batching.max_pairs)
    except Exception as error:
        raise failed(model.model_name, error, wall) from error
    return segmenter


class Sam3Segmenter:
    """A loaded SAM3 detector.

    Args:
        model: in eval mode, on its device, in float32.
        processor: the checkpoint's own.
        vision_dtype: what the vision encoder computes in.
        head_dtype: what the head multiplies in.
        compile_backend: of torch.compile for the vision encoder and the head; None runs them as they are.
    """

    def __init__(
        self,
        model: Sam3Model,
        processor: Sam3Processor,
        vision_dtype: torch.dtype = torch.float32,
        head_dtype: torch.dtype = torch.float32,
        compile_backend: str | None = None,
    ) -> None:
        self._input = ImagePreparer(processor.image_processor)
        self.resolution_hw = self._input.resolution_hw
        patch = int(model.config.vision_config.backbone_config.patch_size)
        grid_hw = (self.resolution_hw[0] // patch, self.resolution_hw[1] // patch)
        self._head = DetectorHead(model, grid_hw, head_dtype)
        self._text = PhraseEmbedder(model, processor.tokenizer)
        self._model = model
        self._vision = VisionEncoder(model.vision_encoder, vision_dtype)
        self._compiled = compile_backend is not None
        self._image_sizes = self._pair_sizes = BatchSizes(UNBOUNDED)
        self._see = self._look
        if compile_backend is not None:
            # As one graph: a break would be an error at the warm-up, not a silent loss later.
            compiled = compiler(compile_backend)
            self._see = compiled(self._look)
            self._head.compile_with(compiled)

    @classmethod
    def load(cls, config: SegmentationModel, device: DeviceConfig) -> Sam3Segmenter:
        """Load the configured checkpoint onto its device.

        Also takes the video model's layout, as facebook/sam3 is published: its detector is loaded, its tracker is not.

        Raises:
            CheckpointError: missing, gated, incomplete, damaged, of another model, or the device is not there.
        """
        place = devices.resolve_device(config.device, device.cuda_device)
        with checkpoints.explain(config.model_name):  # a card that is full refuses even this
            wall = devices.cap_memory(place, config.gpu_memory_fraction)
        allow_tf32(config.tf32)
        source = locations.resolve(config.model_name, "segmenter")
        backend = "inductor" if config.compile else None
        if backend is not None:
            check_compiler(config.model_name, place, backend)
        with checkpoints.explain(config.model_name, wall):
            check_before_loading(config.model_name, source, "segmenter", ("sam3", "sam3_video"))
            # SDPA throughout: FlashAttention ignores the text's padding in SAM3's cross-attention.
            model, report = Sam3Model.from_pretrained(
                source, dtype=torch.float32, attn_implementation="sdpa", output_loading_info=True
            )
            checkpoints.check_complete(config.model_name, report["missing_keys"], report["mismatched_keys"])
            processor = Sam3Processor.from_pretrained(source)
            dtype = devices.resolve_dtype(config.dtype, place)
            if dtype is torch.bfloat16 and place.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
                logger.warning(
                    "this CPU has no bfloat16 arithmetic, and emulates it slowly: vision computes in float32"
                )
                dtype = torch.float32
            head_dtype = devices.resolve_head_dtype(config.head_dtype, place)
            return cls(model.to(place).eval(), processor, dtype, head_dtype, backend)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._head.position.device

    def prepare(self, image: NDArray[np.uint8]) -> Tensor:
        """Resize a picture, (H, W, 3) uint8 RGB, to (3, S, S) uint8 on the CPU; see ImagePreparer.

        CPU work; any thread may call it.
        """
        return self._input.prepare(image)

    def encode(self, images: Sequence[Tensor]) -> list[ImageFeatures | DeviceOutOfMemory]:
        """Run the vision encoder.

        Args:
            images: tensors from `prepare`; may be empty.

        Returns:
            One entry per image, in order; an image that does not fit into the device's memory gets the error.
        """
        return halve_when_full(self._encode, images, "image")

    @torch.inference_mode()
    def _encode(self, images: Sequence[Tensor]) -> list[ImageFeatures]:
        pixels = self._input.batch(self._filled(images, self._image_sizes), self.device)
        fine, tokens = self._see(pixels)
        # Copies, so that one cached image does not keep its whole batch in memory.
        return [
            ImageFeatures(tuple(level[index].clone() for level in fine), tokens[index].clone())
            for index in range(len(images))
        ]

    def _look(self, pixels: Tensor) -> tuple[list[Tensor], Tensor]:
        """(B, 3, S, S) to the finer maps and the tokens."""
        fine, coarse = self._vision(pixels)
        return fine, self._head.attend(coarse)

    def _filled(self, items: Sequence[Item], sizes: BatchSizes) -> Sequence[Item]:
        """Fill a batch up to one of few sizes where shapes are compiled."""
        return sizes.fill(items) if self._compiled else items

    def warm_up(self, max_pixels: int, max_pairs: int) -> None:
        """Compile every batch size that will occur, before the first request does; nothing to do where not compiled.

        Args:
            max_pixels: bound of a vision batch, in model-input pixels.
            max_pairs: bound of a detector batch.
        """
        if not self._compiled:
            return
        self._image_sizes = BatchSizes(max_pixels // (self.resolution_hw[0] * self.resolution_hw[1]))
        self._pair_sizes = BatchSizes(max_pairs)
        image = self.prepare(np.zeros((8, 8, 3), np.uint8))
        for size in self._image_sizes:
            self._encode([image] * size)
        (features,), (phrase,) = self._encode([image]), self.embed(["object"])
        assert isinstance(phrase, PhraseFeatures)
        for size in self._pair_sizes:
            # Below any score, so that masks are drawn too.
            self._detect([Pair(features, phrase, -1.0)] * size)

    def embed(self, phrases: Sequence[str]) -> list[PhraseFeatures | InvalidRequest]:
        """Run the text encoder.

        Args:
            phrases: noun phrases; may be empty.

        Returns:
            One entry per phrase, in order. A phrase longer than the text encoder's positions gets the error: cut
            silently, it would look for something else.
        """
        return self._text.embed(phrases)

    def check_phrases(self, phrases: Sequence[str]) -> list[InvalidRequest | None]:
        """Tell which phrases `embed` would refuse; see interface.PhraseChecker. Any thread may call it."""
        return self._text.check(phrases)

    def detect(self, pairs: Sequence[Pair]) -> list[Detections | GensegError]:
        """Find every instance for each pair.

        Args:
            pairs: any mix of images and phrases; may be empty. Pairs of one image share its feature maps.

        Returns:
            One entry per pair, in order: its Detections, or the error that concerns this pair alone.
        """
        return [*halve_when_full(self._detect, pairs, "image and phrase")]

    @torch.inference_mode()
    def _detect(self, pairs: Sequence[Pair]) -> list[Detections | GensegError]:
        filled = self._filled(pairs, self._pair_sizes)
        text = torch.stack([pair.phrase.states for pair in filled])
        text_mask = torch.stack([pair.phrase.mask for pair in filled])
        out = self._head.detect(torch.stack([pair.image.tokens for pair in filled]), text, text_mask)
        scores = scores_of(out, len(pairs))
        kept = [scores.above(row, pair.threshold) for row, pair in enumerate(pairs)]
        masks = self._masks(pairs, out, kept, text, text_mask)
        return self._answers(scores, kept, masks)

    def _answers(
        self, scores: Scores, kept: Sequence[NDArray[np.intp]], masks: Sequence[NDArray[np.float32]]
    ) -> list[Detections | GensegError]:
        sound = scores.sound() & [bool(np.isfinite(each.sum())) for each in masks]
        if not sound.all():
            logger.error(
                "the head answered with values that are not finite; it computes in %s, see head_dtype", self._head.dtype
            )
        return [
            Detections(
                boxes=scores.boxes[row][order],
                scores=scores.scores[row][order],
                presence=float(scores.presence[row]),
                mask_logits=masks[row],
            )
            if sound[row]
            else InternalError("the segmentation model answered with values that are not numbers")
            for row, order in enumerate(kept)
        ]

    def _masks(
        self,
        pairs: Sequence[Pair],
        out: PairOutputs,
        kept: Sequence[NDArray[np.intp]],
        text: Tensor,
        text_mask: Tensor,
    ) -> list[NDArray[np.float32]]:
        height, width = pairs[0].image.fine[0].shape[-2:]
        masks = [np.zeros((0, height, width), np.float32) for _ in pairs]
        rows_of_image: dict[int, list[int]] = {}
        for row, pair in enumerate(pairs):
            if pair.masks and len(kept[row]):
                rows_of_image.setdefault(id(pair.image), []).append(row)
        drawn: list[Tensor] = []
        for rows in rows_of_image.values():
            queries = [out.queries[row].index_select(0, self._indices(kept[row])) for row in rows]
            filled = self._indices(self._filled(rows, self._pair_sizes))
            tokens, states, mask = (part.index_select(0, filled) for part in (out.tokens, text, text_mask))
            drawn += self._head.masks(pairs[rows[0]].image.fine, tokens, queries, states, mask)
        # One wait for the masks of all images.
        order = [row for rows in rows_of_image.values() for row in rows]
        for row, mask_logits in zip(order, copied_to_host(drawn), strict=True):
            masks[row] = mask_logits
        return masks

    def _indices(self, values: Sequence[int] | NDArray[np.intp]) -> Tensor:
        return torch.as_tensor(values).to(self.device, non_blocking=True)
