"""Annotated pictures of a result, one per image, and the comparison sheet. Reads images from the request's bytes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from serve_app import images, viz
from serve_app.commands.options import CommandError
from serve_app.comparison import Panel, compare_sheet
from serve_app.config import AppConfig
from serve_app.schemas import ImageInput, SegmentRequest


def write_pictures(
    document: dict[str, Any], request: SegmentRequest, config: AppConfig, folder: Path, *, compare: bool
) -> list[Path]:
    """Draw and save.

    Args:
        document: the result.
        request: its images, as bytes; images given as URL are left out.
        config: limits of decoding.
        folder: made if missing.
        compare: also write `comparison.jpg`.

    Returns:
        The files written.

    Raises:
        CommandError: the folder cannot be written.
    """
    colours = viz.entity_colours(document["entities"])
    drawn = []
    for role, source, image in _pairs(document, request):
        if isinstance(source.data, bytes) and image["objects"] is not None:
            pixels = images.decode(source.data, config.limits)
            drawn.append((role, Path(image["path"]).name, viz.draw_objects(pixels, image["objects"], colours), image))
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for role, name, picture, _ in drawn:
            target = folder / f"{role}_{Path(name).stem or 'image'}.jpg"
            picture.save(target, quality=92)
            written.append(target)
        if compare and drawn:
            target = folder / "comparison.jpg"
            panels = [
                Panel(f"{role}: {name}", picture, counts(image, document["entities"]), highlighted=role == "generated")
                for role, name, picture, image in drawn
            ]
            compare_sheet(panels, colours).save(target, quality=92)
            written.append(target)
    except OSError as error:
        raise CommandError(f"{folder}: {error.strerror or error}") from None
    return written


def counts(image: dict[str, Any], entities: list[str]) -> dict[str, int]:
    """How many objects of each entity the image has, 0 included."""
    labels = Counter(item["label"] for item in image["objects"])
    return {entity: labels[entity] for entity in entities}


def _pairs(document: dict[str, Any], request: SegmentRequest) -> list[tuple[str, ImageInput, dict[str, Any]]]:
    pairs = [
        (f"contextual_{index}", source, image)
        for index, (source, image) in enumerate(
            zip(request.contextual_images, document["contextual_images"], strict=True)
        )
    ]
    if request.generated_image is not None:
        pairs.append(("generated", request.generated_image, document["generated_image"]))
    return pairs
