"""Vision against head: ms of each at 1 to 16 phrases, for 1 and 8 pictures, by the head's type; and what they wait for.

The head is `detect` with the masks of a handful of objects a pair, in batches of 32 pairs, its answers on the CPU. A
stage whose device is busy for much less than its time is bound by launching kernels, or by waiting for copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from serve_app.models.interface import Pair
from serve_app.models.sam3 import Sam3Segmenter
from tests.benchmarks.rows import Row, limited
from tests.gpu import models
from tests.gpu.part_plain import set_tf32
from tests.gpu.timing import Busy, median_s, profiled

COUNTS = (1, 4, 8, 16)
BATCHES = (1, 8)
BAR_AT, BAR = 4, 0.6


def run(device: torch.device, tiny: bool) -> list[Row]:
    """Measure every combination; prints as it goes."""
    model, processor = models.build_sam3(device, tiny)
    pictures = models.pictures(max(BATCHES), tiny)
    models.spread_scores(model, processor, pictures[0])
    rows: list[Row] = []
    vision_ms: dict[int, float] = {}
    for vision, head, tf32 in _combinations():
        set_tf32(tf32)
        name = f"vision {vision}, head {head}{', tf32' if tf32 else ''}"
        made = models.segmenter(model, processor, vision, head)
        prepared = [made.prepare(picture) for picture in pictures]
        features, texts = models.encoded(made, pictures), models.embedded(made, models.PHRASES)
        limits = models.thresholds(made, features[:1], texts)
        for images in BATCHES:
            batch = prepared[:images]
            vision_ms[images] = median_s(partial(made.encode, batch), device) * 1000
            print(f"  {name}: vision pass of {images}: {vision_ms[images]:.2f} ms", flush=True)
            if images == 1 or head == "float32":
                _print_busy(f"vision pass of {images}", profiled(partial(made.encode, batch), device))
            for count in COUNTS:
                pairs = [
                    Pair(one, text, limit)
                    for one in features[:images]
                    for text, limit in zip(texts[:count], limits, strict=False)
                ]
                rows.append(_head(made, pairs, device, (name, images, count, vision_ms[images])))
        del made, features, texts, prepared
        models.release(device)
    set_tf32(False)
    return rows


def _combinations() -> list[tuple[str, str, bool]]:
    """Types of vision and head, and whether float32 is multiplied in TF32."""
    found = [("bfloat16", "float32", False), ("bfloat16", "float32", True)]
    found += [("bfloat16", head, True) for head in models.head_dtypes()[1:]]
    return found + ([("float16", "float16", True)] if models.has_head_dtype() else [])


def _head(
    made: Sam3Segmenter, pairs: Sequence[Pair[Any, Any]], device: torch.device, place: tuple[str, int, int, float]
) -> Row:
    name, images, count, vision_ms = place
    milliseconds = median_s(lambda: models.detected(made, pairs), device, warm_up=1, times=5) * 1000
    bare = [Pair(pair.image, pair.phrase, 1.0) for pair in pairs]
    without_masks = median_s(lambda: models.detected(made, bare), device, warm_up=1, times=5) * 1000
    ratio = milliseconds / vision_ms
    print(
        f"    {images} x {count} phrases: head {milliseconds:.2f} ms ({milliseconds / len(pairs):.2f} a pair, "
        f"{without_masks / len(pairs):.2f} without masks), {ratio:.2f} of vision",
        flush=True,
    )
    more: dict[str, Any] = {"vision_ms": vision_ms, "head_ms": milliseconds, "head_without_masks_ms": without_masks}
    if count == BAR_AT:
        busy = profiled(lambda: models.detected(made, pairs), device)
        _print_busy("head", busy)
        more |= {"device_busy_share": busy.share, "kernels": busy.kernels, "top": busy.top}
    best = models.head_dtypes()[-1] if models.has_head_dtype() else "float32"
    barred = count == BAR_AT and f"vision bfloat16, head {best}" in name and "tf32" in name
    what = f"head/vision, {images} x {count} phrases, {name}"
    return limited(what, ratio, unit="", at_most=BAR if barred else None, more=more)


def _print_busy(what: str, busy: Busy) -> None:
    print(
        f"      {what}: device busy {busy.share:.0%} of {busy.wall_s * 1000:.1f} ms, {busy.kernels} kernels", flush=True
    )
    for name, seconds in busy.top:
        print(f"        {seconds * 1000:8.2f} ms  {name[:110]}", flush=True)
