"""Made-up pictures for the verdict: boxes as masks, chosen vectors as embeddings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from serve_app.masks.rle import encode_rle
from serve_app.masks.steps import finish
from serve_app.schemas.dicts import BareDict, RleDict
from serve_app.verdict.evidence import Counted, Picture, Seen
from serve_app.verdict.same_masks import besides, compare_masks

SIZE_HW = (20, 100)
ANGLES = {"rex": 0.0, "rex again": 20.0, "rex turned": 45.0, "fido": 90.0, "luna": 180.0}
"""Individuals as directions in a plane, in degrees; cos 20° = 0.94, cos 45° = 0.71, cos 90° = 0."""


def mask(left: int, width: int = 8) -> RleDict:
    """Return a box of the full height as a mask."""
    pixels = np.zeros(SIZE_HW, np.bool_)
    pixels[:, left : left + width] = True
    return encode_rle(pixels)


def seen(label: str, place: int, who: str = "rex", score: float | None = None, index: int | None = None) -> Seen:
    """Make an object: the `place`-th box from the left."""
    angle = np.deg2rad(ANGLES[who])
    vector = np.array([np.cos(angle), np.sin(angle)], np.float32)
    name = f"{label}_{place if index is None else index}"
    return Seen(name, label, 0.9 - 0.01 * place if score is None else score, mask(10 * place), vector)


def picture(*objects: Seen) -> Picture:
    """Make an image with these objects."""
    distinct, overlaps = finish(compare_masks(objects))
    return Picture(
        tuple(Counted(each.object_id, each.label, each.score, each.embedding) for each in distinct), tuple(overlaps)
    )


def with_bare(listed: list[Seen], **bare: list[Seen]) -> Picture:
    """Make an image, with what a second pass found without the adjectives: `blue_sofa=[…]` for "blue sofa"."""
    counts = finish(besides({entity.replace("_", " "): objects for entity, objects in bare.items()}, listed))
    found: dict[str, BareDict] = {
        entity: {"entity": entity.split()[-1], "found": count} for entity, count in counts.items()
    }
    return replace(picture(*listed), bare=found)


FAILED = Picture(None)
EMPTY = Picture(())
