"""Preparing pictures for the segmenter: the stock processor to float32, against uint8 that the device normalises.

On one thread, as a replica's threads do it. The batch that the model sees must be equal bit for bit, or the run fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from transformers import Sam3ImageProcessor

from serve_app.models.image_input import ImagePreparer
from tests.benchmarks.rows import Row, compared

Result = TypeVar("Result")

CASES = (("1080p", (1080, 1920)), ("4K", (2160, 3840)), ("12 MP", (3024, 4032)))
TARGET = 5.0
REPEATS = 5
BATCH = 8


def shortest(work: Callable[[], Result], repeats: int = REPEATS) -> tuple[float, Result]:
    """Run some work several times: its shortest time in seconds, and its result."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - started)
    return min(times), result


def run(quick: bool = False) -> list[Row]:
    """Measure every size, then how long a batch takes to stack.

    Args:
        quick: the smallest picture only.
    """
    torch.set_num_threads(1)
    processor = Sam3ImageProcessor()
    preparer = ImagePreparer(processor)
    rows: list[Row] = []
    prepared: list[Tensor] = []
    for name, size_hw in CASES[:1] if quick else CASES:
        picture = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
        planes = torch.from_numpy(picture).permute(2, 0, 1)

        def stock(planes: Tensor = planes) -> Tensor:
            pixels: Tensor = processor(images=planes, return_tensors="pt")["pixel_values"][0]
            return pixels

        stock_s, pixels = shortest(stock)
        ours_s, ours = shortest(partial(preparer.prepare, picture))
        prepared = [ours] * BATCH
        if not torch.equal(preparer.batch([ours], torch.device("cpu"))[0], pixels):
            raise SystemExit(f"{name}: the pixels differ from the stock processor's")
        rows.append(compared(f"preparation, {name}, one thread", stock_s, ours_s, target=TARGET))
    floats_s, _ = shortest(lambda: torch.stack([pixels] * BATCH))
    levels_s, _ = shortest(lambda: preparer.stacked(prepared))
    rows.append(compared(f"stacking {BATCH} prepared images", floats_s, levels_s))
    return rows
