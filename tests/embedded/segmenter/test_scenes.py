import numpy as np
import pytest
from PIL import Image

from serve_app.embedded.segmenter.backgrounds import make_background
from serve_app.embedded.segmenter.glyphs import SpriteLibrary
from serve_app.embedded.segmenter.phrases import Concept
from serve_app.embedded.segmenter.scenes import MIN_VISIBLE_AREA, SceneCanvas, choose_size_wh, make_scene, mask_bounds

DOG, CAT = Concept("dog"), Concept("cat")


def solid(width: int, height: int, colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGBA", (width, height), (*colour, 255))


def test_canvas_paste_cuts_the_hidden_part_out_of_the_mask_behind() -> None:
    canvas = SceneCanvas(np.zeros((100, 100, 3), dtype=np.uint8))
    assert canvas.paste(solid(40, 40, (255, 0, 0)), DOG, 10, 10)
    assert canvas.paste(solid(40, 40, (0, 0, 255)), CAT, 30, 10)
    scene = canvas.finish()
    assert scene.sprites == (DOG, CAT)
    assert scene.boxes().tolist() == [[10, 10, 30, 50], [30, 10, 70, 50]]
    assert scene.masks.sum((1, 2)).tolist() == [20 * 40, 40 * 40]
    assert scene.image[20, 20].tolist() == [255, 0, 0]
    assert scene.image[20, 35].tolist() == [0, 0, 255]


def test_canvas_paste_clips_at_the_edge() -> None:
    canvas = SceneCanvas(np.zeros((100, 100, 3), dtype=np.uint8))
    assert canvas.paste(solid(40, 40, (255, 0, 0)), DOG, -10, 80)
    assert canvas.finish().boxes().tolist() == [[0, 80, 30, 100]]


@pytest.mark.parametrize(
    ("size", "left"), [((2, 2), 50), ((40, 40), 100), ((40, 40), 15)], ids=["tiny", "outside", "hides too much"]
)
def test_canvas_paste_refuses(size: tuple[int, int], left: int) -> None:
    canvas = SceneCanvas(np.zeros((100, 100, 3), dtype=np.uint8))
    canvas.paste(solid(40, 40, (255, 0, 0)), DOG, 10, 10)
    assert not canvas.paste(solid(*size, (0, 0, 255)), CAT, left, 10, max_covered=0.25)
    assert canvas.finish().sprites == (DOG,)


def test_canvas_finish_drops_what_is_hidden() -> None:
    canvas = SceneCanvas(np.zeros((100, 100, 3), dtype=np.uint8))
    canvas.paste(solid(20, 20, (255, 0, 0)), DOG, 20, 20)
    canvas.paste(solid(40, 40, (0, 0, 255)), CAT, 10, 10)
    scene = canvas.finish(jpeg_quality=90)
    assert scene.sprites == (CAT,)
    assert scene.masks.shape == (1, 100, 100)


def test_make_scene_is_reproducible_and_consistent(sprites: SpriteLibrary) -> None:
    for seed in range(25):
        scene = make_scene(np.random.default_rng(seed), sprites, (160, 90))
        again = make_scene(np.random.default_rng(seed), sprites, (160, 90))
        assert np.array_equal(scene.image, again.image)
        assert scene.image.shape == (90, 160, 3)
        assert scene.image.dtype == np.uint8
        assert scene.masks.shape == (len(scene.sprites), 90, 160)
        assert len(scene.sprites) <= 8
        assert not len(scene.masks) or scene.masks.sum(0).max() <= 1
        assert all(mask.mean() >= MIN_VISIBLE_AREA for mask in scene.masks)
        assert scene.boxes().tolist() == [list(mask_bounds(mask)) for mask in scene.masks]


def test_choose_size_wh_stays_within_9_16_and_16_9() -> None:
    rng = np.random.default_rng(0)
    sizes = [choose_size_wh(rng, 300**2) for _ in range(200)]
    aspects = [width / height for width, height in sizes]
    assert 9 / 16 * 0.98 <= min(aspects) < 0.7
    assert 1.4 < max(aspects) <= 16 / 9 * 1.02
    assert all(abs(width * height / 300**2 - 1) < 0.02 for width, height in sizes)


def test_make_background_fills_the_picture() -> None:
    for seed in range(30):
        background = make_background(np.random.default_rng(seed), (45, 80))
        assert background.shape == (45, 80, 3)
        assert background.dtype == np.uint8
