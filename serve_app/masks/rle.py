"""Encodes and decodes COCO run-length encoding (RLE), the form of masks inside this package.

An RLE's *run lengths* count pixels down the columns, one column after another. Runs outside and inside the mask
alternate. The first run is outside, so its length may be 0.

    mask     | run lengths    | meaning
    ---------+----------------+--------------------------------------------------------
    . #      | 1, 3           | column 1: one pixel outside, one inside; column 2: two inside
    # #      |                |

The text (`counts`) stores the first three run lengths as they are, and each later one as its difference from the last
but one before it. A number is written in groups of five bits, the lowest first, one character (from "0" on) per group.
Of a group's six bits, 0x20 says that more groups follow; 0x10 of the last group is the sign.

pycocotools is imported only when it is needed, because the models, which return logits, run without it.

Source: pycocotools 2.0, common/maskApi.c (rleToString, rleFrString).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve_app.schemas.dicts import RleDict

_FIRST_CHARACTER = 48
_LONGEST_NUMBER = 7
_CHANGES_AT_ONCE = 1 << 20


def encode_rle(mask: NDArray[np.bool_]) -> RleDict:
    """Encode a mask.

    Args:
        mask: (H, W) bool, each side at least 1; Fortran order is fastest.

    >>> encode_rle(np.array([[False, True], [True, True]]))
    {'size': [2, 2], 'counts': '13'}
    """
    pixels = np.asfortranarray(mask, dtype=np.bool_).view(np.uint8)
    encoded: bytes = _coco().encode(pixels[:, :, None])[0]["counts"]
    return {"size": list(mask.shape), "counts": encoded.decode("ascii")}


def decode_rle(rle: RleDict) -> NDArray[np.bool_]:
    """Decode an RLE.

    Returns:
        (H, W) bool, in Fortran order.

    Raises:
        ValueError: the counts are malformed or do not fill the size.
    """
    lengths = run_lengths(rle)
    inside = np.arange(len(lengths)) % 2 == 1
    height, width = rle["size"]
    mask: NDArray[np.bool_] = np.repeat(inside, lengths).reshape(width, height).T
    return mask


def decode_box(rle: RleDict, box: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """Decode a part of a mask. The cost depends on the size of that part and on the number of runs.

    Args:
        rle: the whole mask.
        box: x1, y1, x2, y2 in pixels, inside the mask's size; x2 and y2 are exclusive.

    Returns:
        (y2 - y1, x2 - x1) bool, in Fortran order.

    Raises:
        ValueError: the counts are malformed or do not fill the size.
    """
    lengths = run_lengths(rle)
    x1, y1, x2, y2 = box
    height = y2 - y1
    # The ends of the runs, as the number of pixels of the box before them.
    column, row = np.divmod(np.concatenate([[0], np.cumsum(lengths)]), int(rle["size"][0]))
    edges = np.clip((column - x1) * height + np.clip(row - y1, 0, height), 0, (x2 - x1) * height)
    inside = np.arange(len(lengths)) % 2 == 1
    part: NDArray[np.bool_] = np.repeat(inside, np.diff(edges)).reshape(x2 - x1, height).T
    return part


def decode_packed(rle: RleDict) -> NDArray[np.uint8]:
    """Decode a mask to bits. Memory: an eighth of a byte per pixel, and more for each run.

    Returns:
        (H, ceil(W / 8)) uint8. A byte has eight pixels of a row, the leftmost in the highest bit. Bits after the end of
        a row are 0.

    Raises:
        ValueError: the counts are malformed or do not fill the size.
    """
    lengths = run_lengths(rle)
    height, width = (int(side) for side in rle["size"])
    bits = np.zeros((height, -(-width // 64) * 8), dtype=np.uint8)  # rows of whole 64-bit words are faster
    changes = np.cumsum(lengths, out=lengths)
    changes = changes[: np.searchsorted(changes, height * width)]
    # Set a bit where the mask begins or ends in a column. A pixel is then the XOR of the bits from the top down to it.
    for start in range(0, len(changes), _CHANGES_AT_ONCE):
        column, row = np.divmod(changes[start : start + _CHANGES_AT_ONCE], height)
        np.bitwise_xor.at(bits.reshape(-1), row * bits.shape[1] + (column >> 3), (128 >> (column & 7)).astype(np.uint8))
    # The first pixel of a column continues the run that ends the column before, unless a change is there.
    first = np.packbits(np.searchsorted(changes, np.arange(width) * height) % 2 == 1)
    bits[0, : len(first)] ^= first
    words = bits.view(np.uint64)
    np.bitwise_xor.accumulate(words, axis=0, out=words)
    return bits[:, : len(first)]


def check_rle(rle: RleDict, size_hw: tuple[int, int]) -> RleDict:
    """Check an RLE from outside without decoding it, because pycocotools does not check it.

    Args:
        rle: an RLE that may be malformed.
        size_hw: the height and width in pixels that it must have.

    Returns:
        The same RLE.

    Raises:
        ValueError: the mask has another size, or the counts are malformed or do not fill the size.
    """
    (height, width), wanted = rle["size"], size_hw
    if (height, width) != wanted:
        raise ValueError(f"a mask of {width}x{height} pixels on an image of {wanted[1]}x{wanted[0]}")
    run_lengths(rle)
    return rle


def run_lengths(rle: RleDict) -> NDArray[np.int64]:
    """Read and check the run lengths of an RLE.

    pycocotools does not check them: for counts that are too short, it returns the contents of unrelated memory.

    Returns:
        (K,) int64, each at least 0. Their sum is the number of pixels.

    Raises:
        ValueError: the counts are malformed or do not fill the size.
    """
    height, width = (int(side) for side in rle["size"])
    text = rle["counts"].encode("latin-1", "replace")
    lengths = _numbers(np.frombuffer(text, dtype=np.uint8).astype(np.int64) - _FIRST_CHARACTER)
    for chain in (lengths[1::2], lengths[2::2]):  # stored as differences from the last but one
        np.cumsum(chain, out=chain)
    if min(height, width) < 1 or (lengths < 0).any() or lengths.sum() != height * width:
        raise ValueError(f"the RLE's counts do not fill its size {height}x{width}")
    return lengths


def rle_from_run_lengths(lengths: NDArray[Any], size_hw: tuple[int, int]) -> RleDict:
    """Write run lengths as an RLE.

    Args:
        lengths: (K,) integers, whose sum is the number of pixels. Only the first may be 0.
        size_hw: height and width in pixels.
    """
    size = [int(side) for side in size_hw]
    encoded: bytes = _coco().frPyObjects({"size": size, "counts": lengths}, *size)["counts"]
    return {"size": size, "counts": encoded.decode("ascii")}


def area(rle: RleDict) -> int:
    """Count the pixels of the mask."""
    return int(_coco().area(dict(rle)))


def union_area(rles: Sequence[RleDict]) -> int:
    """Count the pixels that belong to at least one mask.

    Args:
        rles: well-formed RLEs of the same size.

    Returns:
        The number of pixels; 0 for no masks.
    """
    if not rles:
        return 0
    coded = [{"size": each["size"], "counts": each["counts"].encode()} for each in rles]
    return int(_coco().area(_coco().merge(coded)))


def bounds(rle: RleDict) -> tuple[int, int, int, int]:
    """Return the smallest box around the mask: x1, y1, x2, y2 in pixels, x2 and y2 exclusive; all 0 if it is empty."""
    x, y, width, height = (round(value) for value in _coco().toBbox(dict(rle)).tolist())
    return (x, y, x + width, y + height) if width and height else (0, 0, 0, 0)


def _coco() -> Any:
    from pycocotools import mask

    return mask


def _numbers(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Join groups of five bits into signed numbers."""
    ends = np.flatnonzero((groups & 0x20) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    malformed = not len(ends) or ends[-1] != len(groups) - 1 or ((groups < 0) | (groups > 0x3F)).any()
    if malformed or (ends - starts).max() >= _LONGEST_NUMBER:
        raise ValueError("the RLE's counts are malformed")
    digit = np.arange(len(groups)) - np.repeat(starts, ends - starts + 1)
    magnitude = np.add.reduceat((groups & 0x1F) << (5 * digit), starts)
    sign = np.where(groups[ends] & 0x10, np.int64(-1) << (5 * (digit[ends] + 1)), 0)
    return np.asarray(magnitude | sign, dtype=np.int64)


def iou_matrix(first: Sequence[RleDict], second: Sequence[RleDict]) -> NDArray[np.float64]:
    """Compute the intersection over union of each pair of masks, without decoding them.

    Args:
        first: well-formed RLEs of one size; pycocotools does not check them.
        second: more of them, of the same size.

    Returns:
        (len(first), len(second)) float64 in [0, 1]; 0 for two empty masks.
    """
    if not first or not second:
        return np.zeros((len(first), len(second)))
    coded = [[{"size": each["size"], "counts": each["counts"].encode()} for each in side] for side in (first, second)]
    ious: NDArray[np.float64] = _coco().iou(coded[0], coded[1], [0] * len(second))
    return np.nan_to_num(ious)
