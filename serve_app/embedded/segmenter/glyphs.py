"""Draws the sprites of the concepts from the Noto Color Emoji font.

The font is not part of the package. Training and evaluation need it; the trained checkpoint does not.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from serve_app.embedded.segmenter.phrases import COLOURED_BASES, COLOURS, SPRITE_CONCEPTS, Concept

FONT_LOCATIONS = (
    Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"),
    Path("/usr/share/fonts/noto/NotoColorEmoji.ttf"),
    Path("/usr/share/fonts/google-noto-emoji/NotoColorEmoji.ttf"),
    Path.home() / ".local/share/fonts/NotoColorEmoji.ttf",
)
BITMAP_SIZE = 109
"""The only size of the font's bitmaps. Source: the CBLC table of NotoColorEmoji.ttf."""

GLYPHS: dict[str, str] = {
    "dog": "🐕", "cat": "🐈", "horse": "🐎", "cow": "🐄", "sheep": "🐑", "elephant": "🐘", "rabbit": "🐇",
    "bird": "🐦", "duck": "🦆", "fish": "🐟", "turtle": "🐢", "butterfly": "🦋", "car": "🚗", "bus": "🚌",
    "bicycle": "🚲", "airplane": "✈", "boat": "⛵", "train": "🚂", "truck": "🚚", "house": "🏠", "tree": "🌳",
    "palm tree": "🌴", "flower": "🌻", "cactus": "🌵", "mushroom": "🍄", "sofa": "🛋", "chair": "🪑", "bed": "🛏",
    "lamp": "💡", "clock": "⏰", "book": "📕", "phone": "📱", "guitar": "🎸", "umbrella": "☂", "key": "🔑",
    "gift": "🎁", "balloon": "🎈", "ball": "⚽", "basketball": "🏀", "crown": "👑", "hat": "🎩", "backpack": "🎒",
    "red apple": "🍎", "green apple": "🍏", "banana": "🍌", "pizza": "🍕", "cake": "🎂", "carrot": "🥕",
    "strawberry": "🍓", "bottle": "🍾", "cup": "☕", "heart": "❤", "star": "⭐", "circle": "🔴", "square": "🟥",
}  # fmt: skip

OWN_COLOUR_GLYPHS: dict[Concept, str] = {
    Concept("heart", "blue"): "💙", Concept("heart", "green"): "💚", Concept("heart", "yellow"): "💛",
    Concept("heart", "orange"): "🧡", Concept("heart", "purple"): "💜",
    Concept("circle", "blue"): "🔵", Concept("circle", "green"): "🟢", Concept("circle", "yellow"): "🟡",
    Concept("circle", "orange"): "🟠", Concept("circle", "purple"): "🟣",
    Concept("square", "blue"): "🟦", Concept("square", "green"): "🟩", Concept("square", "yellow"): "🟨",
    Concept("square", "orange"): "🟧", Concept("square", "purple"): "🟪",
    Concept("book", "blue"): "📘", Concept("book", "green"): "📗", Concept("book", "orange"): "📙",
}  # fmt: skip
"""Glyphs of the font that already have the colour. These concepts have two sprites: this glyph and a recoloured one."""

HUES: dict[str, int] = dict(zip(COLOURS, (0, 18, 38, 85, 150, 195, 228), strict=True))
"""Hue of each colour word in PIL's HSV, 0 to 255."""

MIN_SATURATION = 60
"""Pixels with a saturation (0 to 255) up to this keep their hue, so that windows, wheels and outlines do not change."""


class FontNotFound(Exception):
    """The pictogram font is not installed."""


SpriteLibrary = Mapping[Concept, tuple[Image.Image, ...]]
"""RGBA pictures of each sprite concept, cropped to the visible part. Each object of a scene shows one of them."""


def find_font(path: Path | None = None) -> Path:
    """Find the font file.

    Args:
        path: the font file to use; None searches the usual folders of Linux distributions.

    Raises:
        FontNotFound: the file does not exist, or there is none in the usual folders.
    """
    for candidate in FONT_LOCATIONS if path is None else (path,):
        if candidate.is_file():
            return candidate
    looked_for = "NotoColorEmoji.ttf was not found in the usual folders" if path is None else f"{path} does not exist"
    raise FontNotFound(f"{looked_for}; install the package fonts-noto-color-emoji, or give the file with --font")


def load_sprites(font_path: Path) -> SpriteLibrary:
    """Draw all sprites.

    Args:
        font_path: the Noto Color Emoji font with bitmap glyphs.

    Returns:
        One or two RGBA pictures for each of SPRITE_CONCEPTS, about 128 pixels high.
    """
    font = ImageFont.truetype(str(font_path), BITMAP_SIZE)
    plain = {base: draw_glyph(font, glyph) for base, glyph in GLYPHS.items()}
    sprites: dict[Concept, tuple[Image.Image, ...]] = {}
    for concept in SPRITE_CONCEPTS:
        base, colour = concept
        picture = recolour(plain[base], HUES[colour]) if colour and base in COLOURED_BASES else plain[base]
        own = OWN_COLOUR_GLYPHS.get(concept)
        sprites[concept] = (picture, draw_glyph(font, own)) if own else (picture,)
    return sprites


def recolour(sprite: Image.Image, hue: int) -> Image.Image:
    """Give the saturated pixels of an RGBA sprite another hue (0 to 255). Alpha and other pixels stay."""
    hsv = np.array(sprite.convert("RGB").convert("HSV"))
    hsv[..., 0] = np.where(hsv[..., 1] > MIN_SATURATION, hue, hsv[..., 0])
    recoloured = Image.fromarray(hsv, "HSV").convert("RGB")
    recoloured.putalpha(sprite.getchannel("A"))
    return recoloured


def sprites_for_command(font: Path | None) -> SpriteLibrary:
    """Draw all sprites for a shell command.

    Args:
        font: the font file that the user named; None searches the usual folders.

    Raises:
        SystemExit: the font was not found. The message is one line that says how to install it.
    """
    try:
        return load_sprites(find_font(font))
    except FontNotFound as error:
        sys.exit(str(error))


def draw_glyph(font: ImageFont.FreeTypeFont, glyph: str) -> Image.Image:
    """Draw one glyph as an RGBA picture, cropped to its visible part and about 128 pixels high."""
    canvas = Image.new("RGBA", (140, 140), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((0, 0), glyph, font=font, embedded_color=True)
    return canvas.crop(canvas.getbbox())
