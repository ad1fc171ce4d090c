"""The stock mask arithmetic, bit for bit: `torch.sigmoid`, then `interpolate(mode="bilinear", align_corners=False)`.

A mask's outline lies where an interpolated probability crosses the threshold, so one different last bit may flip a
pixel. The functions here repeat torch's CPU kernels operation by operation in float32, fused multiply-adds included,
which is what lets `from_logits` compute the pixels near an outline alone and still give the very same mask.
Knows nothing of masks, thresholds or RLE.

Source: torch 2.14, aten/src/ATen/native/cpu/UpSampleKernel.cpp and UpSample.h; Sleef 3.8 `xexpf` (1.0 ULP).
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
# Sleef's exponential: argument reduction by log 2 in two parts, then a polynomial.
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
# (On one thread it does so for exactly three masks too; on more, and here, it does not.)
_FOUR_TAP_MAX_SIDES = 128


@dataclass(frozen=True)
class Taps:
    """The two input samples of each output sample along one axis, and their weights.

    `first` is non-decreasing; `second` is `first` + 1, or `first` at the far edge and where the axis keeps its size;
    `weight_first` + `weight_second` is 1 up to rounding.
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
    """Compute a * b + c in float32 with one rounding, as a fused multiply-add does.

    The product of two float32 is exact in float64, so only the sum is rounded there: to 53 bits, then to 24.
    """
    product = np.multiply(a, b, dtype=np.float64)
    return np.asarray(product + c).astype(np.float32)


def sigmoid(logits: Float32) -> Float32:
    """Compute `torch.sigmoid` of float32 logits; NaN stays NaN, infinities give 0 and 1."""
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
    """Interpolate between two samples; the arrays broadcast."""
    return fused(weight_first, first, weight_second * second)


def uses_four_taps(size_hw: tuple[int, int]) -> bool:
    """Tell which of its two kernels torch runs for this output size."""
    return size_hw[0] + size_hw[1] <= _FOUR_TAP_MAX_SIDES


def four_taps(corners: Float32, weights_y: Float32, weights_x: Float32) -> Float32:
    """Interpolate within cells, all four neighbours at once.

    Args:
        corners: (4, M): top left, top right, bottom left, bottom right.
        weights_y: (2, M), of top and bottom.
        weights_x: (2, M), of left and right.

    Returns:
        (M,) float32.
    """
    total = fused(weights_y[0] * weights_x[0], corners[0], (weights_y[0] * weights_x[1]) * corners[1])
    total = fused(weights_y[1] * weights_x[0], corners[2], total)
    return fused(weights_y[1] * weights_x[1], corners[3], total)
