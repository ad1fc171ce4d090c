"""Colours for entities and individuals, and text colours that are readable on them."""

from __future__ import annotations

from collections.abc import Sequence

Rgb = tuple[int, int, int]

# Ten colours chosen by eye. Each later colour is the one with the largest distance to all before it in OKLab (with
# lightness weighted by 1.3), among colours that are neither pale nor dark. The smallest distance is 0.10.
_COLOURS: tuple[Rgb, ...] = (
    (255, 64, 64),
    (30, 144, 255),
    (60, 200, 75),
    (255, 190, 0),
    (178, 102, 255),
    (0, 210, 210),
    (255, 128, 0),
    (255, 90, 190),
    (160, 220, 20),
    (70, 90, 235),
    (105, 105, 0),
    (255, 195, 255),
    (165, 45, 120),
    (45, 150, 135),
    (180, 165, 240),
    (180, 120, 0),
    (75, 255, 210),
    (165, 0, 225),
    (180, 105, 150),
    (210, 0, 0),
    (45, 105, 150),
    (225, 0, 165),
    (255, 150, 165),
    (0, 150, 0),
    (180, 180, 105),
    (240, 0, 255),
    (255, 135, 255),
    (150, 75, 60),
    (135, 225, 255),
    (60, 180, 255),
    (0, 255, 0),
    (135, 90, 180),
)
_DARK: Rgb = (0, 0, 0)
_LIGHT: Rgb = (255, 255, 255)


def entity_colours(entities: Sequence[str]) -> dict[str, Rgb]:
    """Give each entity a colour by its position in the document.

    Args:
        entities: the document's entities; a repeated entity keeps its first colour.

    Returns:
        Red, green and blue in [0, 255] by entity. There are 32 colours; after that, they repeat.
    """
    return {entity: colour_at(i) for i, entity in enumerate(dict.fromkeys(entities))}


def colour_at(index: int) -> Rgb:
    """Return the colour with this index, from 0. Colours repeat from 32 on."""
    return _COLOURS[index % len(_COLOURS)]


def text_colour(background: Rgb) -> Rgb:
    """Return black or white, whichever has more contrast with the background."""
    return _DARK if contrast(_DARK, background) >= contrast(_LIGHT, background) else _LIGHT


def contrast(a: Rgb, b: Rgb) -> float:
    """Return the contrast ratio of two colours, in [1, 21]. Source: WCAG 2.2, "contrast ratio".

    >>> contrast((0, 0, 0), (255, 255, 255))
    21.0
    """
    darker, lighter = sorted((_relative_luminance(a), _relative_luminance(b)))
    return (lighter + 0.05) / (darker + 0.05)


def _relative_luminance(colour: Rgb) -> float:
    """Return the relative luminance of an sRGB colour, in [0, 1]. Source: WCAG 2.2, "relative luminance"."""
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)]
    return 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]
