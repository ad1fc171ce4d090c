"""The package's masks at a picture's size, up to their run lengths: the string of pycocotools is left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from serve_app.masks import from_logits


@contextmanager
def without_strings() -> Iterator[None]:
    """Let `from_logits` end before pycocotools; it is not needed then."""

    def sized(_: object, size_hw: Sequence[int]) -> dict[str, Any]:
        return {"size": [*size_hw], "counts": ""}

    def dense(mask: NDArray[np.bool_]) -> dict[str, Any]:
        np.flatnonzero(np.diff(mask.T.ravel()))
        return {"size": [*mask.shape], "counts": ""}

    with patch.object(from_logits, "rle_from_run_lengths", sized), patch.object(from_logits, "encode_rle", dense):
        yield


def run_lengths(logits: NDArray[np.float32], size_hw: tuple[int, int]) -> None:
    """Resize, threshold, and find the run lengths; call inside `without_strings`."""
    from_logits.rles_from_logits(logits, size_hw, 0.5)


def disc_logits(count: int, side: int, seed: int = 0) -> NDArray[np.float32]:
    """Draw mask logits (count, side, side) of discs of a twentieth to a quarter of the side."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    discs = [np.empty((0, side, side), np.float32)]
    for _ in range(count):
        (row, column), radius = rng.uniform(0.2, 0.8, 2) * side, rng.uniform(0.05, 0.25) * side
        distance = np.hypot(y - row, x - column)
        discs.append(np.clip(radius - distance, -10, 10).astype(np.float32)[None])
    return np.concatenate(discs)
