"""Draws synthetic scenes: pictograms on backgrounds, with the visible mask of each.

The same code draws the training scenes, the held-out scenes and the scenes in `tests/`; only sizes and seeds differ.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from serve_app.embedded.segmenter.backgrounds import make_background
from serve_app.embedded.segmenter.glyphs import SpriteLibrary
from serve_app.embedded.segmenter.phrases import BASES, COLOURS, SPRITE_CONCEPTS, SPRITES_OF_BASE, Concept

OBJECT_COUNTS = (0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 8)
OBJECT_COUNT_WEIGHTS = (0.03, *(0.097,) * 10)
"""Possible numbers of objects in a scene, and their probabilities."""

CROWD = 5
"""In scenes with at least this many objects, all are drawn smaller."""

SCALE_RANGE, CROWD_SCALE_RANGE = (0.14, 0.55), (0.14, 0.35)
"""Height of an object, relative to the square root of the picture's area."""

MAX_ROTATION = 15.0
"""Largest rotation in degrees, in both directions."""

MAX_LOG_ASPECT = 0.575
"""Largest |log(width / height)|: 9:16 to 16:9."""

MAX_COVERED = 0.25
"""Largest overlap of a new object with another one, relative to the smaller of the two."""

MIN_VISIBLE_AREA = 0.001
"""Least visible area of an object, relative to the picture's area. Smaller objects are not in the ground truth."""

NOBODY = 255
"""Value of the background in the map of owners. A scene has fewer objects than this."""


@dataclass(frozen=True)
class Scene:
    """A picture of N objects; N may be 0.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        masks: (N, H, W) bool, the visible pixels of each object; disjoint.
        sprites: the N concepts of the objects.
    """

    image: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.bool_]
    sprites: tuple[Concept, ...]

    def boxes(self) -> npt.NDArray[np.int64]:
        """Return the bounding boxes of the visible pixels: (N, 4) int64 xyxy in pixels, x2 and y2 exclusive."""
        return np.array([mask_bounds(mask) for mask in self.masks], dtype=np.int64).reshape(-1, 4)


