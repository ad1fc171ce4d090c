"""The data of a verdict: the objects of each image.

The segmenter's replica has objects with masks (`Seen`). The judge gets distinct objects without masks (`Counted`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from serve_app.schemas.dicts import BareDict, IdentityDict, RleDict


@dataclass(frozen=True)
class Seen:
    """An object of an image, with its mask.

    Attributes:
        object_id: as in the result document.
        label: the entity.
        score: the detection score, in [0, 1].
        mask: the mask at the image's size.
        embedding: (D,) float32 with norm 1, or all 0 if the mask is empty; None if identity is not judged.
    """

    object_id: str
    label: str
    score: float
    mask: RleDict
    embedding: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Counted:
    """A distinct object of an image, without its mask. The attributes are those of `Seen`."""

    object_id: str
    label: str
    score: float
    embedding: NDArray[np.float32] | None = None

    @property
    def has_empty_mask(self) -> bool:
        """Whether its mask is empty, so that its embedding is all 0."""
        return self.embedding is not None and not self.embedding.any()


@dataclass(frozen=True)
class Overlap:
    """Two objects of an image that have different labels and nearly the same mask."""

    object_ids: tuple[str, str]
    iou: float


@dataclass(frozen=True)
class Picture:
    """The data of an image for the judge.

    Attributes:
        objects: distinct objects, in descending order of score within a label; None if segmentation failed.
        overlaps: pairs of objects with nearly the same mask, the largest IoU first.
        bare: the result for each bare noun of `entities.bare_nouns`, by entity.
    """

    objects: tuple[Counted, ...] | None
    overlaps: tuple[Overlap, ...] = ()
    bare: Mapping[str, BareDict] = field(default_factory=dict)

    def of_label(self, label: str) -> list[Counted]:
        """Return the distinct objects of a label, best score first; empty if there are none, or if the image failed."""
        return [each for each in self.objects or () if each.label == label]


@dataclass(frozen=True)
class Evidence:
    """A segmenter's contribution to the verdict, for one image.

    Attributes:
        picture: the data of the image.
        identity: the model that made the embeddings; None if individuals are not compared.
    """

    picture: Picture
    identity: IdentityDict | None = None
