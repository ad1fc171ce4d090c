"""Peak memory of each step, beside the figures that configs/one-gpu.yaml is laid out by."""

from __future__ import annotations

from collections.abc import Callable

import torch

from serve_app.models.interface import Pair
from tests.benchmarks.rows import Row, limited
from tests.gpu import models
from tests.gpu.part_plain import set_tf32

SAID_GIB = {
    "weights": 2.3,
    "an image's features": 58 / 1024,
    "vision pass of 8": 3.0,
    "a pair in detect": 0.112e9 / 2**30,
    "a pair with masks": 0.25e9 / 2**30,
    "32 pairs with masks": 7.5,
}
"""Sources: the comment in configs/one-gpu.yaml; of `a pair in detect` a count on fake tensors."""


def run(device: torch.device, tiny: bool) -> list[Row]:
    """Measure each type of the head; prints as it goes. On a CPU there are no peaks: every figure is 0."""
    set_tf32(True)
    rows: list[Row] = []
    for head in models.head_dtypes():
        rows += _measure(device, tiny, head)
        models.release(device)
    set_tf32(False)
    return rows


def _measure(device: torch.device, tiny: bool, head: str) -> list[Row]:
    model, processor = models.build_sam3(device, tiny)
    models.spread_scores(model, processor, models.pictures(1, tiny)[0])
    models.release(device)
    before = _allocated(device)
    made = models.segmenter(model, processor, "bfloat16", head)
    # The float32 model that it is a copy of stays beside it.
    found = {"weights": _allocated(device) - before}
    pictures = models.pictures(8, tiny)
    prepared = [made.prepare(picture) for picture in pictures]
    texts = models.embedded(made, models.PHRASES)
    # Runs of one allocate what libraries keep for themselves.
    features = models.encoded(made, pictures)
    limit = models.thresholds(made, features[:1], texts[:1])[0]
    models.detected(made, [Pair(features[0], texts[0], limit)])
    found["an image's features"] = features[0].nbytes / 2**30
    found["vision pass of 8"] = _peak(lambda: made.encode(prepared), device)
    same = [Pair(features[0], text, limit) for text in (*texts, *texts)]
    spread = [Pair(features[index % 8], text, limit) for index, text in enumerate((*texts, *texts))]
    bare = [Pair(pair.image, pair.phrase, 1.0) for pair in same]
    found["32 pairs in detect"] = _peak(lambda: made.detect(bare), device)
    found["a pair in detect"] = found["32 pairs in detect"] / 32
    found["32 pairs with masks"] = _peak(lambda: made.detect(same), device)
    found["a pair with masks"] = found["32 pairs with masks"] / 32
    found["32 pairs of 8 images with masks"] = _peak(lambda: made.detect(spread), device)
    found["32 pairs that keep every query"] = _peak(
        lambda: made.detect([Pair(pair.image, pair.phrase, -1.0) for pair in same]), device
    )
    rows = []
    for name, gib in found.items():
        said = SAID_GIB.get(name)
        print(f"  {head} head: {name}: {gib:.3f} GiB{'' if said is None else f' (said: {said:.3f})'}", flush=True)
        rows.append(limited(f"{head} head: {name}", gib, unit="GiB", more={"said_gib": said}))
    if device.type == "cuda":
        print(torch.cuda.memory_summary(device, abbreviated=True)[:2400], flush=True)
    return rows


def _allocated(device: torch.device) -> float:
    return torch.cuda.memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0


def _peak(work: Callable[[], object], device: torch.device) -> float:
    """Run once; the most that was allocated beyond what was before, in GiB."""
    models.release(device)
    before = _allocated(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    work()
    return torch.cuda.max_memory_allocated(device) / 2**30 - before if device.type == "cuda" else 0.0