def mask_bounds(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Return the bounding box of a mask (H, W) that is not empty: xyxy in pixels, x2 and y2 exclusive."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


class SceneCanvas:
    """A picture that is being drawn, with the object that each pixel belongs to.

    Args:
        background: (H, W, 3) uint8 RGB; it is copied.
    """

    def __init__(self, background: npt.NDArray[np.uint8]) -> None:
        self._pixels = background.astype(np.float32)
        self._owners: npt.NDArray[np.uint8] = np.full(background.shape[:2], NOBODY, dtype=np.uint8)
        self._sprites: list[Concept] = []

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._owners.shape[0], self._owners.shape[1]

    def paste(self, sprite: Image.Image, concept: Concept, left: int, top: int, max_covered: float = 1.0) -> bool:
        """Paste a sprite in front of all others, if enough of it is visible and it does not hide too much.

        Args:
            sprite: RGBA picture at its final size.
            concept: what it shows.
            left: column of the sprite's left edge in pixels; may be outside the picture.
            top: row of the sprite's top edge in pixels; may be outside the picture.
            max_covered: largest overlap with another object, relative to the smaller of the two; 1 allows any.

        Returns:
            Whether it was pasted.
        """
        height, width = self.size_hw
        x1, y1 = max(left, 0), max(top, 0)
        x2, y2 = min(left + sprite.width, width), min(top + sprite.height, height)
        if x1 >= x2 or y1 >= y2:
            return False
        rgba = np.asarray(sprite)[y1 - top : y2 - top, x1 - left : x2 - left]
        opaque = rgba[..., 3] > 127
        area = int(opaque.sum())
        owners = self._owners[y1:y2, x1:x2]
        shared = np.bincount(owners[opaque], minlength=NOBODY + 1)[:NOBODY]
        if area < MIN_VISIBLE_AREA * height * width:
            return False
        rivals = np.flatnonzero(shared)
        if rivals.size and max_covered < 1.0:
            areas = np.bincount(self._owners.ravel(), minlength=NOBODY + 1)
            if any(shared[i] > max_covered * min(areas[i], area) for i in rivals):
                return False
        alpha = rgba[..., 3:].astype(np.float32) / 255
        self._pixels[y1:y2, x1:x2] += (rgba[..., :3] - self._pixels[y1:y2, x1:x2]) * alpha
        owners[opaque] = len(self._sprites)
        self._sprites.append(concept)
        return True

    def finish(self, jpeg_quality: int | None = None) -> Scene:
        """Return the scene. Objects that later ones hide nearly completely are not in the ground truth.

        Args:
            jpeg_quality: compress the picture as JPEG at this quality, 1 to 95; None does not compress it.
        """
        image = np.clip(self._pixels + 0.5, 0, 255).astype(np.uint8)
        if jpeg_quality is not None:
            file = io.BytesIO()
            Image.fromarray(image).save(file, "JPEG", quality=jpeg_quality)
            image = np.asarray(Image.open(file).convert("RGB"))
        areas = np.bincount(self._owners.ravel(), minlength=NOBODY + 1)
        kept = [i for i in range(len(self._sprites)) if areas[i] >= MIN_VISIBLE_AREA * self._owners.size]
        masks = self._owners[None] == np.array(kept, dtype=np.uint8)[:, None, None]
        return Scene(image, masks, tuple(self._sprites[i] for i in kept))


def make_scene(rng: np.random.Generator, sprites: SpriteLibrary, size_wh: tuple[int, int]) -> Scene:
    """Draw a random scene of 0 to 8 objects. Several of them may have the same concept.

    Args:
        rng: source of all random choices; the same state gives the same scene.
        sprites: pictures of the concepts.
        size_wh: width and height of the picture in pixels.
    """
    width, height = size_wh
    canvas = SceneCanvas(make_background(rng, (height, width)))
    count = int(rng.choice(OBJECT_COUNTS, p=OBJECT_COUNT_WEIGHTS))
    pool = choose_pool(rng)
    for _ in range(count):
        concept = pool[int(rng.integers(len(pool)))]
        pictures = sprites[concept]
        scale = rng.uniform(*(SCALE_RANGE if count < CROWD else CROWD_SCALE_RANGE)) * float(np.sqrt(width * height))
        sprite = pose(rng, pictures[rng.integers(len(pictures))], scale)
        for _attempt in range(4):
            left = int(rng.uniform(-0.1 * sprite.width, width - 0.9 * sprite.width))
            top = int(rng.uniform(-0.1 * sprite.height, height - 0.9 * sprite.height))
            if canvas.paste(sprite, concept, left, top, MAX_COVERED):
                break
    return canvas.finish(int(rng.integers(40, 95)) if rng.random() < 0.3 else None)


def choose_pool(rng: np.random.Generator) -> Sequence[Concept]:
    """Choose the one to five concepts of a scene's objects. Sometimes two of them differ only in colour."""
    pool: list[Concept] = []
    for _ in range(int(rng.integers(1, 5))):
        # Coloured nouns have seven sprites each. Choosing half of the time by noun makes the other nouns more frequent.
        choices = SPRITE_CONCEPTS if rng.random() < 0.5 else SPRITES_OF_BASE[BASES[rng.integers(len(BASES))]]
        pool.append(choices[rng.integers(len(choices))])
    if pool[0].colour and rng.random() < 0.3:
        pool.append(Concept(pool[0].base, COLOURS[rng.integers(len(COLOURS))]))
    return pool


def pose(rng: np.random.Generator, sprite: Image.Image, height_px: float) -> Image.Image:
    """Mirror a sprite or not, rotate it randomly, and scale it to a height of `height_px`."""
    if rng.random() < 0.5:
        sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    turned = sprite.rotate(rng.uniform(-MAX_ROTATION, MAX_ROTATION), Image.Resampling.BILINEAR, expand=True)
    factor = height_px / turned.height
    size = max(5, round(turned.width * factor)), max(5, round(height_px))
    return turned.resize(size, Image.Resampling.BILINEAR)


def choose_size_wh(rng: np.random.Generator, area: int) -> tuple[int, int]:
    """Choose width and height of a picture of about `area` pixels, with an aspect ratio from 9:16 to 16:9."""
    aspect = float(np.exp(rng.uniform(-MAX_LOG_ASPECT, MAX_LOG_ASPECT)))
    return round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
