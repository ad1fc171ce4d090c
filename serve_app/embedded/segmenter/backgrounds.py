"""Draws backgrounds for synthetic scenes: flat, gradients, clouds of colour, landscapes, scribbles."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

KINDS = ("flat", "vertical", "horizontal", "clouds", "hazy", "scribbles", "landscape")
MAX_GRAIN = 12.0
"""Largest standard deviation of the film grain, in levels of 0 to 255."""


def make_background(rng: np.random.Generator, size_hw: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Draw a background of a random kind with a random amount of film grain.

    Args:
        rng: source of all random choices.
        size_hw: height and width in pixels.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    kind = KINDS[rng.integers(len(KINDS))]
    picture: npt.NDArray[np.floating]
    if kind == "landscape":
        picture = _landscape(rng, size_hw)
    elif kind == "clouds":
        picture = _clouds(rng, size_hw)
    else:
        picture = _gradient(rng, size_hw, kind)
        if kind == "hazy":
            picture = (picture + _clouds(rng, size_hw)) / 2
    grain = rng.standard_normal(size_hw, dtype=np.float32)[..., None] * np.float32(rng.uniform(0, MAX_GRAIN))
    noisy = np.clip(picture + grain, 0, 255).astype(np.uint8)
    return _scribble(rng, noisy) if kind == "scribbles" else noisy


def _colour(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    return rng.integers(0, 256, 3).astype(np.float32)


def _ramp(length: int, start: npt.NDArray[np.float32], end: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    weight = np.linspace(0, 1, length, dtype=np.float32)[:, None]
    return start * (1 - weight) + end * weight


def _gradient(rng: np.random.Generator, size_hw: tuple[int, int], kind: str) -> npt.NDArray[np.float32]:
    height, width = size_hw
    start, end = _colour(rng), _colour(rng)
    if kind == "flat":
        return np.broadcast_to(start, (height, width, 3))
    if kind == "horizontal":
        return np.broadcast_to(_ramp(width, start, end)[None], (height, width, 3))
    return np.broadcast_to(_ramp(height, start, end)[:, None], (height, width, 3))


def _clouds(rng: np.random.Generator, size_hw: tuple[int, int]) -> npt.NDArray[np.float32]:
    cells = int(rng.integers(2, 9))
    seed = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
    return np.asarray(seed.resize(size_hw[::-1], Image.Resampling.BICUBIC)).astype(np.float32)


def _landscape(rng: np.random.Generator, size_hw: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Draw two gradients, sky and ground, that meet at a horizon. The horizon may be wavy."""
    height, width = size_hw
    sky = _ramp(height, _colour(rng), _colour(rng))[:, None]
    ground = _ramp(height, _colour(rng), _colour(rng))[:, None]
    phase, waves = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 3)
    swell = rng.uniform(0, 0.06) * np.sin(phase + np.linspace(0, 2 * np.pi * waves, width))
    horizon = (rng.uniform(0.3, 0.8) + swell) * height
    above = np.arange(height)[:, None] < horizon[None]
    return np.where(above[..., None], sky, ground)


def _scribble(rng: np.random.Generator, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    height, width = picture.shape[:2]
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    thickest = max(2, round(max(height, width) / 56))
    for _ in range(int(rng.integers(1, 9))):
        ends = [int(v) for v in rng.integers(0, (width, height, width, height))]
        red, green, blue = (int(v) for v in rng.integers(0, 256, 3))
        draw.line(ends, fill=(red, green, blue), width=int(rng.integers(1, thickest + 1)))
    return np.asarray(canvas)
