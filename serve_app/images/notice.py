"""Draws lines of text on a panel at the edge of an image, where it hides least of the objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from serve_app.images.fonts import without_boxes
from serve_app.images.lettering import Box, draw_text, font_of, printable, shared_pixels, width_of, wrap
from serve_app.images.palette import Rgb

MAX_LINES = 20
"""Largest number of lines on a panel. The panel says how many more there are."""

_PAPER: Rgb = (24, 24, 30)
_PAPER_ALPHA = 0.82
_INK: Rgb = (255, 255, 255)
_BAR: Rgb = (255, 80, 80)
_WIDTHS = (1.0, 0.6, 0.4, 0.25)  # shares of the image's width that are tried
_MAX_AREA = 1 / 3  # share of the image
_MAX_HEIGHT = 0.6  # share of the image's height
_MAX_HIDDEN = 0.2  # share of an object's box
_STEPS = 8  # positions along an edge, less one
_INDENT = "   "  # before each row of a line except its first


@dataclass(frozen=True)
class _Column:
    """Lines wrapped to one width, and the number of rows that fit on the image."""

    lines: list[list[str]]
    max_rows: int


def draw_notice(canvas: Image.Image, lines: Sequence[str], font_size: int, avoid: Sequence[Box]) -> Box | None:
    """Draw lines on a dark panel of at most a third of the image's area.

    The panel shows as many lines as it can without hiding more than a fifth of any object's box. It shows at least one
    line, even if that hides more.

    Args:
        canvas: an RGB image; drawn on.
        lines: at least one; long lines are wrapped. A last row says how many lines are not shown.
        font_size: height of the font in pixels.
        avoid: the boxes of the objects.

    Returns:
        The box of the panel; None if the image is too small for one line.
    """
    columns = [_column(lines, font_size, canvas.size, share) for share in _WIDTHS]
    chosen: tuple[Box, list[str]] | None = None
    for kept in range(min(len(lines), MAX_LINES), 0, -1):
        panels = [rows for column in columns for rows in _rows(column, kept, len(lines))]
        places = [(box, rows) for rows in panels for box in _places(_size(rows, font_size), canvas.size)]
        if places:
            hidden = _hidden(np.array([box for box, _ in places]), avoid)
            worst = hidden.max(axis=1, initial=0.0)
            best = int((hidden.sum(axis=1) + len(avoid) * (worst > _MAX_HIDDEN)).argmin())
            chosen = places[best]
            if worst[best] <= _MAX_HIDDEN:
                break
    if chosen is None:
        return None
    _draw(canvas, *chosen, font_size)
    return chosen[0]


def _column(lines: Sequence[str], font_size: int, size_wh: tuple[int, int], share: float) -> _Column:
    """Wrap lines to a share of the image's width; no rows fit if that is too narrow to read."""
    font, padding = font_of(font_size), _padding(font_size)
    max_width = int(size_wh[0] * share) - 3 * padding - width_of(_INDENT, font)
    height = int(size_wh[1] * min(_MAX_HEIGHT, _MAX_AREA / share)) - 2 * padding
    if max_width < 8 * font_size:
        return _Column([], 0)
    wrapped = [wrap(without_boxes(printable(line)), font, max_width) for line in lines[:MAX_LINES]]
    return _Column(wrapped, height // _row_height(font_size))


def _rows(column: _Column, kept: int, count: int) -> Iterator[list[str]]:
    """Yield the rows of the first `kept` of `count` lines, if they fit on the image."""
    rows = [f"{_INDENT if index else ''}{row}" for line in column.lines[:kept] for index, row in enumerate(line)]
    if kept < count:
        rows.append(f"and {count - kept} more")
    if column.lines and len(rows) <= column.max_rows:
        yield rows


def _size(rows: Sequence[str], font_size: int) -> tuple[int, int]:
    """Return width and height of a panel, in pixels."""
    font, padding = font_of(font_size), _padding(font_size)
    return max(width_of(row, font) for row in rows) + 3 * padding, len(rows) * _row_height(font_size) + 2 * padding


def _places(size: tuple[int, int], size_wh: tuple[int, int]) -> list[Box]:
    """Return boxes of a size along the edges of an image: at the bottom, the top, then the sides."""
    width, height = size
    right, bottom = size_wh[0] - width, size_wh[1] - height
    steps = [step / _STEPS for step in range(_STEPS + 1)]
    level = [(round(right * step), y) for y in (bottom, 0) for step in steps]
    upright = [(x, round(bottom * step)) for x in (0, right) for step in steps[1:-1]]
    return [(x, y, x + width, y + height) for x, y in level + upright]


def _hidden(places: NDArray[np.int64], boxes: Sequence[Box]) -> NDArray[np.float64]:
    """Return the share of each of M boxes that each of N positions hides: (N, M) in [0, 1]."""
    areas = np.array([(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in boxes], dtype=np.float64)
    return shared_pixels(places, boxes) / np.maximum(areas, 1.0)


def _draw(canvas: Image.Image, box: Box, rows: Sequence[str], font_size: int) -> None:
    x1, y1, x2, y2 = box
    padding, row_height = _padding(font_size), _row_height(font_size)
    canvas.paste(_PAPER, box, Image.new("L", (x2 - x1, y2 - y1), round(255 * _PAPER_ALPHA)))
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((x1, y1, x1 + max(1, padding // 2), y2 - 1), fill=_BAR)
    for index, row in enumerate(rows):
        middle = (x1 + 2 * padding, y1 + padding + (index + 0.5) * row_height)
        draw_text(draw, middle, row, font_of(font_size), _INK)


def _row_height(font_size: int) -> int:
    return round(font_size * 1.35)


def _padding(font_size: int) -> int:
    return max(3, round(font_size * 0.4))
