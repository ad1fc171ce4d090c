"""What a verdict is based on: the objects of each image, with masks and embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve_app.masks.rle import iou_matrix
from serve_app.schemas.dicts import RleDict

SAME_MASK_IOU = 0.8
"""Objects whose masks overlap by more than this are one thing."""


@dataclass(frozen=True)
class Seen:
    """One object of an image.

    Attributes:
        object_id, label, score: as in the result document.
        mask: at the image's size.
        embedding: (D,) float32 of length 1; None where identity is not judged.
    """

    object_id: str
    label: str
    score: float
    mask: RleDict
    embedding: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Picture:
    """One image's objects, best first within a label; None where the segmentation failed."""

    objects: tuple[Seen, ...] | None

    def of_label(self, label: str) -> list[Seen]:
        """Return the distinct objects of a label, best first. Empty for none, and for an image that failed."""
        return distinct([each for each in self.objects or () if each.label == label])


def distinct(objects: Sequence[Seen]) -> list[Seen]:
    """Leave out objects whose mask is that of a better one.

    Args:
        objects: of one image and label.

    Returns:
        What is left, in order of descending score.
    """
    ranked = sorted(objects, key=lambda each: -each.score)
    overlaps = iou_matrix([each.mask for each in ranked], [each.mask for each in ranked])
    kept: list[int] = []
    for place in range(len(ranked)):
        if not (overlaps[place, kept] > SAME_MASK_IOU).any():
            kept.append(place)
    return [ranked[place] for place in kept]
