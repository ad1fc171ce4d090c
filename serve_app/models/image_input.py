"""Prepares images for the segmenter: resizes them on the CPU and normalises them on the device.

The result equals that of the checkpoint's own image processor, with one exception; see `ImagePreparer.prepare`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.image_utils import SizeDict

_PROBES_HW = ((5, 9), (211, 64))
"""Sizes of the test pictures that show whether a processor only resizes and normalises; neither is square."""


class ImagePreparer:
    """Turns a picture into the model's input in two steps: `prepare`, which any thread may call, and `batch`.

    Between the two steps an image takes three bytes per pixel. If the processor does more than resize, rescale and
    normalise, it does all of its work in `prepare`.

    Args:
        processor: the checkpoint's image processor.
    """

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self.resolution_hw = (int(processor.size["height"]), int(processor.size["width"]))
        self._mean_and_std: tuple[Tensor, Tensor] | None = None
        if processor.do_resize and processor.do_rescale and processor.do_normalize:
            # The processor applies rescaling through mean and std. The same here gives the same result bit for bit.
            scale = 1.0 / processor.rescale_factor
            mean, std = (torch.tensor(value) * scale for value in (processor.image_mean, processor.image_std))
            self._mean_and_std = mean[:, None, None], std[:, None, None]
            if not all(self._agrees_with_processor(size_hw) for size_hw in _PROBES_HW):
                self._mean_and_std = None

    def _agrees_with_processor(self, size_hw: tuple[int, int]) -> bool:
        picture = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
        planes = torch.from_numpy(picture).permute(2, 0, 1)
        ours = self.batch([self._resized(planes, self.resolution_hw)], torch.device("cpu"))
        return torch.equal(ours[0], self._processed(planes))

    def prepare(self, image: NDArray[np.uint8]) -> Tensor:
        """Resize a picture to S x S pixels.

        torchvision resizes the width first, so a narrow and tall picture would grow to H x S pixels in between. Here,
        the height of such a picture is resized first. Its values then differ from the processor's by at most two of
        255 levels. After normalisation, all other pictures equal the processor's output bit for bit.

        Takes about 3 bytes per pixel of the picture and of the result, besides the picture itself.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            (3, S, S) on the CPU, for `batch`: uint8, or normalised float32 if the processor does more than resize,
            rescale and normalise.
        """
        # The view stays strided, because a contiguous copy of a 4K image costs more than the resize.
        planes = torch.from_numpy(image).permute(2, 0, 1)
        if _is_tall_and_narrow((image.shape[0], image.shape[1]), self.resolution_hw):
            planes = self._resized(planes, (self.resolution_hw[0], image.shape[1]))
        if self._mean_and_std is None:
            return self._processed(planes)
        return self._resized(planes, self.resolution_hw)

    def batch(self, images: Sequence[Tensor], device: torch.device) -> Tensor:
        """Normalise prepared pictures on a device.

        Args:
            images: B outputs of `prepare`, at least one.
            device: the model's device.

        Returns:
            (B, 3, S, S) float32 on the device.
        """
        if self._mean_and_std is None:
            return torch.stack([*images]).to(device)
        # Copying from pinned memory does not block this thread.
        levels = self.stacked(images, pinned=device.type == "cuda").to(device, non_blocking=True)
        mean, std = (value.to(device, non_blocking=True) for value in self._mean_and_std)
        return levels.to(torch.float32, memory_format=torch.contiguous_format).sub_(mean).div_(std)

    @staticmethod
    def stacked(images: Sequence[Tensor], *, pinned: bool = False) -> Tensor:
        """Stack prepared pictures without changing their memory layout, channels last.

        Args:
            images: B tensors (3, S, S) uint8, at least one.
            pinned: whether the result is in pinned memory.

        Returns:
            (B, 3, S, S) uint8 on the CPU.
        """
        rows = [image.permute(1, 2, 0) for image in images]
        stacked = torch.empty((len(rows), *rows[0].shape), dtype=torch.uint8, pin_memory=pinned)
        return torch.stack(rows, out=stacked).permute(0, 3, 1, 2)

    def _resized(self, planes: Tensor, size_hw: tuple[int, int]) -> Tensor:
        size = SizeDict(height=size_hw[0], width=size_hw[1])
        resized: Tensor = self._processor.resize(planes[None], size, resample=self._processor.resample)
        return resized[0]

    def _processed(self, planes: Tensor) -> Tensor:
        pixels: Tensor = self._processor(images=planes, return_tensors="pt")["pixel_values"][0]
        return pixels


def _is_tall_and_narrow(picture_hw: tuple[int, int], result_hw: tuple[int, int]) -> bool:
    """Tell whether a picture with the result's width would be over twice the picture and over twice the result."""
    return result_hw[1] > 2 * picture_hw[1] and picture_hw[0] > 2 * result_hw[0]
