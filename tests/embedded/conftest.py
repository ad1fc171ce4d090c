"""Stand-ins for the pictograms: the tests of the embedded models need no font."""

from collections.abc import Iterator

import pytest
import torch
from PIL import Image, ImageDraw

from serve_app.embedded.segmenter.glyphs import SpriteLibrary
from serve_app.embedded.segmenter.phrases import SPRITE_CONCEPTS


@pytest.fixture(scope="session")
def sprites() -> SpriteLibrary:
    """An ellipse of a colour of its own for each sprite concept."""
    library = {}
    for number, concept in enumerate(SPRITE_CONCEPTS):
        picture = Image.new("RGBA", (120, 100), (0, 0, 0, 0))
        fill = (number * 37 % 256, number * 91 % 256, number * 151 % 256, 255)
        ImageDraw.Draw(picture).ellipse((0, 0, 119, 99), fill=fill)
        library[concept] = (picture,)
    return library


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    """Models as small as these run faster without threads, most of all beside other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
