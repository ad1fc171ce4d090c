"""What a verdict is based on: the objects of each image, with masks where the images are, and without for the judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from serve_app.schemas.dicts import BareDict, IdentityDict, RleDict


@dataclass(frozen=True)
class Seen:
    """One object of an image, with its mask.

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
class Counted:
    """One distinct object of an image; attributes as of `Seen`."""

    object_id: str
    label: str
    score: float
    embedding: NDArray[np.float32] | None = None

    @property
    def is_blank(self) -> bool:
        """Whether it has an embedding that says nothing, all zeros, since its mask is empty."""
        return self.embedding is not None and not self.embedding.any()


@dataclass(frozen=True)
class Overlap:
    """Two objects of one image and of different labels whose masks are nearly the same."""

    object_ids: tuple[str, str]
    iou: float


@dataclass(frozen=True)
class Picture:
    """What the judge needs to know of one image.

    Attributes:
        objects: distinct objects, best first within a label; None where the segmentation failed.
        overlaps: the largest first.
        bare: what was found of the nouns that `bare_nouns` names, by the entity.
    """

    objects: tuple[Counted, ...] | None
    overlaps: tuple[Overlap, ...] = ()
    bare: Mapping[str, BareDict] = field(default_factory=dict)

    def of_label(self, label: str) -> list[Counted]:
        """Return the distinct objects of a label, best first. Empty for none, and for an image that failed."""
        return [each for each in self.objects or () if each.label == label]


@dataclass(frozen=True)
class Evidence:
    """What a segmenter found out about one image for the verdict.

    Attributes:
        picture: the image.
        identity: the model that made the embeddings; None where individuals are not compared.
    """

    picture: Picture
    identity: IdentityDict | None = None
