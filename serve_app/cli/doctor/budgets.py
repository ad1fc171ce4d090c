"""Computes memory fractions and batch sizes that fit a GPU, from memory that was measured on it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30
OUTSIDE = 0.05
"""Fraction of a GPU's memory that is left for CUDA's own contexts."""
SPARE = 1.15
"""The measured memory of the parser and of passes is multiplied by this, because allocators leave gaps."""
MOST_CACHE = 6 * GIB
MOST_PAIRS = 64
MOST_IMAGES = 16


@dataclass(frozen=True)
class SegmenterBytes:
    """The segmenter's memory on a GPU, in bytes.

    Attributes:
        loading: the peak while the model loads.
        weights: what the weights take after loading.
        image: what one more image takes in a vision pass.
        pair: what one more pair of image and phrase takes in a detector pass, with its masks.
        features: what one image takes in the cache.
    """

    loading: int
    weights: int
    image: int
    pair: int
    features: int


@dataclass(frozen=True)
class Budgets:
    """Settings that fit a GPU, by the configuration's keys.

    Attributes:
        parser_fraction: `gpu_memory_fraction` of the parser; None if it is not on the GPU.
        segmenter_fraction: `gpu_memory_fraction` of the segmenter.
        max_pairs: the most pairs in a detector pass.
        max_pixels: the most pixels in a vision pass.
        vision_bytes: the size of the cache.
    """

    parser_fraction: float | None
    segmenter_fraction: float
    max_pairs: int
    max_pixels: int
    vision_bytes: int


def budgets(
    total_bytes: int, parser_peak: int | None, segmenter: SegmenterBytes, pixels_of_an_image: int
) -> Budgets | None:
    """Divide a GPU's memory between the parser and the segmenter, and the segmenter's share between batches and cache.

    Args:
        total_bytes: memory of the GPU.
        parser_peak: peak memory of the parser, in bytes; None if it is not on the GPU.
        segmenter: memory of the segmenter.
        pixels_of_an_image: pixels of one image after it is resized for the segmenter.

    Returns:
        The settings; None if the segmenter does not fit while it loads, or if one image or one pair does not fit.
    """
    parser = 0.0 if parser_peak is None else _up(SPARE * parser_peak / total_bytes)
    share = round(1.0 - OUTSIDE - parser, 2)
    budget = share * total_bytes
    left = budget - segmenter.weights - SPARE * max(segmenter.image, segmenter.pair)
    if left <= 0 or segmenter.loading > budget:
        return None
    cache = min(left / 2, MOST_CACHE)
    passes = budget - segmenter.weights - cache
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
