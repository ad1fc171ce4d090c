"""Keep the decoded pixels of an image until its overlay is drawn, within a limit for all images together."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray


class PixelBudget:
    """The bytes that are still free for kept pixels; use from the event loop's thread only.

    Args:
        max_bytes: limit for all images together.
    """

    def __init__(self, max_bytes: int) -> None:
        self.free = max_bytes


class KeptPixels:
    """Keeps the pixels of one image while a `with` block runs.

    Args:
        budget: the bytes that all images share.
        wanted: whether the pixels will be needed; if not, none are kept.
    """

    def __init__(self, budget: PixelBudget, *, wanted: bool) -> None:
        self._budget = budget
        self._open = wanted
        self._pixels: NDArray[np.uint8] | None = None

    def offer(self, pixels: NDArray[np.uint8]) -> None:
        """Keep an image's pixels if they fit into the budget and none are kept yet."""
        if self._open and self._pixels is None and pixels.nbytes <= self._budget.free:
            self._budget.free -= pixels.nbytes
            self._pixels = pixels

    @property
    def pixels(self) -> NDArray[np.uint8] | None:
        """The kept pixels, (H, W, 3) uint8 RGB; None if none are kept."""
        return self._pixels

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open = False
        if self._pixels is not None:
            self._budget.free += self._pixels.nbytes
            self._pixels = None
