"""What SAM3 keeps of an image and of a phrase."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from serve_app.models import interface


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


Pair = interface.Pair[ImageFeatures, PhraseFeatures]
