"""What leaves the device: the scores and boxes of a batch in one copy, and all of its masks with one wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from serve_app.models.sam3_head import PairOutputs

PINNED_BYTES = 256 * 1024 * 1024
"""The most that one batch takes of pinned memory, which PyTorch keeps; a threshold of 0 gives gigabytes of masks."""


@dataclass(frozen=True)
class Scores:
    """What the detector says of P pairs with Q queries, on the host.

    Attributes:
        scores: (P, Q) query score x presence score, in [0, 1].
        boxes: (P, Q, 4) xyxy, relative to the image, in [0, 1].
        presence: (P,) in [0, 1].
    """

    scores: NDArray[np.float32]
    boxes: NDArray[np.float32]
    presence: NDArray[np.float32]

    def sound(self) -> NDArray[np.bool_]:
        """Tell for each pair whether all of its numbers are finite: (P,)."""
        numbers = np.concatenate([self.scores, self.boxes.reshape(len(self.boxes), -1)], axis=1)
        sound: NDArray[np.bool_] = np.isfinite(numbers).all(axis=1)
        return sound

    def above(self, row: int, threshold: float) -> NDArray[np.intp]:
        """Return the queries of a pair with a score above a threshold, best first."""
        scores = self.scores[row]
        kept = np.flatnonzero(scores > np.float32(threshold))
        return kept[np.argsort(-scores[kept], kind="stable")]


def scores_of(out: PairOutputs, pairs: int) -> Scores:
    """Copy the scores and boxes of the first `pairs` pairs to the host."""
    presence = out.presence_logits.sigmoid()
    scores = out.logits.sigmoid() * presence[:, None]
    packed = torch.cat([out.boxes.flatten(1), scores, presence[:, None]], dim=1)[:pairs]
    (copied,) = copied_to_host([packed])
    queries = scores.shape[1]
    return Scores(
        boxes=copied[:, : 4 * queries].reshape(pairs, queries, 4),
        scores=copied[:, 4 * queries : 5 * queries],
        presence=copied[:, -1],
    )


def copied_to_host(tensors: Sequence[Tensor]) -> list[NDArray[np.float32]]:
    """Copy float32 tensors of one device to the host, and wait for all of them at once.

    Each gets memory of its own, so that one pair's masks do not keep those of the whole batch.
    """
    if not tensors or tensors[0].device.type != "cuda":
        return [tensor.numpy() for tensor in tensors]
    pinned = sum(tensor.nbytes for tensor in tensors) <= PINNED_BYTES
    copies = [
        torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=pinned).copy_(tensor, non_blocking=True)
        for tensor in tensors
    ]
    torch.cuda.current_stream(tensors[0].device).synchronize()
    return [copy.numpy() for copy in copies]
