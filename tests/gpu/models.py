"""Models of the published sizes with random weights, built on the device: nothing is downloaded.

`tiny` builds a very small one of the same classes, to try a part's code on a CPU. Random weights find arbitrary
things, so the scores are spread and a threshold is put under a handful of them: the mask decoder then has to draw.
"""

from __future__ import annotations

import copy
import gc
import inspect
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Sam3Config, Sam3ImageProcessor, Sam3Model, Sam3Processor

from serve_app.models.interface import Detections
from serve_app.models.sam3 import Sam3Segmenter
from serve_app.models.sam3_features import ImageFeatures, Pair, PhraseFeatures
from tests.models import small_segmenter

Kind = TypeVar("Kind")

KEPT = 4
"""Objects of a pair, where the scores differ enough."""
PHRASES = tuple(f"{colour} {thing}" for thing in ("dog", "car", "cat", "sofa") for colour in ("red", "blue", "a", "b"))
HEAD_DTYPES = ("float32", "bfloat16", "float16")


def build_sam3(device: torch.device, tiny: bool) -> tuple[Sam3Model, Sam3Processor]:
    """Build the segmenter: 840 million weights in float32, 3.4 GB, or a very small one."""
    torch.manual_seed(0)
    tokens = small_segmenter.tokenizer()
    with torch.device(device):
        model = Sam3Model(small_segmenter.config(tokens) if tiny else Sam3Config()).eval()
    side = small_segmenter.SIDE if tiny else model.config.vision_config.backbone_config.image_size
    return model, Sam3Processor(Sam3ImageProcessor(size={"height": side, "width": side}), tokens)


def has_head_dtype() -> bool:
    """Whether the head may compute in half precision."""
    return "head_dtype" in inspect.signature(Sam3Segmenter.__init__).parameters


def head_dtypes() -> tuple[str, ...]:
    """Name the types that the head can compute in."""
    return HEAD_DTYPES if has_head_dtype() else HEAD_DTYPES[:1]


def segmenter(
    model: Sam3Model, processor: Sam3Processor, vision: str = "bfloat16", head: str = "float32", **options: Any
) -> Sam3Segmenter:
    """Make the package's segmenter around a copy of a model, which it changes in place."""
    if has_head_dtype():
        options["head_dtype"] = getattr(torch, head)
    return Sam3Segmenter(copy.deepcopy(model), processor, getattr(torch, vision), **options)


def pictures(count: int, tiny: bool, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Draw pictures of 1080p (or smaller): blocks of colour under noise, each another one."""
    rng = np.random.default_rng(seed)
    height, width, block = (60, 80, 20) if tiny else (1080, 1920, 120)
    drawn = []
    for _ in range(count):
        blocks = rng.integers(30, 226, (height // block, width // block, 3), dtype=np.int16)
        blocks = blocks.repeat(block, axis=0).repeat(block, axis=1)
        drawn.append((blocks + rng.integers(-30, 30, blocks.shape, dtype=np.int16)).astype(np.uint8))
    return drawn


def encoded(made: Sam3Segmenter, images: Sequence[NDArray[np.uint8]]) -> list[ImageFeatures]:
    """Run preparation and the vision pass; no image may fail."""
    return _all_of(ImageFeatures, made.encode([made.prepare(image) for image in images]))


def embedded(made: Sam3Segmenter, phrases: Sequence[str]) -> list[PhraseFeatures]:
    """Run the text pass; no phrase may fail."""
    return _all_of(PhraseFeatures, made.embed(phrases))


def detected(made: Sam3Segmenter, pairs: Sequence[Pair], max_pairs: int = 32) -> list[Detections]:
    """Run the detector in batches of at most `max_pairs`, the default of `batching.max_pairs`; no pair may fail."""
    found: list[Detections] = []
    for start in range(0, len(pairs), max_pairs):
        found += _all_of(Detections, made.detect(pairs[start : start + max_pairs]))
    return found


def _all_of(kind: type[Kind], outcomes: Sequence[object]) -> list[Kind]:
    kept = [one for one in outcomes if isinstance(one, kind)]
    assert len(kept) == len(outcomes), outcomes
    return kept


def threshold_below(scores: NDArray[np.float32], kept: int = KEPT) -> float:
    """Put a threshold into the widest gap near rank `kept`, so that rounding moves no score over it.

    Args:
        scores: any order, at least two.
        kept: scores that shall be above it; one less or up to four more where the gap there is wider.
    """
    ranked = np.sort(scores)[::-1].astype(np.float64)
    first, last = max(0, kept - 2), min(len(ranked) - 1, kept + 4)
    gaps = ranked[first:last] - ranked[first + 1 : last + 1]
    rank = first + int(gaps.argmax())
    return float((ranked[rank] + ranked[rank + 1]) / 2)


def thresholds(made: Sam3Segmenter, images: Sequence[ImageFeatures], phrases: Sequence[PhraseFeatures]) -> list[float]:
    """Choose a threshold for every pair, image by image; each pair is looked at once with all its queries."""
    chosen = []
    for image in images:
        for phrase in phrases:
            (every,) = detected(made, [Pair(image, phrase, -1.0)])
            chosen.append(threshold_below(every.scores))
    return chosen


@torch.no_grad()
def spread_scores(model: Sam3Model, processor: Sam3Processor, image: NDArray[np.uint8]) -> float:
    """Scale the scores' last layer so that the logits of one pair have the deviation 1.

    Random weights give all queries nearly one score, which half precision cannot tell apart.

    Returns:
        The factor.
    """
    made = segmenter(model, processor, "float32")
    seen: list[torch.Tensor] = []
    made._model.dot_product_scoring.register_forward_hook(lambda _module, _args, output: seen.append(output))
    detected(made, [Pair(encoded(made, [image])[0], embedded(made, PHRASES[:1])[0], 1.0)])
    factor = 1 / float(seen[-1].float().std())
    for parameter in model.dot_product_scoring.query_proj.parameters():
        parameter.mul_(factor)
    return factor


def release(device: torch.device) -> None:
    """Give back the memory of what is no longer referred to."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
