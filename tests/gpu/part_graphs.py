"""An experiment: what CUDA graphs would gain. Captures the head's `detect` and the vision pass at fixed shapes.

A graph replays what was launched once without the cost of launching it. Work that asks the device for a number, such
as "is any token padding?", cannot be captured: then it says why, and tries again with that question answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from transformers import masking_utils

from tests.benchmarks.rows import Row, compared
from tests.gpu import models
from tests.gpu.part_plain import set_tf32
from tests.gpu.timing import median_s

PAIRS = (1, 4, 12, 32)
IMAGES = (1, 3, 8)


def run(device: torch.device, tiny: bool) -> list[Row]:
    """Compare eager passes with replays; prints as it goes."""
    set_tf32(True)
    model, processor = models.build_sam3(device, tiny)
    rows: list[Row] = []
    for head in models.head_dtypes():
        made = models.segmenter(model, processor, "bfloat16", head)
        (features,) = models.encoded(made, models.pictures(1, tiny))
        (text,) = models.embedded(made, models.PHRASES[:1])
        for count in PAIRS:
            tokens = features.tokens.expand(count, -1, -1).contiguous()
            texts = text.states.expand(count, -1, -1).contiguous()
            mask = text.mask.expand(count, -1).contiguous()
            work = partial(made._head.detect, tokens, texts, mask)
            rows += _compared(work, device, f"detect of {count} pairs, {head} head, without masks")
        if head == models.head_dtypes()[0]:
            dtype = torch.float32
            for count in IMAGES:
                side = made.resolution_hw
                pixels = torch.zeros(count, 3, *side, device=device, dtype=dtype)
                rows += _compared(partial(made._vision_pass, pixels), device, f"vision pass of {count}")
        del made
        models.release(device)
    set_tf32(False)
    return rows


def _compared(work: Callable[[], Any], device: torch.device, name: str) -> list[Row]:
    with torch.inference_mode():
        eager = median_s(work, device)
        for note, context in (("", nullcontext), (", the padding known", padding_known)):
            try:
                with context():
                    replay = captured(work, device)
            except Exception as error:
                reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else ""
                print(f"  {name}{note}: not captured: {type(error).__name__}: {reason}", flush=True)
                models.release(device)
                continue
            seconds = median_s(replay, device)
            print(f"  {name}{note}: {eager * 1000:.2f} ms, replayed {seconds * 1000:.2f} ms", flush=True)
            return [compared(f"{name}: CUDA graph against launches", eager, seconds)]
    return []


def captured(work: Callable[[], Any], device: torch.device) -> Callable[[], object]:
    """Capture some work into a graph; returns its replay."""
    if device.type != "cuda":
        raise RuntimeError("only a GPU has graphs")
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = work()

    def replay() -> object:
        graph.replay()
        return kept

    return replay


@contextmanager
def padding_known() -> Iterator[None]:
    """Answer "is nothing padding?" with no, without asking the device."""
    with patch.object(masking_utils, "_ignore_bidirectional_mask_sdpa", lambda *_, **__: False):
        yield
