"""The documents as plain dicts of JSON values, which is what this package builds and reads."""

from __future__ import annotations

from typing import TypedDict


class RleDict(TypedDict):
    """A mask as COCO compressed RLE. Source: pycocotools 2.0, common/maskApi.c.

    Attributes:
        size: `[height, width]` in pixels.
        counts: the run lengths as text.
    """

    size: list[int]
    counts: str


class RingDict(TypedDict):
    """One closed outline of a mask.

    Attributes:
        points: `[[x, y], ...]` in pixels, the first point not repeated.
        hole: True for an inner ring.
    """

    points: list[list[int | float]]
    hole: bool
