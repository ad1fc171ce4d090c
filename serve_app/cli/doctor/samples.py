"""Reads the bundled images and prompts, on which `genseg doctor --load` runs the models."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import serve_app.embedded
from serve_app.config.schema import LimitsConfig
from serve_app.images.decoding import decode
from serve_app.images.modes import RgbArray

PHRASES = (
    "dog", "red sofa", "tree", "yellow balloon", "soccer ball", "cat", "blue chair", "car", "lamp", "window", "flower",
    "table", "bird", "boat", "house", "person",
)  # fmt: skip
"""Phrases for the segmenter. The bundled images show the first IN_THE_IMAGES of them."""
IN_THE_IMAGES = 5


@dataclass(frozen=True)
class Samples:
    """The images and prompts on which the models run.

    Attributes:
        images: (H, W, 3) uint8 RGB each.
        prompts: for the parser.
    """

    images: tuple[RgbArray, ...]
    prompts: tuple[str, ...]


def bundled() -> Samples:
    """Read the images and prompts that ship inside the package."""
    folder = Path(serve_app.embedded.__file__).parent / "images"
    story = json.loads((folder / "demo.json").read_text())
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines() if line.strip()]
    names = [*story["contextual"], story["generated"]]
    return Samples(
        images=tuple(decode((folder / name).read_bytes(), LimitsConfig()) for name in names),
        prompts=tuple(dict.fromkeys([story["prompt"], *(row["prompt"] for row in rows if row.get("prompt"))])),
    )
