"""Draws the pictograms that the identity model is trained and tested on.

They are glyphs of Noto Color Emoji. This project sorted them into kinds: groups of glyphs that look similar.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from PIL import Image, ImageFont

from serve_app.embedded.segmenter.glyphs import BITMAP_SIZE, MIN_SATURATION, draw_glyph, recolour

KINDS: Final = {
    "beast": "🐕🦮🐩🐈🐎🐄🐂🐃🐖🐗🐏🐑🐐🐪🐫🦙🦒🐘🦏🦛🐁🐀🐇🐿🦔🦥🦦🦨🦘🦡🐅🐆🦓🦍🦧🐒🦌🦬🦣🐓🦃",
    "face": "🐶🐱🐭🐹🐰🦊🐻🐼🐨🐯🦁🐮🐷🐸🐵🐔🐺🐴🦄🐲🦝",
    "bird": "🐦🐧🐤🐥🐣🦅🦆🦢🦉🦩🦚🦜🕊🦤",
    "swimmer": "🐟🐠🐡🦈🐙🦑🦐🦞🦀🐳🐋🐬🦭🐢🐊🦎🐍",
    "insect": "🦋🐛🐜🐝🐞🦗🕷🦂🦟🪰🪱🪲🐌",
    "plant": "🌲🌳🌴🌵🌱🌿🍀🍁🍂🍃🪴🎋🎍🌾🎄",
    "flower": "🌸🌷🌹🌺🌻🌼💐🥀🪷🏵💮",
    "fruit": "🍇🍈🍉🍊🍋🍌🍍🥭🍎🍐🍑🍒🍓🫐🥝🍅🥥🫒",
    "vegetable": "🥑🍆🥔🥕🌽🌶🥒🥬🥦🧄🧅🍄🥜🌰",
    "meal": "🍞🥐🥖🥨🥯🥞🧇🧀🍖🍗🥩🥓🍔🍟🍕🌭🥪🌮🌯🥙🥚🍳🥘🍲🥣🥗🍿🍱🍘🍙🍚🍛🍜🍝🍠🍢🍣🍤🍥🍡🥟🥠🥡",
    "sweet": "🍦🍧🍨🍩🍪🎂🍰🧁🥧🍫🍬🍭🍮🍯",
    "drink": "🍼🥛☕🍵🍶🍾🍷🍸🍹🍺🥤🧃🧉🏺🫖",
    "vehicle": "🚗🚕🚙🚌🚎🏎🚓🚑🚒🚐🚚🚛🚜🛵🏍🚲🛴🚂🚃🚄🚅🚈🚞🚋🛻",
    "vessel": "⛵🚤🛥🛳⛴🚢🛶✈🛩🚁🚀🛸🛰🚟🚠🎈🪂",
    "building": "🏠🏡🏢🏣🏥🏦🏨🏩🏪🏫🏬🏭🏯🏰💒🗼🗽⛪🕌🛕🕍⛩🏚🏛⛲⛺",
    "furniture": "🛋🪑🛏🚪🪞🪟🚽🚿🛁🧺🪣🧴🪒🧹🧽🧯🛒",
    "clothing": "👓🕶🥽🥼🦺👔👕👖🧣🧤🧥🧦👗👘🥻🩱🩲🩳👙👚👛👜👝🎒🩴👞👟🥾🥿👠👡🩰👢",
    "hat": "👑👒🎩🎓🧢🪖⛑",
    "music": "🎷🪗🎸🎹🎺🎻🪕🥁🪘🎤🎧📻🎙🎼",
    "device": "📱☎📞📟📠🔋🔌💻🖥🖨⌨🖱🖲💽💾💿📀🎥🎞📽📺📷📹📼🔦🏮🪔💡",
    "paper": "📔📕📖📚📓📒📃📜📄📰🗞📑🔖🏷✉📧📦📫📪📬📭📮🗳",
    "tool": "🔨🪓⛏⚒🛠🗡⚔🔫🪃🏹🛡🪚🔧🪛🔩⚙🗜⚖🦯🔗⛓🪝🧰🧲🪜🔪🥄🍴✂🖊🖌🖍📏📐📌📎",
    "sport": "⚽⚾🥎🏀🏐🏈🏉🎾🥏🎳🏏🏑🏒🥍🏓🏸🥊🥋🥅⛳⛸🎣🤿🎽🎿🛷🥌🎯🪀🪁🎱🏆🥇🥈🥉🏅🎖",
    "toy": "🔮🪄🧿🎮🕹🎰🎲🧩🧸🪅🪆♟🃏🎭🖼🎨🧵🪡🧶🎁🎀🎃🎆🎏🎐🧧🎟🎫",
    "sky": "☀🌝🌞⭐🌟🌙🌛🌜☁⛅🌤🌧🌨🌩🌪🌈☂☔⚡❄☃⛄☄🔥💧🌊",
    "sign": "❤💔💖💗🔴🟥💎🔔🔑🗝🔒🔓⏰🕰⌛⏳⌚💰💵💳📍🚩",
    "time": "🧭🌡🧪🧫🧬🔬🔭📡💉🩸💊🩹🩺🧮🗿🪦⚰⚱🚬💣🪤🪙",
}  # fmt: skip
"""Glyphs by kind. The glyphs of a kind look similar, but each is a different drawing, not the same in other colours."""

HELD_OUT_EVERY = 4
"""Every fourth glyph of a kind is not used in training. These glyphs are used for test and validation in turn."""

HUES: Final = (0, 28, 55, 90, 128, 160, 195, 225)
"""Hues of recoloured sprites in PIL's HSV, 0 to 255. They are far enough apart to be told apart by eye."""

