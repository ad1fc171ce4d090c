"""Draws the bundled demonstration pictures: `python -m serve_app.embedded.segmenter.demo_scenes`.

There are two contextual pictures, one of a dog and one of a red sofa and a cat, and a generated picture with the dog
and the sofa. The file `demo.json` beside the pictures contains the prompt and the file names.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from serve_app.embedded.segmenter.glyphs import SpriteLibrary, sprites_for_command
from serve_app.embedded.segmenter.phrases import Concept
from serve_app.embedded.segmenter.scenes import SceneCanvas

IMAGES_DIR = Path(__file__).parents[1] / "images"
PROMPT = "A dog sitting next to a red sofa under a tree, with a yellow balloon and a soccer ball"
JPEG_QUALITY = 90

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Placement:
    """One object of a picture.

    Attributes:
        concept: what it is.
        x: column of its centre, relative to the picture's width.
        foot: row of its lower edge, relative to the picture's height.
        height: its height, relative to the picture's height.
        is_flipped: whether it is mirrored.
        has_shadow: whether it casts a shadow on the ground.
    """

    concept: Concept
    x: float
    foot: float
    height: float
    is_flipped: bool = False
    has_shadow: bool = True


@dataclass(frozen=True)
class Backdrop:
    """Two colour gradients, sky and ground, that meet at a horizon.

    Attributes:
        size_wh: width and height of the picture in pixels.
        horizon: row of the horizon, relative to the picture's height.
        sky: upper and lower colour of the sky, RGB.
        ground: upper and lower colour of the ground, RGB.
    """

    size_wh: tuple[int, int]
    horizon: float
    sky: tuple[Colour, Colour]
    ground: tuple[Colour, Colour]


@dataclass(frozen=True)
class Picture:
    """A picture to draw. Later placements are in front of earlier ones."""

    file: str
    backdrop: Backdrop
    placements: tuple[Placement, ...]


PICTURES = (
    Picture(
        "contextual_0.jpg",
        Backdrop((640, 480), 0.62, ((150, 205, 240), (225, 240, 250)), ((150, 200, 110), (95, 160, 75))),
        (Placement(Concept("dog"), 0.48, 0.90, 0.60),),
    ),
    Picture(
        "contextual_1.jpg",
        Backdrop((640, 480), 0.72, ((238, 226, 205), (226, 208, 180)), ((176, 132, 92), (146, 104, 70))),
        (
            Placement(Concept("sofa", "red"), 0.45, 0.92, 0.62),
            Placement(Concept("cat"), 0.85, 0.93, 0.28, is_flipped=True),
        ),
    ),
    Picture(
        "generated.jpg",
        Backdrop((960, 640), 0.58, ((120, 185, 235), (250, 236, 215)), ((165, 205, 105), (88, 150, 68))),
        (
            Placement(Concept("house"), 0.91, 0.63, 0.24),
            Placement(Concept("tree"), 0.35, 0.80, 0.70),
            Placement(Concept("sofa", "red"), 0.58, 0.90, 0.44),
            Placement(Concept("dog"), 0.22, 0.94, 0.34, is_flipped=True),
            Placement(Concept("balloon", "yellow"), 0.73, 0.40, 0.28, has_shadow=False),
            Placement(Concept("ball"), 0.83, 0.93, 0.13),
        ),
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the pictures and `demo.json`.

    Args:
        argv: the command-line arguments; None means those of the process.

    Returns:
        The exit status, 0.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, default=IMAGES_DIR, help="folder for the pictures (default: the package's)"
    )
    parser.add_argument("--font", type=Path, help="path of NotoColorEmoji.ttf (default: search the usual folders)")
    args = parser.parse_args(argv)
    sprites = sprites_for_command(args.font)
    args.folder.mkdir(parents=True, exist_ok=True)
    for picture in PICTURES:
        Image.fromarray(compose(picture, sprites)).save(args.folder / picture.file, quality=JPEG_QUALITY)
    *contextual, generated = (picture.file for picture in PICTURES)
    story = {"prompt": PROMPT, "contextual": contextual, "generated": generated}
    (args.folder / "demo.json").write_text(json.dumps(story, indent=2) + "\n", encoding="utf-8")
    return 0


def compose(picture: Picture, sprites: SpriteLibrary) -> npt.NDArray[np.uint8]:
    """Draw one picture: (H, W, 3) uint8 RGB."""
    width, height = picture.backdrop.size_wh
    ground = Image.fromarray(paint_backdrop(picture.backdrop))
    for placement in picture.placements:
        if placement.has_shadow:
            ground = cast_shadow(ground, placement)
    canvas = SceneCanvas(np.asarray(ground))
    for placement in picture.placements:
        sprite = sprites[placement.concept][0]
        if placement.is_flipped:
            sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        factor = placement.height * height / sprite.height
        sprite = sprite.resize((round(sprite.width * factor), round(sprite.height * factor)), Image.Resampling.LANCZOS)
        left, top = round(placement.x * width - sprite.width / 2), round(placement.foot * height - sprite.height)
        canvas.paste(sprite, placement.concept, left, top)
    return canvas.finish().image


def paint_backdrop(backdrop: Backdrop) -> npt.NDArray[np.uint8]:
    """Draw sky and ground, or wall and floor: (H, W, 3) uint8 RGB."""
    width, height = backdrop.size_wh
    horizon = round(backdrop.horizon * height)
    rows = [
        np.linspace(start, end, length)
        for (start, end), length in ((backdrop.sky, horizon), (backdrop.ground, height - horizon))
    ]
    column = np.concatenate(rows).astype(np.uint8)
    return np.repeat(column[:, None], width, axis=1)


def cast_shadow(ground: Image.Image, placement: Placement) -> Image.Image:
    """Return the ground with a soft shadow under an object."""
    width, height = ground.size
    x, foot, reach = placement.x * width, placement.foot * height, placement.height * height * 0.42
    shade = Image.new("L", ground.size, 0)
    ImageDraw.Draw(shade).ellipse((x - reach, foot - reach * 0.16, x + reach, foot + reach * 0.10), fill=80)
    shade = shade.filter(ImageFilter.GaussianBlur(height / 120))
    return Image.composite(Image.new("RGB", ground.size, (30, 40, 30)), ground, shade)


if __name__ == "__main__":
    sys.exit(main())
