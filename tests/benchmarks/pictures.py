"""Requests that no cache has seen: the held-out scenes under fresh grain, and prompts that never repeat."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SCENES = Path(__file__).parent.parent / "data" / "scenes"
GRAIN = 4
"""Largest change of a pixel, in levels of 0 to 255."""

ENTITIES = 4
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink")
THINGS = ("car", "sofa", "book", "umbrella", "balloon", "bird", "fish", "butterfly", "heart", "circle", "boat", "bed")
GRID = tuple(f"{colour} {thing}" for thing in THINGS for colour in COLOURS)


@dataclass(frozen=True)
class Request:
    """A prompt that names four things, and three picture files; about half of the things are in a picture."""

    prompt: str
    contextual: tuple[bytes, bytes]
    generated: bytes


def request(seed: int, prompt_seed: int | None = None) -> Request:
    """Make a request.

    Args:
        seed: another seed gives other pictures.
        prompt_seed: another one gives another prompt for the same pictures; `seed` if None.
    """
    rng = np.random.default_rng([seed, 0])
    entries = _scenes()
    chosen = [entries[index] for index in rng.choice(len(entries), 3, replace=False)]
    first, second, third = (grainy(rng, SCENES / entry["file"]) for entry in chosen)
    present = [label["label"] for entry in chosen for label in entry["objects"]]
    return Request(_prompt(seed if prompt_seed is None else prompt_seed, present), (first, second), third)


def _scenes() -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((SCENES / "scenes.json").read_text(encoding="utf-8"))
    return entries


def _prompt(seed: int, present: list[str]) -> str:
    """Name two things that are there, and two more of a grid that the seeds walk through."""
    rng = np.random.default_rng([seed, 1])
    there = [str(label) for label in rng.permutation(sorted({*present}))][:2]
    start = 2 * seed % len(GRID)
    others = [name for name in (*GRID[start:], *GRID[:start]) if name not in there]
    named = [*there, *others][:ENTITIES]
    phrases = [f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in named]
    sentence = f"{phrases[0]} next to {phrases[1]}, with " + " and ".join(phrases[2:])
    return sentence[0].upper() + sentence[1:]


def grainy(rng: np.random.Generator, path: Path) -> bytes:
    """Write a picture anew as JPEG under fresh grain: another content, the same things in it."""
    pixels = np.asarray(Image.open(path).convert("RGB"), dtype=np.int16)
    pixels = pixels + rng.integers(-GRAIN, GRAIN + 1, pixels.shape, dtype=np.int16)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
