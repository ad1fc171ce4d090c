"""Which budgets and fractions fit a GPU, from what was measured on it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30
OUTSIDE = 0.05
"""Part of a GPU that is left to CUDA's own contexts, which no fraction counts."""
SPARE = 1.15
"""What is measured is multiplied by, because allocators leave gaps."""
MOST_CACHE = 6 * GIB
MOST_PAIRS = 64
MOST_IMAGES = 16


@dataclass(frozen=True)
class SegmenterBytes:
    """What the segmenter takes on a GPU.

    Attributes:
        loading: at the peak of loading.
        weights: after loading.
        image: one more image in a vision pass.
        pair: one more pair in a detector pass, masks included.
        features: one image in the cache.
    """

    loading: int
    weights: int
    image: int
    pair: int
    features: int


@dataclass(frozen=True)
class Budgets:
    """Settings that fit.

    Attributes:
        parser_fraction: `gpu_memory_fraction` of the parser; None where it is not on the GPU.
        segmenter_fraction: of the segmenter.
        max_pairs: of a detector pass.
        max_pixels: of a vision pass.
        vision_bytes: of the cache.
    """

    parser_fraction: float | None
    segmenter_fraction: float
    max_pairs: int
    max_pixels: int
    vision_bytes: int


def budgets(
    total_bytes: int, parser_peak: int | None, segmenter: SegmenterBytes, pixels_of_an_image: int
) -> Budgets | None:
    """Share a GPU between the parser and the segmenter, and share the segmenter's part between batches and cache.

    Args:
        total_bytes: memory of the GPU.
        parser_peak: the most that the parser took; None where it is not on the GPU.
        segmenter: what the segmenter takes.
        pixels_of_an_image: of the model's input.

    Returns:
        None where one image and one pair do not fit.
    """
    parser = 0.0 if parser_peak is None else _up(SPARE * parser_peak / total_bytes)
    share = round(1.0 - OUTSIDE - parser, 2)
    room = share * total_bytes
    left = room - segmenter.weights - SPARE * max(segmenter.image, segmenter.pair)
    if left <= 0 or segmenter.loading > room:
        return None
    cache = min(left / 2, MOST_CACHE)
    passes = room - segmenter.weights - cache
    images = max(1, min(MOST_IMAGES, int(passes / (SPARE * segmenter.image))))
    return Budgets(
        parser_fraction=None if parser_peak is None else parser,
        segmenter_fraction=share,
        max_pairs=max(1, min(MOST_PAIRS, int(passes / (SPARE * segmenter.pair)))),
        max_pixels=images * pixels_of_an_image,
        vision_bytes=int(cache // segmenter.features * segmenter.features),
    )


def _up(fraction: float) -> float:
    """Round up to a hundredth."""
    return -(-fraction * 100 // 1) / 100
