"""Annotated pictures of a result, one per image, and the comparison sheet, drawn on the request's bytes."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from serve_app.cli.options import CommandError
from serve_app.config.schema import AppConfig
from serve_app.images import decoding, overlay
from serve_app.images.palette import Rgb, entity_colours
from serve_app.images.sheet import Panel, compare_sheet
from serve_app.schemas.dicts import ImageDict, ObjectDict, ResultDict, images_of
from serve_app.schemas.requests import ImageInput, SegmentRequest


def with_masks(request: SegmentRequest) -> SegmentRequest:
    """Ask for masks, which pictures need, where the request asks for none."""
    return request.model_copy(update={"mask_format": "rle"}) if request.mask_format == "none" else request


def without_masks(document: ResultDict) -> ResultDict:
    """Return the document that the request would have got without `with_masks`."""
    bare = copy.deepcopy(document)
    for image in images_of(bare):
        for each in image["objects"] or ():
            each.pop("mask_rle", None)
    return bare


def write_pictures(
    document: ResultDict,
    request: SegmentRequest,
    config: AppConfig,
    folder: Path,
    *,
    compare: bool,
) -> list[Path]:
    """Draw and save.

    Args:
        document: the result.
        request: its images, as bytes.
        config: limits of decoding.
        folder: made if missing.
        compare: also write `comparison.jpg`.

    Returns:
        The files written.

    Raises:
        CommandError: the folder cannot be written.
    """
    colours = entity_colours(document["entities"])
    drawn = [*_draw(document, request, config, colours)]
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for each in drawn:
            target = folder / f"{each.role}_{Path(each.name).stem or 'image'}.jpg"
            overlay.within_jpeg(each.picture).save(target, quality=92)
            written.append(target)
        if compare and drawn:
            target = folder / "comparison.jpg"
            panels = [
                Panel(f"{each.role}: {each.name}", each.picture, each.counts, highlighted=each.role == "generated")
                for each in drawn
            ]
            compare_sheet(panels, colours).save(target, quality=92)
            written.append(target)
    except OSError as error:
        raise CommandError(f"{folder}: {error.strerror or error}") from None
    return written


@dataclass(frozen=True)
class _Drawn:
    """One annotated picture: the image's role, file name and objects of each entity."""

    role: str
    name: str
    picture: Image.Image
    counts: dict[str, int]


def _draw(
    document: ResultDict,
    request: SegmentRequest,
    config: AppConfig,
    colours: Mapping[str, Rgb],
) -> Iterator[_Drawn]:
    for role, source, image in _pairs(document, request):
        if image["objects"] is None:
            continue
        assert isinstance(source.data, bytes)  # commands read their images themselves
        picture = overlay.draw_objects(decoding.decode(source.data, config.limits), image["objects"], colours)
        yield _Drawn(role, Path(image["path"]).name, picture, counts(image["objects"], document["entities"]))


def counts(objects: Sequence[ObjectDict], entities: list[str]) -> dict[str, int]:
    """Count the objects of each entity, 0 included."""
    labels = Counter(item["label"] for item in objects)
    return {entity: labels[entity] for entity in entities}


def _pairs(document: ResultDict, request: SegmentRequest) -> list[tuple[str, ImageInput, ImageDict]]:
    contextual = zip(request.contextual_images, document["contextual_images"], strict=True)
    pairs = [(f"contextual_{index}", source, image) for index, (source, image) in enumerate(contextual)]
    source, image = request.generated_image, document["generated_image"]
    return pairs if source is None or image is None else [*pairs, ("generated", source, image)]
