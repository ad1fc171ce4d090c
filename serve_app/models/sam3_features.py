"""Defines SAM3's features of an image and of a phrase, and the type of a pair of them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from serve_app.models import interface


@dataclass(frozen=True)
class ImageFeatures:
    """One image's vision features, on the model's device.

    Attributes:
        fine: all feature maps but the coarsest, finest first, each (D, H_i, W_i), in the vision encoder's dtype.
        tokens: (T, D) float32, the coarsest feature map after the first self-attention.
    """

    fine: tuple[Tensor, ...]
    tokens: Tensor

    @property
    def nbytes(self) -> int:
        """Size on the device, in bytes."""
        return sum(part.nbytes for part in (*self.fine, self.tokens))


@dataclass(frozen=True)
class PhraseFeatures:
    """One phrase's text features, on the model's device.

    Attributes:
        phrase: the noun phrase.
        states: (L, D) float32, projected text states.
        mask: (L,) bool, False at padding.
    """

    phrase: str
    states: Tensor
    mask: Tensor

    @property
    def nbytes(self) -> int:
        """Size on the device, in bytes."""
        return self.states.nbytes + self.mask.nbytes


Pair = interface.Pair[ImageFeatures, PhraseFeatures]
