"""Writes scenes as picture files with their ground truth, for tests.

`python -m serve_app.embedded.segmenter.scene_files --help` lists the options.

The file `scenes.json` beside the pictures is a list with one entry per scene:

    file      name of the picture, PNG or JPEG
    width, height
    prompt    a sentence that names the entities
    entities  the phrases of the prompt, in order; some are absent from the picture
    objects   label (the entity), bbox [x1, y1, x2, y2] in pixels, mask_rle {"size": [H, W], "counts": text}
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
from PIL import Image

from serve_app.embedded.segmenter.evaluation import SIZES_WH
from serve_app.embedded.segmenter.glyphs import sprites_for_command
from serve_app.embedded.segmenter.matching import encode
from serve_app.embedded.segmenter.phrases import BASES, Concept, concepts_of
from serve_app.embedded.segmenter.scenes import Scene, make_scene, mask_bounds

SEED = 30_000_000
"""First number of these scenes' seeds. Training and evaluation use others."""

MIN_OBJECTS, MAX_OBJECTS = 1, 6
MAX_PNG_BYTES = 300_000
"""Pictures with a larger PNG file are written as JPEG; PNG does not compress film grain well."""

JPEG_QUALITY = 85
OPENINGS = ("{}", "A scene with {}", "An illustration of {}", "There is {}")
JOINERS = (" and {}", " next to {}", ", with {}", " beside {}")


class TextRle(TypedDict):
    """A mask as COCO RLE: `size` is height and width in pixels, `counts` the compressed run lengths as text."""

    size: list[int]
    counts: str


class SceneObject(TypedDict):
    """An object of a scene; `bbox` is xyxy in pixels."""

    label: str
    bbox: list[int]
    mask_rle: TextRle


class SceneEntry(TypedDict):
    """An entry of `scenes.json`."""

    file: str
    width: int
    height: int
    prompt: str
    entities: list[str]
    objects: list[SceneObject]


def main(argv: Sequence[str] | None = None) -> int:
    """Write the scenes.

    Args:
        argv: the command-line arguments; None means those of the process.

    Returns:
        The exit status, 0.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder for the pictures and scenes.json")
    parser.add_argument("--count", type=int, default=20, help="number of scenes (default: 20)")
    parser.add_argument("--font", type=Path, help="path of NotoColorEmoji.ttf (default: search the usual folders)")
    args = parser.parse_args(argv)
    sprites = sprites_for_command(args.font)
    args.folder.mkdir(parents=True, exist_ok=True)
    entries: list[SceneEntry] = []
    index = 0
    while len(entries) < args.count:
        rng = np.random.default_rng([SEED, index])
        scene = make_scene(rng, sprites, SIZES_WH[index % len(SIZES_WH)])
        index += 1
        if MIN_OBJECTS <= len(scene.sprites) <= MAX_OBJECTS:
            entries.append(write_scene(rng, scene, args.folder, f"scene_{len(entries):02d}"))
    (args.folder / "scenes.json").write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    return 0


def write_scene(rng: np.random.Generator, scene: Scene, folder: Path, stem: str) -> SceneEntry:
    """Write one picture, and return its entry for `scenes.json`.

    Args:
        rng: source of all random choices.
        scene: the scene.
        folder: an existing folder.
        stem: the picture's file name without its ending.
    """
    height, width = scene.image.shape[:2]
    entities, labels = choose_entities(rng, scene)
    objects: list[SceneObject] = []
    for mask, label in zip(scene.masks, labels, strict=True):
        rle = encode(mask)
        counts = rle["counts"].decode("ascii")
        objects.append(
            {"label": label, "bbox": list(mask_bounds(mask)), "mask_rle": {"size": [height, width], "counts": counts}}
        )
    return {
        "file": save_picture(scene, folder, stem),
        "width": width,
        "height": height,
        "prompt": write_prompt(rng, entities),
        "entities": entities,
        "objects": objects,
    }


def choose_entities(rng: np.random.Generator, scene: Scene) -> tuple[list[str], list[str]]:
    """Choose the entities of a scene: all of its objects, and one or two things that are not in it.

    Returns:
        The entities in random order, and the label of each object.
    """
    labels = [describe(sprite) for sprite in scene.sprites]
    seen = {concept.base for sprite in scene.sprites for concept in concepts_of(sprite)}
    others = [base for base in BASES if base not in seen]
    absent = [others[i] for i in rng.permutation(len(others))[: rng.integers(1, 3)]]
    entities = list(dict.fromkeys(labels)) + absent
    return [entities[i] for i in rng.permutation(len(entities))], labels


def describe(sprite: Concept) -> str:
    """Return the full name of a sprite, such as "red sofa"."""
    return f"{sprite.colour} {sprite.base}" if sprite.colour else sprite.base


def write_prompt(rng: np.random.Generator, entities: Sequence[str]) -> str:
    """Return a sentence that names the entities in order, and nothing else. At least one entity is needed."""
    noun_phrases = [f"{'an' if entity[0] in 'aeiou' else 'a'} {entity}" for entity in entities]
    sentence = OPENINGS[rng.integers(len(OPENINGS))].format(noun_phrases[0])
    for noun_phrase in noun_phrases[1:]:
        sentence += JOINERS[rng.integers(len(JOINERS))].format(noun_phrase)
    return sentence[0].upper() + sentence[1:]


def save_picture(scene: Scene, folder: Path, stem: str) -> str:
    """Save a scene's picture, as PNG if the file is small, else as JPEG.

    Returns:
        The name of the file.
    """
    picture = Image.fromarray(scene.image)
    path = folder / f"{stem}.png"
    picture.save(path, optimize=True)
    if path.stat().st_size > MAX_PNG_BYTES:
        path.unlink()
        path = folder / f"{stem}.jpg"
        picture.save(path, quality=JPEG_QUALITY)
    return path.name


if __name__ == "__main__":
    sys.exit(main())
