"""An experiment: what torch.compile of the vision encoder and the head gains, as `compile: true` uses it."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch

from serve_app.models.interface import Pair
from serve_app.models.sam3 import Sam3Segmenter
from tests.benchmarks.rows import Row, compared
from tests.gpu import models
from tests.gpu.part_plain import set_tf32
from tests.gpu.timing import median_s

IMAGES, PHRASES = 1, 4


def run(device: torch.device, tiny: bool) -> list[Row]:
    """Compare eager and compiled passes at one shape each; prints as it goes, the time to compile too."""
    set_tf32(True)
    model, processor = models.build_sam3(device, tiny)
    models.spread_scores(model, processor, models.pictures(1, tiny)[0])
    head = models.head_dtypes()[-1]
    backend = "inductor" if device.type == "cuda" else "eager"
    eager = models.segmenter(model, processor, "bfloat16", head)
    compiled = models.segmenter(model, processor, "bfloat16", head, compile_backend=backend)
    pictures = models.pictures(IMAGES, tiny)
    prepared = [eager.prepare(picture) for picture in pictures]
    features, texts = models.encoded(eager, pictures), models.embedded(eager, models.PHRASES[:PHRASES])
    pairs = [
        Pair(features[0], text, limit)
        for text, limit in zip(texts, models.thresholds(eager, features, texts), strict=True)
    ]
    rows: list[Row] = []
    works: list[tuple[str, Callable[[Sam3Segmenter], object]]] = [
        (f"vision pass of {IMAGES}", lambda made: made.encode(prepared)),
        (f"head of {len(pairs)} pairs, {head}", lambda made: models.detected(made, pairs)),
    ]
    for name, run_of in works:
        plain = median_s(partial(run_of, eager), device)
        started = time.perf_counter()
        try:
            run_of(compiled)
        except Exception as error:
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else ""
            print(f"  {name}: not compiled: {type(error).__name__}: {reason}", flush=True)
            continue
        took = time.perf_counter() - started
        seconds = median_s(partial(run_of, compiled), device)
        print(
            f"  {name}: {plain * 1000:.2f} ms, compiled {seconds * 1000:.2f} ms, after {took:.0f} s of compiling",
            flush=True,
        )
        rows.append(compared(f"{name}: compiled against eager", plain, seconds, more={"compile_s": took}))
    set_tf32(False)
    return rows
