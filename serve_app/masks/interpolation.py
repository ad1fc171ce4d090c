"""Repeats torch's `sigmoid` and bilinear `interpolate` (align_corners=False) on the CPU, bit for bit.

A mask's outline is where an interpolated probability crosses the threshold, so a different last bit can flip a pixel.
The functions here repeat torch's CPU kernels operation by operation in float32, including fused multiply-adds. So
`from_logits` can compute only the pixels near an outline and still get the same mask. The module does not use masks,
thresholds or RLE.

Source: torch 2.14, aten/src/ATen/native/cpu/UpSampleKernel.cpp and UpSample.h; Sleef 3.8, `xexpf` (1.0 ULP).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Indices = NDArray[np.int64]

_ONE = np.float32(1.0)
_HALF = np.float32(0.5)
# Sleef's exponential subtracts multiples of log 2 (in two parts) from the argument, then evaluates a polynomial.
_LOG2_E = np.float32(1.44269504088896340736)
_LN2_HIGH = np.float32(0.693145751953125)
_LN2_LOW = np.float32(1.428606765330187045e-06)
_EXP_COEFFICIENTS = tuple(
    np.float32(c)
    for c in (
        0.000198527617612853646278381,
        0.00139304355252534151077271,
        0.00833336077630519866943359,
        0.0416664853692054748535156,
        0.166666671633720397949219,
        0.5,
    )
)
_EXP_RANGE = np.float32(104.5)  # exp is 0 below and infinite above, in float32

# Up to this sum of output height and width, torch interpolates with all four neighbours at once, not line by line.
# (On one thread, torch also does so for exactly three masks. On several threads it does not, and neither does this.)
_FOUR_TAP_MAX_SIDES = 128


@dataclass(frozen=True)
class Taps:
    """The two input samples of each output sample along one axis, and their weights.

    Attributes:
        first: indices of the first samples, non-decreasing.
        second: `first` + 1; the same as `first` at the far edge, or if the axis keeps its size.
        weight_first: weights of the first samples.
        weight_second: weights of the second samples; both weights add up to 1, except for rounding.
    """

    first: Indices
    second: Indices
    weight_first: Float32
    weight_second: Float32


def taps(size_in: int, size_out: int) -> Taps:
    """Compute the taps of one axis.

    Args:
        size_in: samples of the grid, at least 1.
        size_out: samples of the output, at least 1.
    """
    scale = np.float32(size_in) / np.float32(size_out)
    centre = np.arange(size_out, dtype=np.float32) + _HALF
    source = np.maximum(fused(scale, centre, -_HALF), np.float32(0.0))
    first = np.minimum(source.astype(np.int64), size_in - 1)
    weight_second = np.clip(source - first.astype(np.float32), np.float32(0.0), _ONE)
    second = first if size_in == size_out else np.minimum(first + 1, size_in - 1)
    return Taps(first, second, _ONE - weight_second, weight_second)


def fused(a: Any, b: Any, c: Any) -> Float32:
    """Compute a * b + c in float32 like a fused multiply-add.

    The product of two float32 is exact in float64. Only the sum is rounded: to 53 bits, then to 24.
    """
    product = np.multiply(a, b, dtype=np.float64)
    return np.asarray(product + c).astype(np.float32)


def sigmoid(logits: Float32) -> Float32:
    """Compute the same as `torch.sigmoid` of float32 logits. NaN stays NaN; infinities give 0 and 1."""
    with np.errstate(over="ignore", invalid="ignore"):
        exponent = np.clip(-logits, -_EXP_RANGE, _EXP_RANGE)
        power = np.rint(exponent * _LOG2_E)
        rest = fused(power, -_LN2_LOW, fused(power, -_LN2_HIGH, exponent))
        series = np.full_like(rest, _EXP_COEFFICIENTS[0])
        for coefficient in _EXP_COEFFICIENTS[1:]:
            series = fused(series, rest, coefficient)
        series = _ONE + fused(rest * rest, series, rest)
        return np.asarray(_ONE / (_ONE + np.ldexp(series, power.astype(np.int32))), dtype=np.float32)


def line(first: Float32, second: Float32, weight_first: Float32, weight_second: Float32) -> Float32:
    """Interpolate between two samples. The arrays are broadcast."""
    return fused(weight_first, first, weight_second * second)


def uses_four_taps(size_hw: tuple[int, int]) -> bool:
    """Tell whether torch interpolates an output of this size with all four neighbours at once."""
    return size_hw[0] + size_hw[1] <= _FOUR_TAP_MAX_SIDES


def four_taps(corners: Float32, weights_y: Float32, weights_x: Float32) -> Float32:
    """Interpolate in cells with all four neighbours at once.

    Args:
        corners: (4, M): values at the top left, top right, bottom left and bottom right.
        weights_y: (2, M): weights of top and bottom.
        weights_x: (2, M): weights of left and right.

    Returns:
        (M,) float32.
    """
    total = fused(weights_y[0] * weights_x[0], corners[0], (weights_y[0] * weights_x[1]) * corners[1])
    total = fused(weights_y[1] * weights_x[0], corners[2], total)
    return fused(weights_y[1] * weights_x[1], corners[3], total)
