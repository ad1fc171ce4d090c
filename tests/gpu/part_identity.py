"""ViT-B/14 as DINOv2 has it, random weights: ms and peak memory for 12 and 64 crops of 224 x 224 pixels."""

from __future__ import annotations

import torch
from transformers import Dinov2Config, Dinov2Model

from tests.benchmarks.rows import Row, limited
from tests.gpu import models
from tests.gpu.part_plain import set_tf32
from tests.gpu.timing import median_s, profiled

COUNTS = (12, 64)
SIDE = 224


def run(device: torch.device, tiny: bool) -> list[Row]:
    """Measure each type and count; prints as it goes."""
    config = Dinov2Config(patch_size=14, image_size=518)
    if tiny:
        config = Dinov2Config(patch_size=14, image_size=56, hidden_size=32, num_hidden_layers=2, num_attention_heads=2)
    rows: list[Row] = []
    for dtype, tf32 in (("float32", False), ("float32", True), ("bfloat16", True), ("float16", True)):
        set_tf32(tf32)
        torch.manual_seed(0)
        with torch.device(device):
            model = Dinov2Model(config).eval().to(getattr(torch, dtype))
        for count in COUNTS:
            rows.append(_measure(model, count, device, f"{dtype}{', tf32' if tf32 and dtype == 'float32' else ''}"))
        del model
        models.release(device)
    set_tf32(False)
    return rows


@torch.inference_mode()
def _measure(model: Dinov2Model, count: int, device: torch.device, name: str) -> Row:
    crops = torch.rand(count, 3, SIDE, SIDE, device=device).to(model.dtype)
    seconds = median_s(lambda: model(pixel_values=crops), device)
    busy = profiled(lambda: model(pixel_values=crops), device)
    peak = 0.0
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        model(pixel_values=crops)
        peak = (torch.cuda.max_memory_allocated(device) - before) / 2**20
    print(
        f"  {name}: {count} crops {seconds * 1000:.2f} ms, {peak:.0f} MiB, device busy {busy.share:.0%}, "
        f"{busy.kernels} kernels",
        flush=True,
    )
    return limited(
        f"{count} crops, {name}", seconds, unit="s", more={"peak_mib": peak, "device_busy_share": busy.share}
    )
