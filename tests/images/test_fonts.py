"""Labels in any script: drawn in a font that has the letters, or as the entity's number; never as empty boxes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from serve_app.images.fonts import Font, readable, without_boxes
from serve_app.images.lettering import draw_text, font_of, label_of, width_of
from serve_app.images.overlay import draw_objects
from serve_app.images.sheet import Panel, compare_sheet

NO_FONT_HAS, NOR_THIS = "\U00013000", "\U00013001"  # Egyptian hieroglyphs, which are letters


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("red sofa", "red sofa"),
        ("café", "cafe"),
        ("Ångström", "Angstrom"),
        ("\uff44\uff4f\uff47", "dog"),
        ("dog 🐶", "dog"),
        ("dog ❤️", "dog"),
        ("🐶🐕", ""),
        ("собака", ""),
        ("日本語の犬", ""),
        ("كلب", ""),
        ("red 狗", ""),
        ("", ""),
    ],
)
def test_without_other_fonts_a_label_is_readable_or_nothing(text: str, shown: str) -> None:
    assert readable(text, ()) == shown


def test_a_label_that_no_font_can_draw_is_its_number() -> None:
    assert label_of(NO_FONT_HAS, 3) == "#3"
    assert label_of(f"a {NO_FONT_HAS}", 1) == "#1"
    assert label_of("dog", 3) == "dog"
    assert label_of("\n", 3) == ""
    assert without_boxes(f"{NO_FONT_HAS}_1.png") == "?_1.png"


def item(label: str, x: int) -> Any:
    return {"label": label, "bbox": [x, 40, x + 60, 90], "score": 0.5}


def test_an_overlay_tells_entities_in_other_scripts_apart_by_their_numbers() -> None:
    image = np.full((120, 300, 3), 120, np.uint8)
    colours = {NO_FONT_HAS: (255, 64, 64), NOR_THIS: (30, 144, 255)}
    drawn = draw_objects(image, [item(NO_FONT_HAS, 10), item(NOR_THIS, 200)], colours)
    named = {"#1": colours[NO_FONT_HAS], "#2": colours[NOR_THIS]}
    numbered = draw_objects(image, [item("#1", 10), item("#2", 200)], named)
    np.testing.assert_array_equal(np.asarray(drawn), np.asarray(numbered))


def test_a_sheet_numbers_entities_as_overlays_do() -> None:
    image = Image.new("RGB", (100, 100))
    colours = {"dog": (255, 64, 64), NO_FONT_HAS: (30, 144, 255)}
    counted = compare_sheet([Panel("a", image, {"dog": 1, NO_FONT_HAS: 2})], colours)
    numbered = compare_sheet(
        [Panel("a", image, {"dog": 1, "#2": 2})], {"dog": colours["dog"], "#2": colours[NO_FONT_HAS]}
    )
    np.testing.assert_array_equal(np.asarray(counted), np.asarray(numbered))


def test_no_letter_is_drawn_as_the_box_of_a_missing_one() -> None:
    for text in ("собака", "日本語の犬", "كلب", "हिन्दी", "ไทย", "café", "a" + NO_FONT_HAS):
        for part, face in Font(20).runs(readable(text)):
            missing = bytes(face.getmask("\U0010ffff"))
            assert all(letter.isspace() or bytes(face.getmask(letter)) != missing for letter in part), text
    assert readable("a" + NO_FONT_HAS) == ""


def test_the_systems_fonts_draw_what_pillows_own_lacks() -> None:
    if readable("é") != "é":
        pytest.skip("this machine has no font of a known family")
    assert readable("café") == "café"
    (plain, own), (accented, other) = Font(20).runs("dog é")
    assert (plain, accented) == ("dog ", "é")
    assert own.getname() == ImageFont.load_default(20).getname() != other.getname()  # type: ignore[union-attr]
    assert Font(20).width("dog é") == own.getlength("dog ") + other.getlength("é")


def test_fonts_are_found_by_their_file_in_any_depth_of_a_folder(tmp_path: Path) -> None:
    face = ImageFont.load_default(20)
    assert isinstance(face, ImageFont.FreeTypeFont)
    assert isinstance(face.path, io.BytesIO)
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "DejaVuSans.ttf").write_bytes(face.path.getvalue())
    (tmp_path / "a" / "NotoSansCJK-Regular.ttc").write_bytes(b"no font")
    (tmp_path / "a" / "Another.ttf").write_bytes(face.path.getvalue())
    assert readable("dog é", (str(tmp_path),)) == "dog e"
    assert [part for part, _ in Font(20, (str(tmp_path),)).runs("dog")] == ["dog"]


def test_latin_text_is_drawn_as_by_pillows_own_font_alone() -> None:
    drawn, expected = (Image.new("RGB", (200, 40)) for _ in range(2))
    draw_text(ImageDraw.Draw(drawn), (5, 20), "red sofa 0.95", font_of(18), (255, 255, 255))
    default = ImageFont.load_default(18)
    ImageDraw.Draw(expected).text((5, 20), "red sofa 0.95", font=default, fill=(255, 255, 255), anchor="lm")
    np.testing.assert_array_equal(np.asarray(drawn), np.asarray(expected))
    assert width_of("red sofa 0.95", font_of(18)) == int(-(-default.getlength("red sofa 0.95") // 1))
