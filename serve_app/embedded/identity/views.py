"""Draws views of an individual: crops of one sprite in different sizes, angles and light, mirrored or partly hidden.

The service's own `object_crop` cuts the sprite out, with a mask that is as inexact as a segmenter's.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from serve_app.embedded.segmenter.backgrounds import make_background
from serve_app.images.crops import object_crop

HEIGHT_RANGE_PX = (24, 140)
"""Smallest and largest height of a sprite."""

MAX_ROTATION = 25.0
"""Largest rotation in degrees, in both directions."""

MAX_STRETCH = 0.12
"""Largest |log| of the factor by which the aspect ratio changes."""

HIDDEN_RATE, MOST_HIDDEN = 0.35, 0.4
"""Share of views with a hidden part, and the largest hidden share of the sprite's box."""

MASK_GRID = 56
"""Masks are reduced to a grid with at most this many cells per side, because a segmenter's masks are as coarse."""


def make_view(rng: np.random.Generator, sprite: Image.Image, side: int) -> NDArray[np.uint8]:
    """Make one view of an individual.

    Args:
        rng: source of all random choices.
        sprite: RGBA picture of the individual.
        side: height and width of the crop in pixels.

    Returns:
        (side, side, 3) uint8 RGB.
    """
    posed = _pose(rng, sprite)
    margin = max(4, posed.height // 4)
    size_hw = posed.height + 2 * margin, posed.width + 2 * margin
    picture = Image.fromarray(make_background(rng, size_hw))
    picture.paste(posed, (margin, margin), posed)
    mask = np.zeros(size_hw, np.bool_)
    mask[margin : margin + posed.height, margin : margin + posed.width] = np.asarray(posed)[..., 3] > 127
    mask = _hide(rng, mask)
    image = _lit(rng, np.asarray(picture))
    return object_crop(image, _coarse(rng, mask), side)


def _pose(rng: np.random.Generator, sprite: Image.Image) -> Image.Image:
    if rng.random() < 0.5:
        sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    sprite = sprite.rotate(rng.uniform(-MAX_ROTATION, MAX_ROTATION), Image.Resampling.BILINEAR, expand=True)
    height = float(np.exp(rng.uniform(*np.log(HEIGHT_RANGE_PX))))
    width = height * sprite.width / sprite.height * float(np.exp(rng.uniform(-MAX_STRETCH, MAX_STRETCH)))
    return sprite.resize((max(6, round(width)), max(6, round(height))), Image.Resampling.BILINEAR)


def _hide(rng: np.random.Generator, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Remove a side or a corner from a mask, as if another object hid it."""
    if rng.random() >= HIDDEN_RATE:
        return mask
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    hidden = mask.copy()
    part = rng.uniform(0.1, MOST_HIDDEN)
    along, across = (rows, columns) if rng.random() < 0.5 else (columns, rows)
    depth = max(1, round(part * len(along)))
    cut = along[:depth] if rng.random() < 0.5 else along[-depth:]
    if rng.random() < 0.5:  # a corner
        half = len(across) // 2
        other = across[:half] if rng.random() < 0.5 else across[half:]
    else:
        other = across
    if along is rows:
        hidden[np.ix_(cut, other)] = False
    else:
        hidden[np.ix_(other, cut)] = False
    return hidden if hidden.sum() > 0.4 * mask.sum() else mask


def _coarse(rng: np.random.Generator, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Make a mask's edges as inexact as a segmenter's: coarse, and slightly too wide or too narrow."""
    height, width = mask.shape
    soft = Image.fromarray(mask.astype(np.uint8) * 255)
    grid = rng.uniform(0.5, 1.0) * MASK_GRID
    small = max(4, round(min(grid, width))), max(4, round(min(grid, height)))
    soft = soft.resize(small, Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.9)))
    grown = np.asarray(soft.resize((width, height), Image.Resampling.BILINEAR)) > rng.uniform(90, 165)
    return grown if grown.any() else mask


def _lit(rng: np.random.Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Change light, noise, sharpness and compression; the hue stays."""
    gain, lift = rng.uniform(0.8, 1.2), rng.uniform(-15, 15)
    pixels = image.astype(np.float32) * gain + lift
    if rng.random() < 0.5:
        pixels += rng.normal(0.0, rng.uniform(1, 8), image.shape)
    lit = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    if rng.random() < 0.3:
        lit = lit.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.0)))
    if rng.random() < 0.5:
        file = io.BytesIO()
        lit.save(file, "JPEG", quality=int(rng.integers(40, 95)))
        lit = Image.open(file).convert("RGB")
    return np.asarray(lit)
