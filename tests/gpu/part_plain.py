"""3 pictures x 4 and x 10 phrases with masks, full size, against the plain bf16 loop of stock transformers.

Both sides begin with decoded pictures in memory and end with boxes, scores and masks of the picture's size on the CPU:
tensors there, run lengths here. Not in it on either side: pycocotools' string. The plain loop prepares a picture for
every phrase, as its documentation has it; a second row leaves the preparation out on both sides.

Random weights draw noise, which no mask of a photograph is, so our masks' last step runs on discs, as many as were
kept. The plain side's masks cost the same whatever they show.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from serve_app.models.interface import Detections, Pair
from serve_app.models.sam3 import Sam3Segmenter
from tests.benchmarks.rows import Row, compared
from tests.gpu import models
from tests.gpu.masks import disc_logits, run_lengths, without_strings
from tests.gpu.plain_loop import PlainLoop
from tests.gpu.timing import median_s, timed_s

TITLE = "3 pictures x 4 phrases x masks at least 4x, x 10 phrases at least 7x the plain bf16 loop"
IMAGES = 3
TARGETS = {4: 4.0, 10: 7.0}
THREADS = 8


def run(device: torch.device, tiny: bool) -> list[Row]:
    """Measure every combination; prints as it goes."""
    model, processor = models.build_sam3(device, tiny)
    pictures = models.pictures(IMAGES, tiny)
    factor = models.spread_scores(model, processor, pictures[0])
    print(f"  scores spread by a factor of {factor:.1f}", flush=True)
    plain = PlainLoop(copy.deepcopy(model).to(torch.bfloat16), processor)
    made = {head: models.segmenter(model, processor, "bfloat16", head) for head in models.head_dtypes()}
    rows = []
    for count, target in TARGETS.items():
        phrases = models.PHRASES[:count]
        theirs = _measure_plain(plain, pictures, phrases, device)
        for head, segmenter in made.items():
            for tf32 in (False, True) if head == "float32" else (True,):
                set_tf32(tf32)
                best = head == [*made][-1] and tf32
                what = f"{IMAGES} pictures x {count} phrases, {head} head{', tf32' if tf32 else ''}"
                rows += _measure_ours(segmenter, pictures, phrases, device, (what, target if best else None, theirs))
    set_tf32(False)
    return rows


def set_tf32(on: bool) -> None:
    """Let float32 be multiplied in TF32, by matrix products and convolutions."""
    torch.set_float32_matmul_precision("high" if on else "highest")
    torch.backends.cudnn.allow_tf32 = on


def _measure_plain(
    plain: PlainLoop, pictures: Sequence[NDArray[np.uint8]], phrases: Sequence[str], device: torch.device
) -> dict[str, Any]:
    images = [Image.fromarray(picture) for picture in pictures]
    limits = plain.thresholds(images, phrases)
    kept = [len(found["scores"]) for found in plain.run(images, phrases, limits)]
    whole = statistics.median(timed_s(lambda: plain.run(images, phrases, limits), device) for _ in range(3))
    inputs = [plain.inputs(image, phrase) for image in images for phrase in phrases]
    size_hw = (pictures[0].shape[0], pictures[0].shape[1])

    def ready() -> None:
        for one, limit in zip(inputs, limits, strict=True):
            plain.find(one, size_hw, limit)

    figures = {"whole": whole, "ready": statistics.median(timed_s(ready, device) for _ in range(3)), "kept": sum(kept)}
    print(
        f"  plain loop, {len(pictures)} x {len(phrases)}: {whole:.3f} s, {figures['ready']:.3f} s without preparation; "
        f"objects a pair: {min(kept)} to {max(kept)}",
        flush=True,
    )
    return figures


def _measure_ours(
    made: Sam3Segmenter,
    pictures: Sequence[NDArray[np.uint8]],
    phrases: Sequence[str],
    device: torch.device,
    asked: tuple[str, float | None, dict[str, Any]],
) -> list[Row]:
    what, target, theirs = asked
    features, texts = models.encoded(made, pictures), models.embedded(made, phrases)
    limits = models.thresholds(made, features, texts)
    found = _detect(made, features, texts, limits)
    kept = [len(one.scores) for one in found]
    side = found[0].mask_logits.shape[-1]
    discs = [disc_logits(number, side) for number in kept]
    size_hw = (pictures[0].shape[0], pictures[0].shape[1])
    with ThreadPoolExecutor(THREADS) as pool, without_strings():

        def finish() -> None:
            [*pool.map(lambda logits: run_lengths(logits, size_hw), discs)]

        def prepare() -> list[Any]:
            return [*pool.map(made.prepare, pictures)]

        def device_work(prepared: Sequence[Any]) -> None:
            _detect(made, made.encode(prepared), made.embed(phrases), limits)

        ready = prepare()
        seconds = {
            "prepare": median_s(prepare, device),
            "vision": median_s(lambda: made.encode(ready), device),
            "text": median_s(lambda: made.embed(phrases), device),
            "head": median_s(lambda: _detect(made, features, texts, limits), device),
            "masks": median_s(finish, device),
            "ready": median_s(_both(lambda: device_work(ready), finish), device),
            "whole": median_s(_both(lambda: device_work(prepare()), finish), device),
        }
    parts = ", ".join(f"{name} {taken * 1000:.1f}" for name, taken in seconds.items())
    print(f"  ours, {what}: ms {parts}; objects a pair: {min(kept)} to {max(kept)}", flush=True)
    more = {"stages_s": seconds, "objects": sum(kept), "objects_of_plain": theirs["kept"]}
    rows = [
        compared(f"{what}, without preparation", theirs["ready"], seconds["ready"]),
        compared(f"{what}", theirs["whole"], seconds["whole"], target=target, more=more),
    ]
    for row in rows:
        print(f"  {row['what']}: {row['ratio']:.2f}x", flush=True)
    return rows


def _detect(made: Sam3Segmenter, features: Any, texts: Any, limits: Sequence[float]) -> list[Detections]:
    limit = iter(limits)
    return models.detected(made, [Pair(image, text, next(limit)) for image in features for text in texts])


def _both(first: Callable[[], object], second: Callable[[], object]) -> Callable[[], None]:
    def run_both() -> None:
        first()
        second()

    return run_both
