"""Text in pictures: fonts, fitting a text into a width, finding room for a label. Knows no objects and no masks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from PIL import ImageDraw, ImageFont

from serve_app.palette import Rgb, text_colour

Box = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels, ends excluded
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_ELLIPSIS = "..."


@lru_cache(maxsize=32)
def font_of(size: int) -> Font:
    """Pillow's own scalable font; letters it lacks are drawn as boxes.

    Args:
        size: height in pixels, at least 1.
    """
    return ImageFont.load_default(size)


def width_of(text: str, font: Font) -> int:
    """Width of one line, in pixels, rounded up."""
    return int(-(-font.getlength(text) // 1))


def printable(text: str) -> str:
    """Put a text on one line: line breaks, tabs and control characters become spaces."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def shorten(text: str, font: Font, max_width: int) -> str:
    """Cut a text to a width, with an ellipsis; "" where not even that fits."""
    if width_of(text, font) <= max_width:
        return text
    fits, too_long = 0, len(text)  # letters kept: bisection, since labels may be long
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if width_of(text[:middle].rstrip() + _ELLIPSIS, font) <= max_width:
            fits = middle
        else:
            too_long = middle
    return text[:fits].rstrip() + _ELLIPSIS if fits else ""


def tag_size(text: str, font_size: int) -> tuple[int, int]:
    """Width and height of the tag that `draw_tag` draws, in pixels."""
    padding = _padding(font_size)
    return width_of(text, font_of(font_size)) + 2 * padding, round(font_size * 1.15) + padding


def draw_tag(draw: ImageDraw.ImageDraw, box: Box, text: str, font_size: int, colour: Rgb) -> None:
    """Draw a text on a filled, rounded box of `tag_size`."""
    draw.rounded_rectangle((box[0], box[1], box[2] - 1, box[3] - 1), radius=max(1, font_size // 6), fill=colour)
    middle = (box[0] + _padding(font_size), (box[1] + box[3]) / 2)
    draw.text(middle, text, font=font_of(font_size), fill=text_colour(colour), anchor="lm")


def _padding(font_size: int) -> int:
    return max(2, round(font_size * 0.3))


def place_tag(size: tuple[int, int], box: Box, bounds: Box, taken: Sequence[Box]) -> Box:
    """Find room for a tag near a box.

    Args:
        size: the tag's width and height in pixels.
        box: what it names.
        bounds: the image; the tag stays inside where it is small enough.
        taken: tags placed before.

    Returns:
        The first place that covers no other tag, going from above the box over its inside to below it; where there is
        none, the one that covers least.
    """
    best, least = bounds, None
    for x, y in _places(size, box):
        left = max(bounds[0], min(x, bounds[2] - size[0]))
        top = max(bounds[1], min(y, bounds[3] - size[1]))
        place = (left, top, left + size[0], top + size[1])
        covered = sum(overlap(place, other) for other in taken)
        if covered == 0:
            return place
        if least is None or covered < least:
            best, least = place, covered
    return best


def _places(size: tuple[int, int], box: Box) -> list[tuple[int, int]]:
    width, height = size
    x1, y1, x2, y2 = box
    lefts = (x1, x2 - width, (x1 + x2 - width) // 2)
    tops = [y1 - height, y1, y2, y2 - height, *range(y1 + height, y2 - 2 * height + 1, height)]
    beside = [(x, y) for y in (y1, y2 - height) for x in (x2, x1 - width)]
    around = [(x1, y1 - k * height) for k in (2, 3)] + [(x1, y2 + k * height) for k in (1, 2)]
    return [(x, y) for y in tops for x in lefts] + beside + around


def overlap(a: Box, b: Box) -> int:
    """Pixels that two boxes share."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(0, width) * max(0, height)
