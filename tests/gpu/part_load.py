"""16 concurrent requests of 3 JPEGs x 4 phrases through the package's own batchers, without Ray and HTTP.

Each of 16 callers sends its next request when it has the answer of the last. Decoding, preparation and masks run in
threads, the model in a thread of its own, batched by the package's PullBatcher with the budgets of
configs/one-gpu.yaml. No picture is cached. Masks are discs, as in `part_plain`, and end at their run lengths.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image

from serve_app.config.schema import LimitsConfig, SegmenterBatching
from serve_app.images import decoding
from serve_app.models.interface import Detections, Pair
from serve_app.models.sam3 import Sam3Segmenter
from serve_app.serving.replica.batching import ModelThread, PullBatcher
from tests.benchmarks.rows import Row, limited
from tests.gpu import models
from tests.gpu.masks import disc_logits, run_lengths, without_strings
from tests.gpu.part_plain import set_tf32
from tests.gpu.timing import Watched

CALLERS, IMAGES, PHRASES = 16, 3, 4
SECONDS = 12.0
WATCHED_S = 2.0
BAR = 0.85


@dataclass
class Counted:
    """What a run has done so far."""

    images: int = 0
    latencies_s: list[float] = field(default_factory=list)
    decode_s: float = 0.0
    prepare_s: float = 0.0
    masks_s: float = 0.0
    model_s: float = 0.0
    batches: dict[str, list[int]] = field(default_factory=lambda: {"images": [], "pairs": []})


class Service:
    """A segmenter behind the package's batchers, as a replica has it."""

    def __init__(self, made: Sam3Segmenter, threshold: float) -> None:
        self.counted = Counted()
        self._made, self._threshold = made, threshold
        batching = SegmenterBatching()
        self._device = ModelThread(ThreadPoolExecutor(1, "model"))
        self._threads = ThreadPoolExecutor(min(8, (os.cpu_count() or 2) + 1), "cpu")
        pixels = made.resolution_hw[0] * made.resolution_hw[1]
        self._encoder = self._batcher(made.encode, batching.max_pixels, pixels, "images")
        self._embedder = self._batcher(made.embed, 256, 1, "")
        self._detector = self._batcher(made.detect, batching.max_pairs, 1, "pairs")
        self._discs = disc_logits(200, 288)

    def _batcher(self, run: Any, budget: int, cost: int, axis: str) -> PullBatcher[Any, Any]:
        def timed(items: Any) -> Any:
            started = time.perf_counter()
            answers = run(items)
            self.counted.model_s += time.perf_counter() - started
            return answers

        sizes = self.counted.batches
        return PullBatcher(
            self._device,
            timed,
            budget=budget,
            cost=lambda _: cost,
            on_start=lambda size: sizes[axis].append(size) if axis else None,
        )

    def _prepared(self, data: bytes) -> tuple[Any, tuple[int, int]]:
        started = time.thread_time()
        image = decoding.decode(data, LimitsConfig())
        decoded = time.thread_time()
        prepared = self._made.prepare(image)
        self.counted.decode_s += decoded - started
        self.counted.prepare_s += time.thread_time() - decoded
        return prepared, (image.shape[0], image.shape[1])

    def _draw(self, count: int, size_hw: tuple[int, int]) -> None:
        started = time.thread_time()
        run_lengths(self._discs[:count], size_hw)
        self.counted.masks_s += time.thread_time() - started

    async def segment(self, data: bytes, phrases: list[Any], caller: str) -> None:
        """Do one image of a request."""
        loop = asyncio.get_running_loop()
        prepared, size_hw = await loop.run_in_executor(self._threads, self._prepared, data)
        (features,) = await self._encoder.submit([prepared], caller)
        found = await self._detector.submit([Pair(features, one, self._threshold) for one in phrases], caller)
        for one in found:
            assert isinstance(one, Detections), one
            await loop.run_in_executor(self._threads, self._draw, len(one.scores), size_hw)
        self.counted.images += 1

    async def request(self, files: list[bytes], caller: str) -> None:
        """Do one request: its pictures at once."""
        started = time.perf_counter()
        phrases = await self._embedder.submit(models.PHRASES[:PHRASES], caller)
        await asyncio.gather(*(self.segment(data, phrases, caller) for data in files))
        self.counted.latencies_s.append(time.perf_counter() - started)

    async def under_load(self, files: list[bytes], seconds: float) -> float:
        """Let the callers send requests for some seconds; returns how long it took to answer the last."""
        started = time.perf_counter()
        endless = itertools.cycle(files)

        async def caller(name: str) -> None:
            while time.perf_counter() - started < seconds:
                await self.request([next(endless) for _ in range(IMAGES)], name)

        await asyncio.gather(*(caller(str(number)) for number in range(CALLERS)))
        return time.perf_counter() - started


def jpegs(count: int, tiny: bool) -> list[bytes]:
    """Write pictures as JPEG files."""
    files = []
    for picture in models.pictures(count, tiny):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=85)
        files.append(file.getvalue())
    return files


def run(device: torch.device, tiny: bool) -> list[Row]:
    """Measure each type of the head; prints as it goes."""
    model, processor = models.build_sam3(device, tiny)
    files = jpegs(12, tiny)
    picture = models.pictures(1, tiny)[0]
    models.spread_scores(model, processor, picture)
    rows: list[Row] = []
    for head in models.head_dtypes():
        set_tf32(True)
        made = models.segmenter(model, processor, "bfloat16", head)
        threshold = models.thresholds(made, models.encoded(made, [picture]), models.embedded(made, ["dog"]))[0]
        with without_strings():
            rows += _measure(made, files, threshold, device, (head, 1.0 if tiny else SECONDS))
        del made
        models.release(device)
    set_tf32(False)
    return rows


def _measure(
    made: Sam3Segmenter, files: list[bytes], threshold: float, device: torch.device, how: tuple[str, float]
) -> list[Row]:
    head, seconds = how
    asyncio.run(Service(made, threshold).under_load(files, seconds / 6))  # warms up
    service = Service(made, threshold)
    took = asyncio.run(service.under_load(files, seconds))
    done = service.counted
    with Watched(device) as seen:
        asyncio.run(Service(made, threshold).under_load(files, min(WATCHED_S, seconds)))
    busy = seen.busy()
    rate = done.images / took
    means = {axis: statistics.mean(sizes) for axis, sizes in done.batches.items()}
    figures = {
        "device_busy_share": busy.share,
        "kernels_a_second": busy.kernels / busy.wall_s,
        "model_thread_share": done.model_s / took,
        "latency_median_s": statistics.median(done.latencies_s),
        "cpu_ms_an_image": {
            "decode": done.decode_s / done.images * 1000,
            "prepare": done.prepare_s / done.images * 1000,
            "masks": done.masks_s / done.images * 1000,
        },
        "batch_means": means,
    }
    print(f"  {head} head: {rate:.1f} images/s, {done.images} images in {took:.1f} s", flush=True)
    for name, value in figures.items():
        print(f"    {name}: {value}", flush=True)
    what = f"{CALLERS} requests of {IMAGES} x {PHRASES}, {head} head"
    return [
        limited(f"{what}: images/s", rate, unit="", more=figures),
        limited(f"{what}: device busy", busy.share, unit="", at_least=BAR),
    ]
