"""Defines DinoIdentity, which turns crops of objects into embeddings: a NumPy interface to DINOv2 and DINOv3.

It keeps no state between calls. It does not depend on Ray or the wire format, and has no cache. It is not thread-safe:
only one thread may call it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoImageProcessor, Dinov2Model, DINOv3ViTModel

from serve_app.config.models import IdentityConfig
from serve_app.config.schema import AppConfig
from serve_app.embedded.identity.model import THRESHOLD_KEY
from serve_app.errors import CheckpointError, DeviceOutOfMemory, GensegError, InternalError
from serve_app.images.crops import CROP
from serve_app.models import checkpoints, devices, interface, locations
from serve_app.models.checkpoint_files import check_before_loading
from serve_app.models.interface import Embedding
from serve_app.models.memory import halve_when_full
from serve_app.schemas.dicts import IdentityDict

USUAL_THRESHOLD = 0.6
"""The threshold for a checkpoint without one. Source: the largest threshold of SCR@tau (arXiv 2603.26078), which
uses DINOv2. This project did not measure it on photographs."""


@dataclass(frozen=True)
class Architecture:
    """How to load and use the models of one `model_type`.

    Attributes:
        model: the transformers class.
        pool: returns the CLS token, (B, D), from the model's output.
        half: the dtype that `auto` means on a GPU.
    """

    model: Any
    pool: Callable[[Any], Tensor]
    half: torch.dtype


ARCHITECTURES: Mapping[str, Architecture] = {
    # float16 rounds cosines five times less than bfloat16; its range is enough (facebookresearch/dinov2, issue 380).
    "dinov2": Architecture(Dinov2Model, lambda output: output.last_hidden_state[:, 0], torch.float16),
    # facebookresearch/dinov3, issue 181: a comment says that DINOv3 does not support float16. Not tried here.
    "dinov3_vit": Architecture(DINOv3ViTModel, lambda output: output.pooler_output, torch.bfloat16),
}
"""The supported architectures, by the `model_type` in a checkpoint's config.json."""


def load(config: AppConfig) -> interface.IdentityModel:
    """Load the configured checkpoint onto the segmenter's device. `config.engines` names this function.

    Raises:
        CheckpointError: the checkpoint is missing, gated, incomplete, damaged or of another model, or the device does
            not exist.
    """
    name = config.models.identity_name
    assert name is not None  # without a name, the registry does not call this
    device = devices.resolve_device(config.models.segmentation.device, config.device.cuda_device)
    wall = devices.memory_wall(device, config.models.segmentation.gpu_memory_fraction)
    return DinoIdentity.load(name, config.models.identity, device, wall)


class DinoIdentity:
    """A loaded DINOv2 or DINOv3 model.

    Args:
        model: in eval mode, on its device, in the dtype that it computes in.
        processor: the checkpoint's own image processor. It only rescales and normalises here, because the crops
            already have the right size.
        name: the name as configured.
        threshold: two objects are the same individual if their cosine is at least this; None means the checkpoint's.

    Raises:
        CheckpointError: the processor's crop is not square, or the checkpoint's threshold is not in [-1, 1].
    """

    def __init__(self, model: Any, processor: Any, name: str, threshold: float | None = None) -> None:
        self._model = model
        self._processor = processor
        self._pool = ARCHITECTURES[model.config.model_type].pool
        self.side = _side(processor, name)
        self.dimension = int(model.config.hidden_size)
        self.described: IdentityDict = {
            "model": name,
            "pooling": "cls",
            "crop": CROP,
            "threshold": _own_threshold(model.config, name) if threshold is None else threshold,
        }

    @classmethod
    def load(
        cls, name: str, config: IdentityConfig, device: torch.device, wall: devices.MemoryWall | None = None
    ) -> DinoIdentity:
        """Load a checkpoint onto a device.

        Args:
            name: a hub name, a local folder, or `embedded`.
            config: the threshold and the dtype.
            device: the segmenter's device.
            wall: the memory cap that the segmenter set on the device; None if there is none.

        Raises:
            CheckpointError: the checkpoint is missing, gated, incomplete, damaged or of another model.
        """
        source = locations.resolve(name, "identity")
        with checkpoints.explain(name, wall):
            kind = check_before_loading(name, source, "identity model", ARCHITECTURES, reads_text=False)
            model, report = ARCHITECTURES[kind].model.from_pretrained(
                source,
                dtype=resolve_dtype(config.dtype, device, kind),
                attn_implementation="sdpa",
                output_loading_info=True,
            )
            checkpoints.check_complete(name, report["missing_keys"], report["mismatched_keys"])
            return cls(model.to(device).eval(), AutoImageProcessor.from_pretrained(source), name, config.threshold)

    def embed(self, crops: Sequence[NDArray[np.uint8]]) -> list[Embedding | GensegError]:
        """Embed objects.

        Args:
            crops: (side, side, 3) uint8 RGB each; may be empty.

        Returns:
            One entry per crop, in order: the embedding, (D,) float32 with L2 norm 1; InternalError if the model's
            output is not finite; or DeviceOutOfMemory if the crop does not fit into the device's memory even alone.
        """
        found: list[Embedding | InternalError | DeviceOutOfMemory] = halve_when_full(self._embed, crops, "crop")
        return [*found]

    @torch.inference_mode()
    def _embed(self, crops: Sequence[NDArray[np.uint8]]) -> list[Embedding | InternalError]:
        planes = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).to(self._model.device)
        prepared = self._processor(images=planes, do_resize=False, do_center_crop=False, return_tensors="pt")
        states = self._pool(self._model(prepared["pixel_values"].to(self._model.dtype)))
        embeddings = F.normalize(states.float(), dim=-1).cpu().numpy()
        return [
            row.copy()
            if np.isfinite(row).all()
            else InternalError("the identity model returned values that are not finite")
            for row in embeddings
        ]


def resolve_dtype(dtype: str, device: torch.device, model_type: str) -> torch.dtype:
    """Turn a configured dtype into a torch dtype.

    Args:
        dtype: as configured. `auto` is the architecture's `half` on a GPU and float32 on a CPU.
        device: the model's device.
        model_type: a key of ARCHITECTURES.
    """
    if dtype == "auto" and device.type == "cuda":
        return ARCHITECTURES[model_type].half
    return devices.resolve_dtype(dtype, device)


def _own_threshold(config: Any, name: str) -> float:
    """Return the checkpoint's own threshold, or the usual one if the checkpoint has none."""
    own = getattr(config, THRESHOLD_KEY, USUAL_THRESHOLD)
    if isinstance(own, bool) or not isinstance(own, int | float) or not -1 <= own <= 1:
        raise CheckpointError(f"model {name}: {THRESHOLD_KEY} in its config.json must be a number from -1 to 1")
    return float(own)


def _side(processor: Any, name: str) -> int:
    """Return the side of the model's square input in pixels: the processor's crop size, or else its resize."""
    crops = getattr(processor, "do_center_crop", False) and getattr(processor, "crop_size", None)
    size = processor.crop_size if crops else processor.size
    sides = {size[key] for key in ("height", "width", "shortest_edge") if size.get(key) is not None}
    if len(sides) != 1:
        raise CheckpointError(
            f"model {name}: its image processor's output is not square; the service needs a model with square input"
        )
    return int(sides.pop())
