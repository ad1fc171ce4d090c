"""Puts annotated images on one sheet, with a legend of the objects found in each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw

from serve_app.images.fonts import without_boxes
from serve_app.images.lettering import draw_text, font_of, label_of, printable, shorten, width_of, wrap
from serve_app.images.palette import Rgb

_PANEL_WH = (640, 480)  # largest size of an image
_GAP = 24
_TITLE_SIZE = 22
_LEGEND_SIZE = 18
_LEGEND_LINE = 28
_MAX_COLUMNS = 4
_NOTE_SIZE = 20
_NOTE_LINE = 30
_MAX_NOTES = 40
_MAX_SWATCHES = 4  # for an entity of an image
_PAPER: Rgb = (250, 250, 252)
_INK: Rgb = (28, 28, 34)
_FAINT: Rgb = (168, 168, 178)
_FRAME: Rgb = (214, 214, 222)


@dataclass(frozen=True)
class Panel:
    """An image of a sheet.

    Attributes:
        title: the line above the image.
        image: the annotated image.
        counts: the number of objects by entity, also if it is 0; None if segmentation failed.
        highlighted: whether the image has a thick frame, as the generated image does.
        swatches: the colours of an entity's objects, if they differ from the entity's colour.
    """

    title: str
    image: Image.Image
    counts: Mapping[str, int] | None = field(default_factory=dict)
    highlighted: bool = False
    swatches: Mapping[str, Sequence[Rgb]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Entry:
    """An entity in a legend: pixels from the left, text, colours, and whether any object of it was found."""

    offset: int
    text: str
    colours: tuple[Rgb, ...]
    found: bool


def compare_sheet(panels: Sequence[Panel], colours: Mapping[str, Rgb], notes: Sequence[str] = ()) -> Image.Image:
    """Put images side by side, each below its title and above its number of objects by entity.

    Memory: 4 bytes per pixel of the sheet, 1.5 MB for a panel and its legend, and an RGB copy of one image at a time.

    Args:
        panels: the images in order, at least one. A row has up to four.
        colours: colours by entity, from `entity_colours`.
        notes: lines below all images; the first is larger than the others. At most 40 are shown.

    Returns:
        An RGB image. Images on it are scaled down to at most 640 x 480 pixels, never up.

    Raises:
        ValueError: `panels` is empty.
    """
    if not panels:
        raise ValueError("a sheet needs at least one image")
    columns = math.ceil(len(panels) / math.ceil(len(panels) / _MAX_COLUMNS))  # rows of nearly equal length
    rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    heights = [max(_panel_height(panel, colours) for panel in row) for row in rows]
    width = columns * (_PANEL_WH[0] + _GAP) + _GAP
    set_notes = _set_notes(notes, width - 2 * _GAP)
    height = sum(heights) + _GAP * (len(rows) + 1) + (_NOTE_LINE * len(set_notes) + _GAP if set_notes else 0)
    sheet = Image.new("RGB", (width, height), _PAPER)
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        for i, panel in enumerate(row):
            _draw_panel(sheet, panel, (_GAP + i * (_PANEL_WH[0] + _GAP), top), colours)
        top += height + _GAP
    _draw_notes(sheet, set_notes, top)
    return sheet


def _panel_height(panel: Panel, colours: Mapping[str, Rgb]) -> int:
    return _TITLE_SIZE + _GAP // 2 + _PANEL_WH[1] + _GAP // 2 + _LEGEND_LINE * len(_legend_lines(panel, colours))


def _draw_panel(sheet: Image.Image, panel: Panel, corner: tuple[int, int], colours: Mapping[str, Rgb]) -> None:
    draw = ImageDraw.Draw(sheet)
    left, top = corner
    title = shorten(without_boxes(printable(panel.title)), font_of(_TITLE_SIZE), _PANEL_WH[0])
    draw_text(draw, (left, top + _TITLE_SIZE / 2), title, font_of(_TITLE_SIZE), _INK)

    top += _TITLE_SIZE + _GAP // 2
    small = panel.image.convert("RGB")
    small.thumbnail(_PANEL_WH, Image.Resampling.LANCZOS, reducing_gap=3.0)
    image_corner = (left + (_PANEL_WH[0] - small.width) // 2, top + (_PANEL_WH[1] - small.height) // 2)
    x, y = image_corner
    frame = (x - 1, y - 1, x + small.width, y + small.height)
    if panel.highlighted:
        draw.rectangle((frame[0] - 3, frame[1] - 3, frame[2] + 3, frame[3] + 3), outline=_INK, width=4)
    else:
        draw.rectangle(frame, outline=_FRAME)
    sheet.paste(small, image_corner)

    top += _PANEL_WH[1] + _GAP // 2
    for line in _legend_lines(panel, colours):
        for entry in line:
            _draw_entry(draw, entry, (left, top + _LEGEND_LINE // 2))
        top += _LEGEND_LINE


def _draw_entry(draw: ImageDraw.ImageDraw, entry: _Entry, left_middle: tuple[int, int]) -> None:
    """Draw an entity's swatches, name and count; if the count is 0, empty swatches and faint letters."""
    x, y = left_middle[0] + entry.offset, left_middle[1]
    half = _LEGEND_SIZE // 3
    for colour in entry.colours:
        swatch = (x, y - half, x + 2 * half, y + half)
        draw.rounded_rectangle(swatch, radius=3, fill=colour if entry.found else None, outline=colour, width=2)
        x += 2 * half + 6
    draw_text(draw, (x, y), entry.text, font_of(_LEGEND_SIZE), _INK if entry.found else _FAINT)


def _legend_lines(panel: Panel, colours: Mapping[str, Rgb]) -> list[list[_Entry]]:
    """Arrange the entries of a legend in lines."""
    if panel.counts is None:
        return [[_Entry(0, "no result", (_FRAME,), found=False)]]
    font = font_of(_LEGEND_SIZE)
    lines: list[list[_Entry]] = [[]]
    x = 0
    for number, (entity, count) in enumerate(panel.counts.items(), start=1):
        suffix = f"  {count}"
        own = tuple(panel.swatches.get(entity, ()))[:_MAX_SWATCHES] or (colours.get(entity, _FRAME),)
        swatches = len(own) * (2 * (_LEGEND_SIZE // 3) + 6)
        max_width = _PANEL_WH[0] - swatches - width_of(suffix, font)
        text = shorten(label_of(entity, number), font, max_width) + suffix
        width = swatches + width_of(text, font)
        if x and x + width > _PANEL_WH[0]:
            lines.append([])
            x = 0
        lines[-1].append(_Entry(x, text, own, count > 0))
        x += width + _GAP
    return lines


def _set_notes(notes: Sequence[str], width: int) -> list[tuple[str, int]]:
    """Wrap the notes; return each line with its font size in pixels."""
    shown = [*notes[:_MAX_NOTES], *([f"and {len(notes) - _MAX_NOTES} more"] if len(notes) > _MAX_NOTES else [])]
    lines = []
    for index, note in enumerate(shown):
        size = _NOTE_SIZE if index else _TITLE_SIZE + 4
        lines += [(line, size) for line in wrap(without_boxes(printable(note)), font_of(size), width)]
    return lines


def _draw_notes(sheet: Image.Image, lines: Sequence[tuple[str, int]], top: int) -> None:
    draw = ImageDraw.Draw(sheet)
    for text, size in lines:
        draw_text(draw, (_GAP, top + _NOTE_LINE / 2), text, font_of(size), _INK)
        top += _NOTE_LINE
