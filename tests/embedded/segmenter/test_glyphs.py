import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serve_app.embedded.segmenter.glyphs import (
    GLYPHS,
    OWN_COLOUR_GLYPHS,
    FontNotFound,
    find_font,
    load_sprites,
    recolour,
)
from serve_app.embedded.segmenter.phrases import BASES, SPRITE_CONCEPTS


def test_tables_cover_every_base() -> None:
    assert set(GLYPHS) == set(BASES)
    assert set(OWN_COLOUR_GLYPHS) <= set(SPRITE_CONCEPTS)


def test_find_font_names_the_package_to_install(tmp_path: Path) -> None:
    with pytest.raises(FontNotFound, match="fonts-noto-color-emoji"):
        find_font(tmp_path / "missing.ttf")


def test_a_command_without_the_font_ends_with_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "serve_app.embedded.segmenter.demo_scenes", "--font", str(tmp_path / "missing.ttf")],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "fonts-noto-color-emoji" in done.stderr


def test_find_font_takes_the_given_file(tmp_path: Path) -> None:
    font = tmp_path / "font.ttf"
    font.touch()
    assert find_font(font) == font


def test_recolour_turns_saturated_pixels_only() -> None:
    sprite = Image.new("RGBA", (2, 1))
    sprite.putdata([(255, 0, 0, 255), (128, 128, 128, 100)])
    pixels = np.asarray(recolour(sprite, 85))
    assert pixels[0, 0].tolist() == [0, 255, 0, 255]
    assert pixels[0, 1].tolist() == [128, 128, 128, 100]


def test_load_sprites_draws_every_concept() -> None:
    try:
        font = find_font()
    except FontNotFound:
        pytest.skip("fonts-noto-color-emoji is not installed")
    sprites = load_sprites(font)
    assert set(sprites) == set(SPRITE_CONCEPTS)
    for pictures in sprites.values():
        for picture in pictures:
            assert picture.mode == "RGBA"
            assert min(picture.size) > 60
            assert (np.asarray(picture)[..., 3] > 127).mean() > 0.15
