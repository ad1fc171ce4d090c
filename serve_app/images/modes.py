"""Converts a Pillow picture of any mode to 8-bit RGB, in bands of lines.

The module defines which values are black and white, puts transparency on white, and converts Lab. It does not read
files or check limits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageFile

RgbArray = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]
Converter = Callable[[Image.Image], RgbArray]
Reader = Callable[[Image.Image], npt.NDArray[Any]]

_TIFF_BITS_PER_SAMPLE = 258
_TIFF_PHOTOMETRIC = 262
_TIFF_SAMPLE_FORMAT = 339
_UNSIGNED = 1


def rgb_converter(picture: ImageFile.ImageFile, bands: Sequence[Box]) -> Converter:
    """Choose the function that converts bands of a picture to RGB.

    Memory: about 24 bytes per pixel of a band. Modes I and F need one more pass over the picture, to find the range of
    their values.

    Args:
        picture: a loaded picture.
        bands: (left, top, right, bottom) boxes that cover the picture.

    Returns:
        A function from a crop of the picture to (height, width, 3) uint8.
    """
    mode = picture.mode
    if mode.startswith("I;16"):
        bits = (_tag(picture, _TIFF_BITS_PER_SAMPLE) or (16,))[0]
        ends = (0.0, float(2**bits - 1))
        return _stretched(*(ends[::-1] if _tag(picture, _TIFF_PHOTOMETRIC) == 0 else ends))
    if mode in {"I", "F"}:
        read = _as_unsigned if _is_unsigned(picture) else np.asarray
        ends = _value_range(picture, bands, read)
        return _stretched(*(ends[::-1] if _tag(picture, _TIFF_PHOTOMETRIC) == 0 else ends), read)
    if mode == "LAB":
        return _lab_to_rgb
    if "transparency" in picture.info or mode in {"RGBA", "LA", "PA", "La", "RGBa"}:
        return _on_white
    if mode == "RGB":
        return np.asarray
    return lambda band: np.asarray(band.convert("RGB"))


def _tag(picture: ImageFile.ImageFile, number: int) -> Any:
    return getattr(picture, "tag_v2", {}).get(number)


def _is_unsigned(picture: ImageFile.ImageFile) -> bool:
    return picture.mode == "I" and _tag(picture, _TIFF_SAMPLE_FORMAT) in {None, (_UNSIGNED,)}


def _as_unsigned(band: Image.Image) -> npt.NDArray[Any]:
    """Read unsigned 32-bit numbers, which Pillow keeps as signed ones."""
    return np.asarray(band).view(np.uint32)


def _value_range(picture: ImageFile.ImageFile, bands: Sequence[Box], read: Reader) -> tuple[float, float]:
    """Return the values of black and white: 0 and 1 for floats in that range, else the smallest and the largest."""
    low, high = np.inf, -np.inf
    for box in bands:
        values = read(picture.crop(box))
        values = values[np.isfinite(values)]
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    if picture.mode == "F" and low >= 0.0 and high <= 1.0:
        return 0.0, 1.0
    return (low, high) if low < high else (0.0, max(high, 1.0) if np.isfinite(high) else 1.0)


def _stretched(black: float, white: float, read: Reader = np.asarray) -> Converter:
    """Return a converter to grey that maps `black` to 0 and `white` to 255."""

    def convert(band: Image.Image) -> RgbArray:
        values = read(band).astype(np.float64)
        values = np.nan_to_num((values - black) * (255.0 / (white - black)), nan=0.0, posinf=255.0, neginf=0.0)
        grey = np.clip(np.rint(values), 0.0, 255.0).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)

    return convert


def _on_white(band: Image.Image) -> RgbArray:
    straight = {"La": "LA", "RGBa": "RGBA"}.get(band.mode, band.mode)
    rgba = band.convert(straight).convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))


def _lab_to_rgb(band: Image.Image) -> RgbArray:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(band, lab, srgb, outputMode="RGB")
    rgb: RgbArray = np.asarray(converted)
    return rgb
