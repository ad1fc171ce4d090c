import json

import numpy as np
import pytest
from PIL import Image

from serve_app.embedded.segmenter.demo_scenes import IMAGES_DIR, PICTURES, PROMPT, Picture, compose
from serve_app.embedded.segmenter.glyphs import SpriteLibrary


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.file)
def test_compose_draws_at_the_size_of_the_backdrop(picture: Picture, sprites: SpriteLibrary) -> None:
    width, height = picture.backdrop.size_wh
    pixels = compose(picture, sprites)
    assert pixels.shape == (height, width, 3)
    assert pixels.dtype == np.uint8


def test_bundled_demo_is_complete() -> None:
    demo = json.loads((IMAGES_DIR / "demo.json").read_text(encoding="utf-8"))
    assert demo["prompt"] == PROMPT
    files = [*demo["contextual"], demo["generated"]]
    assert files == [picture.file for picture in PICTURES]
    for picture in PICTURES:
        with Image.open(IMAGES_DIR / picture.file) as bundled:
            assert bundled.size == picture.backdrop.size_wh
    assert sum((IMAGES_DIR / file).stat().st_size for file in files) < 400_000
