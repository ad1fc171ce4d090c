"""What goes in and out of the segmenter. Plain data: importing it loads no model library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ImageFeatures:
    """One image's vision features, on the model's device.

    Attributes:
        fine: finer maps, finest first, each (D, H_i, W_i), in the vision encoder's dtype.
        tokens: (T, D) coarsest map after the first self-attention, in the head's dtype.
    """

    fine: tuple[Tensor, ...]
    tokens: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        return sum(part.nbytes for part in (*self.fine, self.tokens))


@dataclass(frozen=True)
class PhraseFeatures:
    """One phrase's text states (L, D) and their mask (L,), on the model's device."""

    phrase: str
    states: Tensor
    mask: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        return self.states.nbytes + self.mask.nbytes


@dataclass(frozen=True)
class Pair:
    """One question: every instance of `phrase` in `image` with a score above `threshold`, in [0, 1]."""

    image: ImageFeatures
    phrase: PhraseFeatures
    threshold: float


@dataclass(frozen=True)
class Detections:
    """The answer to one Pair; N instances, best first; N may be 0.

    Attributes:
        boxes: (N, 4) float32 xyxy, relative to the image, in [0, 1].
        scores: (N,) float32 in [0, 1]: query score x presence score.
        presence: presence score of the phrase in the image, in [0, 1].
        mask_logits: (N, h, w) float32, on the model's mask grid, which covers the whole image.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    presence: float
    mask_logits: NDArray[np.float32]
