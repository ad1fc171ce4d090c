"""Draws the annotated pictures of a result, one per image, and the comparison sheet."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from PIL import Image

from serve_app.cli.options import CommandError
from serve_app.cli.verdict_report import verdict_lines
from serve_app.config.schema import AppConfig
from serve_app.images import decoding, overlay
from serve_app.images.marks import Marks, marks_of
from serve_app.images.palette import Rgb, entity_colours
from serve_app.images.sheet import Panel, compare_sheet
from serve_app.schemas.dicts import ImageDict, ObjectDict, ResultDict, images_of
from serve_app.schemas.events import Role
from serve_app.schemas.requests import ImageInput, SegmentRequest


def with_masks(request: SegmentRequest) -> SegmentRequest:
    """Return the request. If it asks for no masks, they are added, because pictures need them."""
    return request.model_copy(update={"mask_format": "rle"}) if request.mask_format == "none" else request


def without_masks(document: ResultDict) -> ResultDict:
    """Return a copy of the document without RLE masks, as the request would get it without `with_masks`."""
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
    """Draw the pictures and save them as JPEG. An image that failed has no picture.

    Args:
        document: the result.
        request: the request, whose images are bytes.
        config: for the limits on images.
        folder: where the files go; made if missing.
        compare: also write `comparison.jpg`.

    Returns:
        The files written.

    Raises:
        CommandError: a file cannot be written.
    """
    colours = entity_colours(document["entities"])
    drawn = [*_draw(document, request, config, colours, compare=compare)]
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for each in drawn:
            target = folder / f"{each.role}_{Path(each.name).stem or 'image'}.jpg"
            overlay.within_jpeg(each.picture).save(target, quality=92)
            written.append(target)
        if compare and drawn:
            target = folder / "comparison.jpg"
            verdict = document.get("verdict")
            notes = () if verdict is None else verdict_lines(verdict)
            compare_sheet([each.panel for each in drawn], colours, notes).save(target, quality=92)
            written.append(target)
    except OSError as error:
        raise CommandError(f"{folder}: {error.strerror or error}") from None
    return written


@dataclass(frozen=True)
class _Drawn:
    """An annotated picture, its image's role and file name, and its panel of the comparison sheet."""

    role: str
    name: str
    picture: Image.Image
    panel: Panel


def _draw(
    document: ResultDict,
    request: SegmentRequest,
    config: AppConfig,
    colours: Mapping[str, Rgb],
    *,
    compare: bool,
) -> Iterator[_Drawn]:
    verdict = document.get("verdict")  # an older service sends none
    for role, index, source, image in _images(document, request):
        if image["objects"] is None:
            continue
        assert isinstance(source.data, bytes)  # commands read their images themselves
        pixels = decoding.decode(source.data, config.limits)
        marks = None if verdict is None else marks_of(verdict, role, index)
        draw = partial(overlay.draw_objects, pixels, image["objects"], colours, request.overlay_style)
        picture = on_sheet = draw(marks)
        if compare and role == "generated" and marks is not None and marks.lines:
            on_sheet = draw(replace(marks, lines=()))  # the sheet shows these lines as notes
        file_name = Path(image["path"]).name
        name = role if role == "generated" else f"{role}_{index}"
        panel = Panel(
            f"{name if verdict is None or role == 'generated' else f'ref {index}'}: {file_name}",
            on_sheet,
            counts(image["objects"], document["entities"]),
            highlighted=role == "generated",
            swatches={} if marks is None else _swatches(image["objects"], colours, marks),
        )
        yield _Drawn(name, file_name, picture, panel)


def _swatches(objects: Sequence[ObjectDict], colours: Mapping[str, Rgb], marks: Marks) -> dict[str, list[Rgb]]:
    """List the colours of each entity's objects."""
    found: dict[str, list[Rgb]] = {}
    for item in objects:
        own = found.setdefault(item["label"], [])
        colour = marks.colours.get(item["object_id"], colours.get(item["label"]))
        if colour is not None and colour not in own:
            own.append(colour)
    return found


def counts(objects: Sequence[ObjectDict], entities: list[str]) -> dict[str, int]:
    """Count the objects of each entity, 0 included."""
    labels = Counter(item["label"] for item in objects)
    return {entity: labels[entity] for entity in entities}


def _images(document: ResultDict, request: SegmentRequest) -> Iterator[tuple[Role, int, ImageInput, ImageDict]]:
    contextual = zip(request.contextual_images, document["contextual_images"], strict=True)
    for index, (source, image) in enumerate(contextual):
        yield "contextual", index, source, image
    if request.generated_image is not None and document["generated_image"] is not None:
        yield "generated", 0, request.generated_image, document["generated_image"]
