"""Draws text on images: fits it into a width, and finds a free position for a label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw

from serve_app.images.fonts import Font, readable
from serve_app.images.palette import Rgb, text_colour

Box = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels, ends excluded

_ELLIPSIS = "..."
_MAX_ROWS = 64  # rows of positions that are tried inside a box


def font_of(size: int) -> Font:
    """Return a font with a height of `size` pixels, at least 1."""
    return Font(size)


def width_of(text: str, font: Font) -> int:
    """Return the width of a line of text, in pixels, rounded up."""
    return int(-(-font.width(text) // 1))


def printable(text: str) -> str:
    """Return a text on one line; line breaks, tabs and control characters become spaces."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def label_of(text: str, number: int) -> str:
    """Return a label on one line, or its number ("#3") if the fonts lack its letters."""
    return readable(printable(text)) or (f"#{number}" if printable(text) else "")


def shorten(text: str, font: Font, max_width: int) -> str:
    """Cut a text to a width in pixels and end it with "..."; "" if not even one letter fits."""
    if width_of(text, font) <= max_width:
        return text
    fits, too_long = 0, len(text)  # bisection of the number of letters to keep, because labels may be long
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if width_of(text[:middle].rstrip() + _ELLIPSIS, font) <= max_width:
            fits = middle
        else:
            too_long = middle
    return text[:fits].rstrip() + _ELLIPSIS if fits else ""


def wrap(text: str, font: Font, max_width: int) -> list[str]:
    """Break a text at its spaces into lines of at most `max_width` pixels; cut longer words.

    Returns:
        At least one line; [""] for an empty text.
    """
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if width_of(longer, font) <= max_width:
            lines[-1] = longer
        else:
            lines += [shorten(word, font, max_width)]
    return [line for line in lines if line] or [""]


def tag_size(text: str, font_size: int) -> tuple[int, int]:
    """Return width and height of the tag that `draw_tag` draws, in pixels."""
    padding = _padding(font_size)
    return width_of(text, font_of(font_size)) + 2 * padding, round(font_size * 1.15) + padding


def draw_tag(draw: ImageDraw.ImageDraw, box: Box, text: str, font_size: int, colour: Rgb) -> None:
    """Draw a text on a filled, rounded box of the size that `tag_size` returns."""
    draw.rounded_rectangle((box[0], box[1], box[2] - 1, box[3] - 1), radius=max(1, font_size // 6), fill=colour)
    middle = (box[0] + _padding(font_size), (box[1] + box[3]) / 2)
    draw_text(draw, middle, text, font_of(font_size), text_colour(colour))


def draw_text(draw: ImageDraw.ImageDraw, left_middle: tuple[float, float], text: str, font: Font, colour: Rgb) -> None:
    """Draw a line of text; `left_middle` is the middle of its left side."""
    x, y = left_middle
    for part, face in font.runs(text):
        draw.text((x, y), part, font=face, fill=colour, anchor="lm")
        x += face.getlength(part)


def _padding(font_size: int) -> int:
    return max(2, round(font_size * 0.3))


def place_tag(size: tuple[int, int], box: Box, bounds: Box, taken: Sequence[Box]) -> Box:
    """Find a position for a tag near a box.

    Work: at most 210 positions, each compared with every tag.

    Args:
        size: the tag's width and height in pixels.
        box: the box of the object that the tag names.
        bounds: the image. The tag stays inside if it is small enough.
        taken: the tags placed before.

    Returns:
        The first position that covers no other tag. Positions are tried above the box, then inside, below, and beside
        it. If each covers a tag, the position that covers the fewest pixels of tags.
    """
    positions = _within(np.array(_positions(size, box)), size, bounds)
    covered = covered_pixels(positions, taken)
    x1, y1, x2, y2 = positions[covered.argmin()].tolist()  # the first of the least
    return x1, y1, x2, y2


def _within(corners: NDArray[np.int64], size: tuple[int, int], bounds: Box) -> NDArray[np.int64]:
    """Move boxes, given by their top left corners (N, 2), inside the bounds; return (N, 4)."""
    corners = np.maximum(np.minimum(corners, np.array(bounds[2:]) - size), bounds[:2])
    return np.concatenate([corners, corners + size], axis=1)


def _positions(size: tuple[int, int], box: Box) -> list[tuple[int, int]]:
    width, height = size
    x1, y1, x2, y2 = box
    lefts = (x1, x2 - width, (x1 + x2 - width) // 2)
    step = max(height, (y2 - y1) // _MAX_ROWS)
    tops = [y1 - height, y1, y2, y2 - height, *range(y1 + height, y2 - 2 * height + 1, step)]
    beside = [(x, y) for y in (y1, y2 - height) for x in (x2, x1 - width)]
    around = [(x1, y1 - k * height) for k in (2, 3)] + [(x1, y2 + k * height) for k in (1, 2)]
    return [(x, y) for y in tops for x in lefts] + beside + around


def covered_pixels(positions: NDArray[np.int64], taken: Sequence[Box]) -> NDArray[np.int64]:
    """Sum the pixels that each of N boxes shares with M others: (N, 4) to (N,)."""
    covered: NDArray[np.int64] = shared_pixels(positions, taken).sum(axis=1)
    return covered


def shared_pixels(positions: NDArray[np.int64], others: Sequence[Box]) -> NDArray[np.int64]:
    """Count the pixels that each of N boxes shares with each of M others: (N, 4) to (N, M)."""
    boxes = np.array(others, dtype=np.int64).reshape(-1, 4)
    ends = np.minimum(positions[:, None, 2:], boxes[None, :, 2:])
    sides = np.maximum(ends - np.maximum(positions[:, None, :2], boxes[None, :, :2]), 0)
    shared: NDArray[np.int64] = sides.prod(axis=2)
    return shared
