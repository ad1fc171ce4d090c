"""Many annotated images on one sheet: contextual ones beside the generated one, with what was found in each. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw

from serve_app.images.fonts import without_boxes
from serve_app.images.lettering import draw_text, font_of, label_of, printable, shorten, width_of
from serve_app.images.palette import Rgb

_PANEL_WH = (640, 480)  # room for one image
_GAP = 24
_TITLE_SIZE = 22
_LEGEND_SIZE = 18
_LEGEND_LINE = 28
_MAX_COLUMNS = 4
_PAPER: Rgb = (250, 250, 252)
_INK: Rgb = (28, 28, 34)
_FAINT: Rgb = (168, 168, 178)
_FRAME: Rgb = (214, 214, 222)


@dataclass(frozen=True)
class Panel:
    """One image of a sheet.

    `title` stands above it; `image` is annotated already; `counts` are the objects found by entity, 0 included, None
    where the image failed; `highlighted` frames the generated image.
    """

    title: str
    image: Image.Image
    counts: Mapping[str, int] | None = field(default_factory=dict)
    highlighted: bool = False


def compare_sheet(panels: Sequence[Panel], colours: Mapping[str, Rgb]) -> Image.Image:
    """Put images side by side, each with its title above and its objects counted by entity below.

    Bound: 4 bytes a pixel of the sheet, 1.5 MB a panel and its legend, and an RGB copy of one image at a time.

    Args:
        panels: in the order of the sheet, at least one; rows of up to four.
        colours: by entity, from `entity_colours`.

    Returns:
        An RGB image; no image on it is enlarged, and none is larger than 640 by 480.

    Raises:
        ValueError: there is no panel.
    """
    if not panels:
        raise ValueError("a sheet needs at least one image")
    columns = math.ceil(len(panels) / math.ceil(len(panels) / _MAX_COLUMNS))  # rows of nearly equal length
    rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    heights = [max(_panel_height(panel) for panel in row) for row in rows]
    width = columns * (_PANEL_WH[0] + _GAP) + _GAP
    sheet = Image.new("RGB", (width, sum(heights) + _GAP * (len(rows) + 1)), _PAPER)
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        for i, panel in enumerate(row):
            _draw_panel(sheet, panel, (_GAP + i * (_PANEL_WH[0] + _GAP), top), colours)
        top += height + _GAP
    return sheet


def _panel_height(panel: Panel) -> int:
    return _TITLE_SIZE + _GAP // 2 + _PANEL_WH[1] + _GAP // 2 + _LEGEND_LINE * len(_legend_lines(panel.counts))


def _draw_panel(sheet: Image.Image, panel: Panel, corner: tuple[int, int], colours: Mapping[str, Rgb]) -> None:
    draw = ImageDraw.Draw(sheet)
    left, top = corner
    title = shorten(without_boxes(printable(panel.title)), font_of(_TITLE_SIZE), _PANEL_WH[0])
    draw_text(draw, (left, top + _TITLE_SIZE / 2), title, font_of(_TITLE_SIZE), _INK)

    top += _TITLE_SIZE + _GAP // 2
    small = panel.image.convert("RGB")
    small.thumbnail(_PANEL_WH, Image.Resampling.LANCZOS, reducing_gap=3.0)
    place = (left + (_PANEL_WH[0] - small.width) // 2, top + (_PANEL_WH[1] - small.height) // 2)
    frame = (place[0] - 1, place[1] - 1, place[0] + small.width, place[1] + small.height)
    if panel.highlighted:
        draw.rectangle((frame[0] - 3, frame[1] - 3, frame[2] + 3, frame[3] + 3), outline=_INK, width=4)
    else:
        draw.rectangle(frame, outline=_FRAME)
    sheet.paste(small, place)

    top += _PANEL_WH[1] + _GAP // 2
    for line in _legend_lines(panel.counts):
        for offset, text, entity, count in line:
            _draw_entry(draw, (left + offset, top + _LEGEND_LINE // 2), text, colours.get(entity, _FRAME), count)
        top += _LEGEND_LINE


def _draw_entry(draw: ImageDraw.ImageDraw, middle: tuple[int, int], text: str, colour: Rgb, count: int) -> None:
    """One entity: a swatch and its count; an outlined swatch and faint letters where there is none."""
    x, y = middle
    half = _LEGEND_SIZE // 3
    swatch = (x, y - half, x + 2 * half, y + half)
    draw.rounded_rectangle(swatch, radius=3, fill=colour if count else None, outline=colour, width=2)
    draw_text(draw, (x + 2 * half + 6, y), text, font_of(_LEGEND_SIZE), _INK if count else _FAINT)


def _legend_lines(counts: Mapping[str, int] | None) -> list[list[tuple[int, str, str, int]]]:
    """Set the entries of a legend into lines: (offset from the left, text, entity, count) of each."""
    if counts is None:
        return [[(0, "no result", "", 0)]]
    font = font_of(_LEGEND_SIZE)
    swatch = 2 * (_LEGEND_SIZE // 3) + 6
    lines: list[list[tuple[int, str, str, int]]] = [[]]
    x = 0
    for place, (entity, count) in enumerate(counts.items(), start=1):
        number = f"  {count}"
        room = _PANEL_WH[0] - swatch - width_of(number, font)
        text = shorten(label_of(entity, place), font, room) + number
        width = swatch + width_of(text, font)
        if x and x + width > _PANEL_WH[0]:
            lines.append([])
            x = 0
        lines[-1].append((x, text, entity, count))
        x += width + _GAP
    return lines
