"""Chooses a font for each letter: Pillow's own, which has little more than ASCII, or a font of the system.

Which letters can be drawn depends on the machine. Letters that no font has are left out or replaced, because fonts show
them as empty boxes. The module reads font files only.
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
"""Font folders of Linux, macOS and Windows."""

_FAMILIES = (
    "DejaVuSans", "NotoSans-Regular", "LiberationSans-Regular", "FreeSans", "segoeui", "Arial Unicode", "arial",
    "NotoSansCJK-Regular", "NotoSansCJKsc-Regular", "NotoSansSC-Regular", "NotoSansJP-Regular", "NotoSansKR-Regular",
    "wqy-microhei", "wqy-zenhei", "DroidSansFallbackFull", "msyh", "msgothic", "malgun", "PingFang", "Hiragino Sans GB",
    "AppleSDGothicNeo", "NotoSansArabic-Regular", "NotoSansHebrew-Regular", "tahoma", "GeezaPro",
    "NotoSansDevanagari-Regular", "NotoSansBengali-Regular", "NotoSansTamil-Regular", "NotoSansTelugu-Regular",
    "Nirmala", "Kohinoor", "NotoSansThai-Regular", "LeelawUI", "Thonburi", "NotoSansGeorgian-Regular",
    "NotoSansArmenian-Regular", "NotoSansEthiopic-Regular", "NotoSansSymbols2-Regular", "seguisym", "unifont",
)  # fmt: skip
"""Names of font files without their suffixes, in order of preference."""
_ENDINGS = (".ttf", ".otf", ".ttc")
_MAX_FILES = 20_000
_TEST_SIZE = 20
_NO_LETTER = "\U0010ffff"
_MARKS = "CMS"
"""First letters of the Unicode categories that a label can do without: controls (C), marks (M) and symbols (S)."""


@dataclass(frozen=True)
class Font:
    """A font of one size, which draws each letter with the first face that has it.

    Attributes:
        size: height in pixels, at least 1.
        folders: the folders that are searched for faces; Pillow's own face is always used first.
    """

    size: int
    folders: tuple[str, ...] = SYSTEM_FOLDERS

    def width(self, text: str) -> float:
        """Return the width of a line of text, in pixels."""
        return sum(face.getlength(part) for part, face in self.runs(text))

    def runs(self, text: str) -> Iterator[tuple[str, Face]]:
        """Yield the parts of a text, each with the face that draws it. A face is kept as long as it has the letters."""
        face_index, part = 0, ""
        for letter in text:
            stays = letter.isspace() or _is_covered(face_index, letter, self.folders)
            better = face_index if stays else (_face_index_of(letter, self.folders) or 0)
            if better != face_index and part:
                yield part, _face(face_index, self.size, self.folders)
                part = ""
            face_index, part = better, part + letter
        if part:
            yield part, _face(face_index, self.size, self.folders)


def readable(text: str, folders: tuple[str, ...] = SYSTEM_FOLDERS) -> str:
    """Return a text as far as the fonts can draw it.

    Accents and symbols that no font has are left out.

    Args:
        text: the text.
        folders: the folders that are searched for faces.

    Returns:
        The text, with single spaces between words. "" if no font has one of its letters, because the rest would be
        another word.
    """
    letters = [_drawable(letter, folders) for letter in text]
    if None in letters:
        return ""
    return " ".join("".join(letter or "" for letter in letters).split())


def without_boxes(text: str, folders: tuple[str, ...] = SYSTEM_FOLDERS) -> str:
    """Replace each letter that no font has with a question mark, and leave out such symbols."""
    return "".join("?" if (shown := _drawable(letter, folders)) is None else shown for letter in text)


@lru_cache(maxsize=4096)
def _drawable(letter: str, folders: tuple[str, ...]) -> str | None:
    """Return a letter as it can be drawn; if it cannot, "" for a symbol and None for a letter."""
    if letter.isspace() or _face_index_of(letter, folders) is not None:
        return letter
    plain = "".join(part for part in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(part))
    if plain and all(_face_index_of(part, folders) is not None for part in plain):
        return plain
    return "" if unicodedata.category(letter)[0] in _MARKS else None


@lru_cache(maxsize=4096)
def _face_index_of(letter: str, folders: tuple[str, ...]) -> int | None:
    """Return the index of the first face that has a letter: 0 for Pillow's own, from 1 for the system's; else None."""
    return next(
        (
            face_index
            for face_index in range(1 + len(_system_files(folders)))
            if _is_covered(face_index, letter, folders)
        ),
        None,
    )


@lru_cache(maxsize=4096)
def _is_covered(face_index: int, letter: str, folders: tuple[str, ...]) -> bool:
    face = _face(face_index, _TEST_SIZE, folders)
    if isinstance(face, ImageFont.FreeTypeFont):
        face = face.font_variant(layout_engine=ImageFont.Layout.BASIC)  # one glyph per letter
    shown, missing = face.getmask(letter), face.getmask(_NO_LETTER)
    return (shown.size, bytes(shown)) != (missing.size, bytes(missing))


@lru_cache(maxsize=256)
def _face(face_index: int, size: int, folders: tuple[str, ...]) -> Face:
    return (
        ImageFont.truetype(_system_files(folders)[face_index - 1], size) if face_index else ImageFont.load_default(size)
    )


@lru_cache(maxsize=4)
def _system_files(folders: tuple[str, ...]) -> tuple[str, ...]:
    """List the system's font files of `_FAMILIES` that can be opened, in order of preference."""
    paths: dict[str, str] = {}
    walks = itertools.chain.from_iterable(os.walk(folder) for folder in folders)
    files = ((folder, name) for folder, _, names in walks for name in names)
    for folder, name in itertools.islice(files, _MAX_FILES):
        path = Path(folder, name)
        if path.suffix.lower() in _ENDINGS and path.stem in _FAMILIES:
            paths[path.stem] = min(str(path), paths.get(path.stem, str(path)))
    return tuple(paths[family] for family in _FAMILIES if family in paths and _opens(paths[family]))


def _opens(path: str) -> bool:
    try:
        return bool(ImageFont.truetype(path, _TEST_SIZE))
    except OSError:
        return False
