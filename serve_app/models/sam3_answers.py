"""Copies the detector's results to the host: a batch's scores and boxes in one copy, and all of its masks at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from serve_app.models.sam3_head import PairOutputs

PINNED_BYTES = 256 * 1024 * 1024
"""Largest pinned memory for the masks of one batch; larger batches use ordinary memory. PyTorch keeps pinned memory for
later use, and with a threshold of 0 the masks take gigabytes."""


@dataclass(frozen=True)
class Scores:
    """The detector's scores and boxes for P pairs with Q queries each, on the host.

    Attributes:
        scores: (P, Q) float32, query score x presence score, in [0, 1].
        boxes: (P, Q, 4) float32 xyxy, relative to the image, in [0, 1].
        presence: (P,) float32 presence score, in [0, 1].
    """

    scores: NDArray[np.float32]
    boxes: NDArray[np.float32]
    presence: NDArray[np.float32]

    def sound(self) -> NDArray[np.bool_]:
        """Tell for each pair whether all of its numbers are finite: (P,) bool."""
        numbers = np.concatenate([self.scores, self.boxes.reshape(len(self.boxes), -1)], axis=1)
        sound: NDArray[np.bool_] = np.isfinite(numbers).all(axis=1)
        return sound

    def above(self, row: int, threshold: float) -> NDArray[np.intp]:
        """Return the indices of a pair's queries with a score above a threshold, best first; may be empty."""
        scores = self.scores[row]
        kept = np.flatnonzero(scores > np.float32(threshold))
        return kept[np.argsort(-scores[kept], kind="stable")]


def scores_of(out: PairOutputs, pairs: int) -> Scores:
    """Compute the scores of a batch and copy them, with the boxes, to the host.

    Args:
        out: the detector's outputs on the device.
        pairs: number of leading pairs to copy; the others only fill the batch.
    """
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
    """Copy float32 tensors of one device to the host, and wait once for all of them.

    On a GPU, each result has its own memory, so that one pair's masks do not keep the whole batch in memory. On a CPU,
    the results share memory with the tensors.
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