LEAST_COLOURED = 0.25
"""A sprite is recoloured if at least this share of its pixels is saturated."""

LEAST_HUE_DISTANCE = 24
"""Least distance, 0 to 128, between a sprite's own main hue and a new hue. Nearer hues look the same."""

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Individual:
    """A sprite in one colour. The identity model learns to tell individuals apart.

    Attributes:
        kind: its key in KINDS.
        glyph: its character.
        hue: index in HUES; None for the glyph's own colours.
        picture: RGBA, about 128 pixels high.
    """

    kind: str
    glyph: str
    hue: int | None
    picture: Image.Image


def load_individuals(font_path: Path, split: Split) -> list[Individual]:
    """Draw the individuals of one split.

    Args:
        font_path: the Noto Color Emoji font with bitmap glyphs.
        split: "train", "validation" or "test". Each glyph is in one split only.
    """
    font = ImageFont.truetype(str(font_path), BITMAP_SIZE)
    found = []
    for kind, glyphs in KINDS.items():
        for place, glyph in enumerate(dict.fromkeys(glyphs)):
            if split_of(place) != split:
                continue
            picture = draw_glyph(font, glyph)
            found.append(Individual(kind, glyph, None, picture))
            if coloured_part(picture) >= LEAST_COLOURED:
                own = main_hue(picture)
                others = [(i, hue) for i, hue in enumerate(HUES) if hue_distance(hue, own) >= LEAST_HUE_DISTANCE]
                found += [Individual(kind, glyph, i, recolour(picture, hue)) for i, hue in others]
    return found


def split_of(place: int) -> Split:
    """Return the split of a glyph.

    Args:
        place: index of the glyph in its kind.
    """
    if place % HELD_OUT_EVERY != HELD_OUT_EVERY - 1:
        return "train"
    return "validation" if place // HELD_OUT_EVERY % 2 else "test"


def coloured_part(picture: Image.Image) -> float:
    """Return the share of an RGBA sprite's opaque pixels that `recolour` changes, in [0, 1]."""
    saturation = np.asarray(picture.convert("RGB").convert("HSV"))[..., 1]
    opaque = np.asarray(picture)[..., 3] > 127
    return float((saturation[opaque] > MIN_SATURATION).mean()) if opaque.any() else 0.0


def main_hue(picture: Image.Image) -> int:
    """Return the most frequent hue of an RGBA sprite's saturated pixels, 0 to 255."""
    hsv = np.asarray(picture.convert("RGB").convert("HSV"))
    shown = (np.asarray(picture)[..., 3] > 127) & (hsv[..., 1] > MIN_SATURATION)
    counts = np.bincount(hsv[..., 0][shown], minlength=256)
    around = sum(np.roll(counts, shift) for shift in range(-8, 9))
    return int(np.argmax(around))


def hue_distance(one: int, other: int) -> int:
    """Return the distance of two hues (0 to 255) on the colour circle, 0 to 128.

    >>> hue_distance(250, 5)
    11
    """
    apart = abs(one - other) % 256
    return min(apart, 256 - apart)
