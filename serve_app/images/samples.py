"""Reads samples from the unpacked lines of a TIFF, and converts them to 8-bit RGB on white. Does not use Pillow.

Source: TIFF 6.0, sections 14 (predictor), 16 (CMYK), 18 (alpha) and 19 (sample formats).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve_app.images.structure.tiff_layout import TiffLayout

Lines = NDArray[np.uint8]
Floats = NDArray[np.float64]

_DEEPEST_KNOWN = 16
"""Unsigned whole numbers of up to this many bits use the range of their depth. Deeper and signed ones are stretched."""
_PREDICTOR_FLOATS = 3
_CMYK = 4


def needed(layout: TiffLayout) -> int:
    """Return the number of samples per pixel that are needed: the colours and alpha, which come first."""
    return layout.colours + (layout.alpha is not None)


def value_range(planes: Sequence[Lines], bands: Sequence[slice], layout: TiffLayout) -> tuple[float, float]:
    """Find the sample values that become 0 and 255.

    Args:
        planes: (height, bytes per line) uint8 for each plane that is needed.
        bands: slices of lines that cover the picture.
        layout: the layout of the file.

    Returns:
        0 and the largest number of the depth for unsigned numbers of up to 16 bits; 0 and 1 for floats in that range;
        else the smallest and the largest finite value of all colours.
    """
    if layout.form == "u" and layout.bits <= _DEEPEST_KNOWN:
        return 0.0, float((1 << layout.bits) - 1)
    low, high = np.inf, -np.inf
    for band in bands:
        values = _samples([plane[band] for plane in planes], layout)[:, :, : layout.colours]
        values = values[np.isfinite(values)]
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    if layout.form == "f" and low >= 0.0 and high <= 1.0:
        return 0.0, 1.0
    return (low, high) if low < high else (0.0, max(high, 1.0) if np.isfinite(high) else 1.0)


def to_rgb(planes: Sequence[Lines], layout: TiffLayout, scale: tuple[float, float]) -> NDArray[np.uint8]:
    """Convert some lines to RGB.

    Args:
        planes: (lines, bytes per line) uint8 for each plane that is needed.
        layout: the layout of the file.
        scale: the result of `value_range`.

    Returns:
        (lines, width, 3) uint8.
    """
    pixels = _samples(planes, layout)
    low, high = scale
    colours = np.nan_to_num((pixels[:, :, : layout.colours] - low) / (high - low), nan=0.0, posinf=1.0, neginf=0.0)
    colours = np.clip(colours, 0.0, 1.0)
    alpha = None if layout.alpha is None else _opacity(pixels[:, :, layout.alpha], layout)[:, :, None]
    if alpha is not None and layout.premultiplied:
        colours = np.divide(colours, alpha, out=np.zeros_like(colours), where=alpha > 0).clip(0.0, 1.0)
    if layout.inverted:
        colours = 1.0 - colours
    if layout.colours == _CMYK:
        colours = (1.0 - colours[:, :, :3]) * (1.0 - colours[:, :, 3:])
    if alpha is not None:
        colours = colours * alpha + (1.0 - alpha)
    rgb = np.rint(colours * 255.0).astype(np.uint8)
    return np.repeat(rgb, 3, axis=2) if layout.colours == 1 else rgb


def _opacity(alpha: Floats, layout: TiffLayout) -> Floats:
    full = 1.0 if layout.form == "f" else float((1 << layout.bits - (layout.form == "i")) - 1)
    opacity: Floats = np.clip(np.nan_to_num(alpha / full), 0.0, 1.0)
    return opacity


def _samples(planes: Sequence[Lines], layout: TiffLayout) -> Floats:
    """Read the samples of some lines: (lines, width, samples) float64."""
    (width, _), (chunk_width, _) = layout.size_wh, layout.chunk_wh
    read = []
    for plane in planes:  # each line of each tile is stored, and predicted, separately
        lines = plane.reshape(len(plane) * layout.chunks_across, layout.chunk_line_bytes)
        samples = _line_samples(lines, layout, chunk_width, layout.samples // layout.planes)
        samples = samples.reshape(len(plane), layout.chunks_across * chunk_width, -1)
        read.append(samples[:, :width, : needed(layout)].astype(np.float64))
    return np.concatenate(read, axis=2) if len(read) > 1 else read[0]


def _line_samples(lines: Lines, layout: TiffLayout, width: int, samples: int) -> NDArray[Any]:
    """Read the samples of separately stored lines: (lines, width, samples), of the file's data type."""
    shape = (len(lines), width, samples)
    size = layout.bits // 8
    if layout.bits not in {8, 16, 32, 64}:
        return _packed_samples(lines, layout.bits, width * samples).reshape(shape)
    if layout.predictor == _PREDICTOR_FLOATS:
        return _float_differences(lines, shape, size)
    kind = np.dtype(f"{layout.order}{layout.form}{size}")
    values = np.ascontiguousarray(lines[:, : width * samples * size]).view(kind).reshape(shape)
    if layout.predictor == 2:
        whole = values.astype(kind.newbyteorder("=")).view(f"u{size}")
        values = np.cumsum(whole, axis=1, dtype=whole.dtype).view(f"{layout.form}{size}")
    return values


def _packed_samples(lines: Lines, bits: int, count: int) -> NDArray[np.uint32]:
    """Read numbers that are packed into the bits of a line, the highest bit first: (lines, count)."""
    single = np.unpackbits(lines, axis=1, count=bits * count).reshape(len(lines), count, bits)
    numbers = np.zeros((len(lines), count), np.uint32)
    for bit in range(bits):
        numbers <<= 1
        numbers |= single[:, :, bit]
    return numbers


def _float_differences(lines: Lines, shape: tuple[int, int, int], size: int) -> NDArray[Any]:
    """Undo predictor 3: a line has the highest bytes of all samples first, and stores differences of bytes.

    Source: TIFF Technical Note 3, "Floating point predictor".
    """
    height, width, samples = shape
    stored = lines[:, : width * samples * size].reshape(height, width * size, samples)
    planes = np.cumsum(stored, axis=1, dtype=np.uint8).reshape(height, size, width * samples)
    return np.ascontiguousarray(planes.transpose(0, 2, 1)).view(f">f{size}").reshape(shape)
