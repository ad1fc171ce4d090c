"""Fonts: Pillow's own, which has little more than ASCII, and for other letters those that the system has.

Which letters can be drawn depends on the machine; on one machine the same text is drawn the same every time. A letter
that no font has is never drawn: it would be an empty box. Reads font files, and no others.
"""

from __future__ import annotations

import itertools
import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

Face = ImageFont.FreeTypeFont | ImageFont.ImageFont

SYSTEM_FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "/System/Library/Fonts",
    "/Library/Fonts",
    "C:/Windows/Fonts",
)
"""Where systems keep their fonts."""

_FAMILIES = (
    "DejaVuSans", "NotoSans-Regular", "LiberationSans-Regular", "FreeSans", "segoeui", "Arial Unicode", "arial",
    "NotoSansCJK-Regular", "NotoSansCJKsc-Regular", "NotoSansSC-Regular", "NotoSansJP-Regular", "NotoSansKR-Regular",
    "wqy-microhei", "wqy-zenhei", "DroidSansFallbackFull", "msyh", "msgothic", "malgun", "PingFang", "Hiragino Sans GB",
    "AppleSDGothicNeo", "NotoSansArabic-Regular", "NotoSansHebrew-Regular", "tahoma", "GeezaPro",
    "NotoSansDevanagari-Regular", "NotoSansBengali-Regular", "NotoSansTamil-Regular", "NotoSansTelugu-Regular",
    "Nirmala", "Kohinoor", "NotoSansThai-Regular", "LeelawUI", "Thonburi", "NotoSansGeorgian-Regular",
    "NotoSansArmenian-Regular", "NotoSansEthiopic-Regular", "NotoSansSymbols2-Regular", "seguisym", "unifont",
)  # fmt: skip
"""Names of font files without their endings, the best first."""
_ENDINGS = (".ttf", ".otf", ".ttc")
_MOST_FILES = 20_000
_TEST_SIZE = 20
_NO_LETTER = "\U0010ffff"
_MARKS = "CMS"
"""First letters of the Unicode categories of what a label can do without: controls, marks and symbols."""


@dataclass(frozen=True)
class Font:
    """A height in pixels, in which text is drawn with whichever face has its letters.

    Attributes:
        size: height in pixels, at least 1.
        folders: where faces are looked for besides Pillow's own.
    """

    size: int
    folders: tuple[str, ...] = SYSTEM_FOLDERS

    def width(self, text: str) -> float:
        """Width of one line, in pixels."""
        return sum(face.getlength(part) for part, face in self.runs(text))

    def runs(self, text: str) -> Iterator[tuple[str, Face]]:
        """Cut a text into parts, each with the face that draws it; the face stays while it has the letters."""
        place, part = 0, ""
        for letter in text:
            stays = letter.isspace() or _is_covered(place, letter, self.folders)
            better = place if stays else (_place_of(letter, self.folders) or 0)
            if better != place and part:
                yield part, _face(place, self.size, self.folders)
                part = ""
            place, part = better, part + letter
        if part:
            yield part, _face(place, self.size, self.folders)


def readable(text: str, folders: tuple[str, ...] = SYSTEM_FOLDERS) -> str:
    """Keep what the fonts can draw of a text.

    Accents that no font has are left off their letters, and symbols that none has are left out.

    Returns:
        The text, or "" where a letter is missing: what is left would be another word.
    """
    letters = [_drawable(letter, folders) for letter in text]
    if None in letters:
        return ""
    return " ".join("".join(letter or "" for letter in letters).split())


def without_boxes(text: str, folders: tuple[str, ...] = SYSTEM_FOLDERS) -> str:
    """Put a question mark in the place of every letter that no font has."""
    return "".join("?" if (shown := _drawable(letter, folders)) is None else shown for letter in text)


@lru_cache(maxsize=4096)
def _drawable(letter: str, folders: tuple[str, ...]) -> str | None:
    """A letter as it can be drawn; "" for a symbol that cannot, None for a letter that cannot."""
    if letter.isspace() or _place_of(letter, folders) is not None:
        return letter
    plain = "".join(part for part in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(part))
    if plain and all(_place_of(part, folders) is not None for part in plain):
        return plain
    return "" if unicodedata.category(letter)[0] in _MARKS else None


@lru_cache(maxsize=4096)
def _place_of(letter: str, folders: tuple[str, ...]) -> int | None:
    """Find the first face that has a letter: 0 for Pillow's own, then the system's."""
    return next(
        (place for place in range(1 + len(_system_files(folders))) if _is_covered(place, letter, folders)), None
    )


@lru_cache(maxsize=4096)
def _is_covered(place: int, letter: str, folders: tuple[str, ...]) -> bool:
    face = _face(place, _TEST_SIZE, folders)
    if isinstance(face, ImageFont.FreeTypeFont):
        face = face.font_variant(layout_engine=ImageFont.Layout.BASIC)  # one glyph a letter
    shown, missing = face.getmask(letter), face.getmask(_NO_LETTER)
    return (shown.size, bytes(shown)) != (missing.size, bytes(missing))


@lru_cache(maxsize=256)
def _face(place: int, size: int, folders: tuple[str, ...]) -> Face:
    return ImageFont.truetype(_system_files(folders)[place - 1], size) if place else ImageFont.load_default(size)


@lru_cache(maxsize=4)
def _system_files(folders: tuple[str, ...]) -> tuple[str, ...]:
    """List the system's fonts of the known families that can be opened, the best first."""
    found: dict[str, str] = {}
    walks = itertools.chain.from_iterable(os.walk(folder) for folder in folders)
    files = ((folder, name) for folder, _, names in walks for name in names)
    for folder, name in itertools.islice(files, _MOST_FILES):
        path = Path(folder, name)
        if path.suffix.lower() in _ENDINGS and path.stem in _FAMILIES:
            found[path.stem] = min(str(path), found.get(path.stem, str(path)))
    return tuple(found[family] for family in _FAMILIES if family in found and _opens(found[family]))


def _opens(path: str) -> bool:
    try:
        return bool(ImageFont.truetype(path, _TEST_SIZE))
    except OSError:
        return False
