"""Post-processing alone: mask logits to RLE, against the stock image processor and pycocotools in the same run.

    python tests/benchmarks/bench_postprocess.py

prints a table and, last, one line of JSON. Both sides get what SAM3 gives for one phrase: 200 queries of 288x288 mask
logits, of which some are kept; the RLE strings must be equal or the run fails.
"""

from __future__ import annotations

import base64
import io
import json
import pickle
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serve_app.masks.formats import ENCODINGS
from serve_app.masks.from_logits import rles_from_logits
from serve_app.masks.rle import decode_rle
from serve_app.schemas.dicts import RleDict

Result = TypeVar("Result")

QUERIES = 200
GRID = 288
REPEATS = 5
PAUSE_S, WATCHED_S = 0.1, 0.5
PEAK_MASKS, PEAK_SIDE, PEAK_TARGET_MB = 100, 4032, 1500
# what, masks kept, (height, width), target ratio
CASES: tuple[tuple[str, int, tuple[int, int], float | None], ...] = (
    ("20 masks at 3840x2160", 20, (2160, 3840), 20.0),
    ("20 masks at 1920x1080", 20, (1080, 1920), None),
    ("20 masks at 640x480", 20, (480, 640), None),
)


def mask_logits(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Draw smooth shapes: ellipses of several sizes with wavy outlines, some of them in parts or with a hole."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:GRID, :GRID] / GRID
    logits = np.full((count, GRID, GRID), -12.0, dtype=np.float32)
    for mask in logits:
        for _ in range(rng.integers(1, 4)):
            (cy, cx), radius, waves = rng.uniform(0.1, 0.9, 2), rng.uniform(0.04, 0.3), rng.integers(2, 12)
            dy, dx = (y - cy) * rng.uniform(0.6, 1.6), x - cx
            edge = radius * (1 + 0.15 * np.sin(waves * np.arctan2(dy, dx)))
            np.maximum(mask, 40 * (edge - np.hypot(dy, dx)), out=mask)
            mask[np.hypot(dy, dx) < radius * rng.choice([0.0, 0.0, 0.4])] = -6.0
    return np.clip(logits, -12, 12)


def stock_rles(logits: NDArray[np.float32], kept: int, size_hw: tuple[int, int]) -> list[dict[str, Any]]:
    """Post-process and encode the documented way."""
    import torch
    from pycocotools import mask as coco
    from transformers import Sam3ImageProcessor
    from transformers.models.sam3.modeling_sam3 import Sam3ImageSegmentationOutput

    scores = torch.full((1, len(logits)), -20.0)
    scores[0, :kept] = 5.0
    outputs = Sam3ImageSegmentationOutput(
        pred_masks=torch.from_numpy(logits)[None],
        pred_boxes=torch.zeros(1, len(logits), 4),
        pred_logits=scores,
        presence_logits=torch.full((1, 1), 10.0),
    )
    (result,) = Sam3ImageProcessor().post_process_instance_segmentation(
        outputs, threshold=0.5, mask_threshold=0.5, target_sizes=[size_hw]
    )
    encoded = [coco.encode(np.asfortranarray(mask.numpy().astype(np.uint8))) for mask in result["masks"]]
    return [{"size": [*rle["size"]], "counts": rle["counts"].decode()} for rle in encoded]


def best_of(
    repeats: int, work: Callable[[], Result], clock: Callable[[], float] = time.perf_counter
) -> tuple[float, Result]:
    """Run some work several times: its shortest time in seconds, and its result."""
    times = []
    for _ in range(repeats):
        start = clock()
        result = work()
        times.append(clock() - start)
    return min(times), result


def compare(what: str, kept: int, size_hw: tuple[int, int], target: float | None) -> dict[str, Any]:
    """Time both sides on the same logits."""
    logits = mask_logits(QUERIES)
    stock_rles(logits[:2], 1, (32, 32))  # imports
    reference_s, expected = best_of(2, lambda: stock_rles(logits, kept, size_hw))
    ours_s, rles = best_of(REPEATS, lambda: rles_from_logits(logits[:kept], size_hw, 0.5))
    if rles != expected:
        raise SystemExit(f"{what}: the RLE strings differ from the stock ones")
    ratio = reference_s / ours_s
    return {
        "what": f"post-processing, {what}",
        "reference_s": reference_s,
        "ours_s": ours_s,
        "ratio": ratio,
        "target": target,
    }


def pillow_png(rle: RleDict) -> str:
    """Write a mask as a 1-bit PNG with Pillow, from all its pixels."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(decode_rle(rle))).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def compare_png(what: str, kept: int, size_hw: tuple[int, int]) -> dict[str, Any]:
    """Compare the CPU time of PNG masks with Pillow's; a busy machine moves it less than the time on the clock."""
    rles = rles_from_logits(mask_logits(kept), size_hw, 0.5)
    reference_s, _ = best_of(REPEATS, lambda: [pillow_png(rle) for rle in rles], time.thread_time)
    encoding = ENCODINGS["png"]
    ours_s, texts = best_of(REPEATS, lambda: [encoding.write(rle, lambda _: None) for rle in rles], time.thread_time)
    if [encoding.read(text, size_hw) for text in texts] != rles:
        raise SystemExit(f"{what}: the PNGs hold other masks")
    ratio = reference_s / ours_s
    what = f"CPU time of {what} as PNG, against Pillow"
    return {"what": what, "reference_s": reference_s, "ours_s": ours_s, "ratio": ratio, "target": None}


def beside_polygons(what: str, kept: int, size_hw: tuple[int, int]) -> dict[str, Any]:
    """Time small operations of a model's thread alone, and beside a thread that writes the polygons of images.

    Both threads need the interpreter's lock; while the writer holds it, the model's thread waits.
    """
    rles = rles_from_logits(mask_logits(kept), size_hw, 0.5)
    pack = ENCODINGS["polygon"].pack
    assert pack is not None

    def write(ended: threading.Event) -> None:
        while not ended.wait(PAUSE_S):
            pickle.dumps([pack(rle, lambda _: None) for rle in rles])

    alone, beside = [], []
    for _ in range(REPEATS):
        alone.append(thousand_operations_s())
        ended = threading.Event()
        writer = threading.Thread(target=write, args=(ended,))
        writer.start()
        beside.append(thousand_operations_s())
        ended.set()
        writer.join()
    reference_s, ours_s = statistics.median(alone), statistics.median(beside)
    what = f"1,000 small operations beside {what} as polygons, {PAUSE_S:g} s apart"
    return {"what": what, "reference_s": reference_s, "ours_s": ours_s, "ratio": reference_s / ours_s, "target": None}


def thousand_operations_s() -> float:
    """Time operations of a few microseconds that release the interpreter's lock: the mean over WATCHED_S."""
    import torch

    values, done = torch.zeros(16), 0
    start = time.perf_counter()
    while (took := time.perf_counter() - start) < WATCHED_S:
        values.add(1)
        done += 1
    return 1000 * took / done


def peak() -> dict[str, Any]:
    """Measure the peak memory in a fresh process, over what it holds before the work; the stock path needs 14 GB."""
    answer = subprocess.run([sys.executable, __file__, "--peak"], check=True, capture_output=True, text=True)
    measured = json.loads(answer.stdout)
    what = f"post-processing, peak MB over idle, {PEAK_MASKS} masks at {PEAK_SIDE}x{PEAK_SIDE}"
    row = {"what": what, "reference_s": None, "ours_s": measured["ours_s"], "ratio": None, "target": PEAK_TARGET_MB}
    return {**row, "peak_mb": measured["peak_mb"]}


def peak_of_this_process() -> dict[str, float]:
    """Do the work and report the largest resident set over the one just before, in megabytes (Linux)."""
    logits = mask_logits(PEAK_MASKS)
    rles_from_logits(logits[:1], (64, 64), 0.5)
    idle_mb = resident_mb("VmRSS")
    ours_s, _ = best_of(1, lambda: rles_from_logits(logits, (PEAK_SIDE, PEAK_SIDE), 0.5))
    return {"peak_mb": resident_mb("VmHWM") - idle_mb, "ours_s": ours_s}


def resident_mb(field: str) -> float:
    """Read this process's resident set, now (`VmRSS`) or at its largest (`VmHWM`). Source: proc(5)."""
    with Path("/proc/self/status").open(encoding="ascii") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(f"{field}:"))


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Measure everything.

    Args:
        quick: without the largest masks and the memory.

    Returns:
        Rows of what, reference_s, ours_s, ratio and target; the memory row has `peak_mb` beside its target in MB.
    """
    cases = CASES[1:] if quick else CASES
    rows = [compare(*case) for case in cases]
    rows += [compare_png(*case[:3]) for case in cases]
    rows += [beside_polygons(*case[:3]) for case in cases]
    return rows if quick else [*rows, peak()]


def main() -> None:
    """Print the table, then the JSON."""
    if sys.argv[1:] == ["--peak"]:
        print(json.dumps(peak_of_this_process()))
        return
    rows = run()
    print(f"{'what':<66}{'stock ms':>10}{'ours ms':>10}{'ratio':>8}{'target':>8}")
    for row in rows:
        stock = "" if row["reference_s"] is None else f"{1000 * row['reference_s']:.1f}"
        value = f"{row['peak_mb']:.0f} MB" if "peak_mb" in row else f"{row['ratio']:.1f}x"
        target = "" if row["target"] is None else f"{row['target']:g}"
        print(f"{row['what']:<66}{stock:>10}{1000 * row['ours_s']:>10.2f}{value:>8}{target:>8}")
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
