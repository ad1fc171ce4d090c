"""Defines Sam3Segmenter, which finds the objects that a phrase names in an image.

The work has three steps, so that the caller can batch each step and cache its result: `encode` (the vision pass, once
per image), `embed` (the text pass, once per phrase) and `detect` (the detector head, once per pair). Pictures and
detections are NumPy arrays. The segmenter keeps no state between calls; thresholds are part of the pairs. It does not
depend on Ray or the wire format, and has no cache. It is not thread-safe: only one thread may call it. Any thread may
call `prepare` and `check_phrases`.
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
"""Largest batch size before `warm_up` sets the configured one."""

Item = TypeVar("Item")


def load(config: AppConfig) -> interface.Segmenter[Tensor, ImageFeatures, PhraseFeatures]:
    """Load the configured checkpoint and warm it up. The module `config.engines` names it.

    Raises:
        CheckpointError: as in `Sam3Segmenter.load`, or compiling fails.
    """
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
        vision_dtype: dtype of the vision encoder's attention, MLPs and finer feature maps.
        head_dtype: dtype of the head's attention, MLPs and pixel embeddings.
        compile_backend: backend of torch.compile for the vision encoder and the head; None does not compile them.
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
        self._run_vision = self._vision_pass
        if compile_backend is not None:
            # Compile each function as one graph, so that a graph break is an error now and not a slow request later.
            compiled = compiler(compile_backend)
            self._run_vision = compiled(self._vision_pass)
            self._head.compile_with(compiled)

    @classmethod
    def load(cls, config: SegmentationModel, device: DeviceConfig) -> Sam3Segmenter:
        """Load the configured checkpoint onto its device.

        A checkpoint of the video model, such as facebook/sam3, works too. Only its detector is loaded, not its tracker.

        Args:
            config: the checkpoint, its dtypes and device, and whether to compile.
            device: the GPU that `auto` and `cuda` mean.

        Raises:
            CheckpointError: the checkpoint is missing, gated, incomplete, damaged or of another model, the device does
                not exist, or this machine cannot compile.
        """
        target = devices.resolve_device(config.device, device.cuda_device)
        with checkpoints.explain(config.model_name):  # on a full GPU, even setting the cap fails
            wall = devices.cap_memory(target, config.gpu_memory_fraction)
        allow_tf32(config.tf32)
        source = locations.resolve(config.model_name, "segmenter")
        backend = "inductor" if config.compile else None
        if backend is not None:
            check_compiler(config.model_name, target, backend)
        with checkpoints.explain(config.model_name, wall):
            check_before_loading(config.model_name, source, "segmenter", ("sam3", "sam3_video"))
            # SDPA, because FlashAttention ignores the text's padding in SAM3's cross-attention.
            model, report = Sam3Model.from_pretrained(
                source, dtype=torch.float32, attn_implementation="sdpa", output_loading_info=True
            )
            checkpoints.check_complete(config.model_name, report["missing_keys"], report["mismatched_keys"])
            processor = Sam3Processor.from_pretrained(source)
            dtype = devices.resolve_dtype(config.dtype, target)
            if dtype is torch.bfloat16 and target.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
                logger.warning(
                    "this CPU has no bfloat16 arithmetic and would emulate it slowly: the vision encoder uses float32"
                )
                dtype = torch.float32
            head_dtype = devices.resolve_head_dtype(config.head_dtype, target)
            return cls(model.to(target).eval(), processor, dtype, head_dtype, backend)

    @property
    def device(self) -> torch.device:
        """The model's device."""
        return self._head.position.device

    def prepare(self, image: NDArray[np.uint8]) -> Tensor:
        """Turn a picture into the model's input; see `ImagePreparer.prepare`. Runs on the CPU, in any thread.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            (3, S, S) on the CPU: uint8, or float32 if the checkpoint's processor does more than resize and normalise.
        """
        return self._input.prepare(image)

    def encode(self, images: Sequence[Tensor]) -> list[ImageFeatures | DeviceOutOfMemory]:
        """Run the vision encoder.

        Args:
            images: outputs of `prepare`; may be empty.

        Returns:
            One entry per image, in order: its features, or DeviceOutOfMemory if the image does not fit into the
            device's memory even alone.
        """
        return halve_when_full(self._encode, images, "image")

    @torch.inference_mode()
    def _encode(self, images: Sequence[Tensor]) -> list[ImageFeatures]:
        pixels = self._input.batch(self._filled(images, self._image_sizes), self.device)
        fine, tokens = self._run_vision(pixels)
        # Copy each image's part, because a view in the caller's cache would keep the whole batch in memory.
        return [
            ImageFeatures(tuple(level[index].clone() for level in fine), tokens[index].clone())
            for index in range(len(images))
        ]

    def _vision_pass(self, pixels: Tensor) -> tuple[list[Tensor], Tensor]:
        """Turn pixels (B, 3, S, S) into the finer feature maps and the tokens (B, T, D)."""
        fine, coarse = self._vision(pixels)
        return fine, self._head.attend(coarse)

    def _filled(self, items: Sequence[Item], sizes: BatchSizes) -> Sequence[Item]:
        """Fill a batch up to a compiled size; return it unchanged if the model is not compiled."""
        return sizes.fill(items) if self._compiled else items

    def warm_up(self, max_pixels: int, max_pairs: int) -> None:
        """Compile the model for every batch size that can occur. Do nothing if it was built without a compile backend.

        Args:
            max_pixels: largest number of model input pixels in a vision batch.
            max_pairs: largest number of pairs in a detector batch.
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
            # Every score is above -1, so the masks are computed, too.
            self._detect([Pair(features, phrase, -1.0)] * size)

    def embed(self, phrases: Sequence[str]) -> list[PhraseFeatures | InvalidRequest]:
        """Run the text encoder.

        Args:
            phrases: noun phrases; may be empty.

        Returns:
            One entry per phrase, in order: its features, or InvalidRequest if it has more tokens than the text encoder
            reads. Such a phrase is not cut, because a part of it may mean something else.
        """
        return self._text.embed(phrases)

    def check_phrases(self, phrases: Sequence[str]) -> list[InvalidRequest | None]:
        """Return the errors that `embed` would return; see `interface.PhraseChecker`. Any thread may call it."""
        return self._text.check(phrases)

    def detect(self, pairs: Sequence[Pair]) -> list[Detections | GensegError]:
        """Find every instance of each pair's phrase in its image.

        Args:
            pairs: any mix of images and phrases; may be empty.

        Returns:
            One entry per pair, in order: its Detections, InternalError if the model's output is not finite, or
            DeviceOutOfMemory if the pair does not fit into the device's memory even alone.
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
                "the detector head returned values that are not finite; it computes in %s, see "
                "models.segmentation.head_dtype",
                self._head.dtype,
            )
        return [
            Detections(
                boxes=scores.boxes[row][order],
                scores=scores.scores[row][order],
                presence=float(scores.presence[row]),
                mask_logits=masks[row],
            )
            if sound[row]
            else InternalError("the segmentation model returned values that are not finite")
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
        # Copy the masks of all images together, so that the host waits for the device only once.
        order = [row for rows in rows_of_image.values() for row in rows]
        for row, mask_logits in zip(order, copied_to_host(drawn), strict=True):
            masks[row] = mask_logits
        return masks

    def _indices(self, values: Sequence[int] | NDArray[np.intp]) -> Tensor:
        return torch.as_tensor(values).to(self.device, non_blocking=True)
