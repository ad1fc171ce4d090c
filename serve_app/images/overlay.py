"""Draws results on an image: each object's mask, box, label and score, in its entity's colour. Writes no files."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from serve_app.images.fonts import readable
from serve_app.images.lettering import (
    Box,
    covered_pixels,
    draw_tag,
    font_of,
    label_of,
    place_tag,
    printable,
    shorten,
    tag_size,
    width_of,
)
from serve_app.images.marks import Marks
from serve_app.images.notice import draw_notice
from serve_app.images.palette import Rgb
from serve_app.masks.formats import read_mask
from serve_app.masks.rle import bounds, decode_rle
from serve_app.masks.steps import Steps, finish
from serve_app.schemas.base import OverlayStyle
from serve_app.schemas.dicts import ObjectDict, RleDict

MAX_LABELS = 256
"""Largest number of labels on one image. More would hide the picture; each label is compared with all before it."""
BOXES_PER_STEP = 16
"""Number of boxes that `draw_steps` draws in one step."""

_UNKNOWN: Rgb = (200, 200, 200)  # an object whose label has no colour
_FILL_ALPHA = 0.38
_JPEG_QUALITY = 88
_JPEG_MAX_SIDE = 65_500  # Source: libjpeg, JPEG_MAX_DIMENSION
# A mask that is blurred over the width of a line rises from 0 to 255 across its edge. These tables give the opacity of
# the outline for each blurred value: full in the middle, soft at both sides. A thin line uses the whole range. A thick
# line leaves space at its sides for a white halo, which makes it visible on an object of the same colour.
_THIN_ALPHA = tuple(round(255 * min(1.0, (127.5 - abs(v - 127.5)) / 64)) for v in range(256))
_THICK_ALPHA = tuple(round(255 * min(1.0, max(0.0, (96 - abs(v - 127.5)) / 32))) for v in range(256))
_HALO_ALPHA = tuple(round(170 * min(1.0, (127.5 - abs(v - 127.5)) / 24)) for v in range(256))
_HALO_FROM = 3  # width in pixels from which a line has a halo
_HALO: Rgb = (255, 255, 255)


@dataclass(frozen=True)
class _Strokes:
    """Width of lines and height of letters for an image, in pixels, and whether outlines have a halo."""

    line: int
    font: int
    halo: bool

    @classmethod
    def of(cls, size_wh: tuple[int, int], objects: int, style: OverlayStyle) -> _Strokes:
        side = math.sqrt(size_wh[0] * size_wh[1])
        crowd = min(1.0, math.sqrt(12 / max(objects, 1)))  # smaller labels if there are many objects
        font = min(0.025 * side * max(crowd, 0.6), size_wh[1] / 6)
        line = max(2 if style == "outline" else 1, round(side / 320))
        # Without a fill, a line on an object of the same colour is visible by its halo only.
        return cls(line=line, font=max(11, round(font)), halo=style == "outline" or line >= _HALO_FROM)


@dataclass(frozen=True)
class _Thing:
    """An object with its colour, its name, and alternative texts to show after the name, the best first."""

    item: ObjectDict
    colour: Rgb
    name: str
    notes: tuple[str, ...]


def draw_objects(
    image: NDArray[np.uint8],
    objects: Sequence[ObjectDict] | None,
    colours: Mapping[str, Rgb],
    style: OverlayStyle = "fill",
    marks: Marks | None = None,
) -> Image.Image:
    """Draw the objects of an image over it.

    Args:
        image: (H, W, 3) uint8 RGB; not changed.
        objects: the objects of an image document: `label`, `bbox`, `score` and a mask in any format of `masks.formats`.
            Without a mask, only the box is drawn. None (segmentation failed) draws nothing.
        colours: colours by label, from `entity_colours`. A label without one is grey.
        style: `outline` draws outlines, boxes and labels, but does not fill the objects with colour.
        marks: the verdict's marks for this image, from `marks_of`. With marks, labels are object ids with the verdict's
            notes instead of scores, and a panel at the edge shows the verdict's lines.

    Returns:
        A new RGB image of the same size. Lines and letters grow with the image, and labels stay inside.

    Raises:
        ValueError: a mask is malformed, or has another size than the image.
    """
    return finish(draw_steps(image, objects, colours, style, marks))


def draw_steps(
    image: NDArray[np.uint8],
    objects: Sequence[ObjectDict] | None,
    colours: Mapping[str, Rgb],
    style: OverlayStyle = "fill",
    marks: Marks | None = None,
) -> Steps[Image.Image]:
    """Do the same as `draw_objects` in steps, so that the caller can do other work between them.

    A mask takes two or three steps, `BOXES_PER_STEP` boxes one, the panel of lines one, and all labels one.

    Only the `MAX_LABELS` objects with the best scores get a label.

    Memory: the canvas (4 bytes per pixel) and, for one mask at a time, 8 bytes per pixel of its box; together 600 MB at
    50 megapixels. Measured at 50 megapixels: 0.7 s for a disc over the whole image; 1.6 s for noise, half of it in the
    longest step. The panel takes 0.04 s with 8 objects, and 0.5 s for 500 lines with 4,000 objects.
    """
    canvas = Image.fromarray(np.ascontiguousarray(image))
    del image  # frees its memory if the caller has dropped it as well
    yield
    things = sorted(_things(objects or (), colours, marks), key=lambda each: -_box_area(each.item["bbox"]))
    strokes = _Strokes.of(canvas.size, len(things), style)
    for each in things:  # small ones lie on top
        yield from _paint_mask(canvas, each, strokes, filled=style == "fill")
    draw = ImageDraw.Draw(canvas)
    for index, each in enumerate(things):
        _draw_box(draw, each, strokes, canvas.size)
        if index % BOXES_PER_STEP == 0:
            yield
    taken: list[Box] = []
    if marks is not None and marks.lines:
        boxes = [_clipped(each.item["bbox"], canvas.size) for each in things]
        notice = draw_notice(canvas, marks.lines, _Strokes.of(canvas.size, 1, style).font, boxes)
        taken += [] if notice is None else [notice]
        yield
    _draw_tags(draw, things, strokes, canvas.size, taken)
    return canvas


def within_jpeg(image: Image.Image) -> Image.Image:
    """Scale a picture down if a side is longer than a JPEG allows."""
    if max(image.size) > _JPEG_MAX_SIDE:
        image = image.copy()
        image.thumbnail((_JPEG_MAX_SIDE, _JPEG_MAX_SIDE))
    return image


def overlay_data_uri(image: Image.Image) -> str:
    """Encode an RGB picture as a JPEG in a data URI.

    The result has up to 1.2 characters per pixel. Memory: up to three times that. Measured at 50 megapixels: 0.5 s,
    60 MB of text and 170 MB of memory for black and white noise; 0.1 s and 1 MB for one colour.
    """
    buffer = io.BytesIO()
    within_jpeg(image).save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _box_area(bbox: Sequence[int]) -> int:
    return max(0, bbox[2] - bbox[0]) * max(0, bbox[3] - bbox[1])


def _things(objects: Sequence[ObjectDict], colours: Mapping[str, Rgb], marks: Marks | None) -> Iterator[_Thing]:
    numbers = {
        label: index + 1 for index, label in enumerate(dict.fromkeys([*colours, *(i["label"] for i in objects)]))
    }
    for item in objects:
        colour = colours.get(item["label"], _UNKNOWN)
        name = label_of(str(item["label"]), numbers[item["label"]])
        if marks is None:
            score = item.get("score")
            yield _Thing(item, colour, name, () if score is None else (f"{float(score):.2f}", ""))
        else:
            own = item["object_id"]
            name += own.removeprefix(item["label"])  # also where the fonts lack the label's letters
            yield _Thing(item, marks.colours.get(own, colour), name, marks.notes.get(own, ()))


def _paint_mask(canvas: Image.Image, thing: _Thing, strokes: _Strokes, *, filled: bool) -> Steps[None]:
    """Paint a mask's inside and outline, on the part of the canvas that it covers."""
    rle = _fitting_mask(thing.item, (canvas.height, canvas.width))
    if rle is None:
        return
    x1, y1, x2, y2 = bounds(rle)
    if x1 == x2:
        return
    margin = 2 * strokes.line
    x1, y1 = max(0, x1 - margin), max(0, y1 - margin)
    x2, y2 = min(canvas.width, x2 + margin), min(canvas.height, y2 + margin)
    region = (x1, y1, x2, y2)
    inside = np.ascontiguousarray(decode_rle(rle)[y1:y2, x1:x2]).view(np.uint8)
    if filled:
        canvas.paste(thing.colour, region, Image.fromarray(inside * np.uint8(255 * _FILL_ALPHA)))
    yield
    edge = Image.fromarray(inside * np.uint8(255)).filter(ImageFilter.BoxBlur(strokes.line))
    del inside
    yield
    if strokes.halo:
        canvas.paste(_HALO, region, edge.point(_HALO_ALPHA))
    canvas.paste(thing.colour, region, edge.point(_THICK_ALPHA if strokes.halo else _THIN_ALPHA))
    yield


def _fitting_mask(item: ObjectDict, size_hw: tuple[int, int]) -> RleDict | None:
    rle = read_mask(item, size_hw)
    if rle is not None and tuple(rle["size"]) != size_hw:
        raise ValueError(f"a mask of size {rle['size']} does not fit an image of size {[*size_hw]}")
    return rle


def _draw_box(draw: ImageDraw.ImageDraw, thing: _Thing, strokes: _Strokes, size_wh: tuple[int, int]) -> None:
    x1, y1, x2, y2 = _clipped(thing.item["bbox"], size_wh)
    draw.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=thing.colour, width=strokes.line)


def _clipped(bbox: Sequence[int], size_wh: tuple[int, int]) -> Box:
    x1, x2 = sorted(max(0, min(int(x), size_wh[0])) for x in (bbox[0], bbox[2]))
    y1, y2 = sorted(max(0, min(int(y), size_wh[1])) for y in (bbox[1], bbox[3]))
    return x1, y1, x2, y2


def _draw_tags(
    draw: ImageDraw.ImageDraw,
    things: Sequence[_Thing],
    strokes: _Strokes,
    size_wh: tuple[int, int],
    taken: list[Box],
) -> None:
    """Draw the labels. They come last, so that nothing covers them; objects with better scores are placed first."""
    for each in sorted(things, key=lambda each: -float(each.item.get("score") or 0.0))[:MAX_LABELS]:
        box = _clipped(each.item["bbox"], size_wh)
        texts = _tag_texts(each, strokes.font, size_wh[0])
        positions = [place_tag(tag_size(text, strokes.font), box, (0, 0, *size_wh), taken) for text in texts]
        if texts:
            best = int(covered_pixels(np.array(positions), taken).argmin())  # a shorter text if only that has space
            draw_tag(draw, positions[best], texts[best], strokes.font, each.colour)
            taken.append(positions[best])


def _tag_texts(thing: _Thing, font_size: int, image_width: int) -> list[str]:
    """Return alternative texts of a tag, the best first: the name and a note, cut to the image's width."""
    font = font_of(font_size)
    width = image_width - tag_size("", font_size)[0]
    tails = [f" {readable(printable(note))}".rstrip() for note in thing.notes]
    tails = [tail for tail, note in zip(tails, thing.notes, strict=True) if tail or not note]  # that can be drawn
    texts = [thing.name + tail for tail in tails if width_of(thing.name + tail, font) <= width]
    if not texts and tails and tails[-1]:  # cut a long name, but keep the shortest note
        texts = [name + tails[-1] for name in [shorten(thing.name, font, width - width_of(tails[-1], font))] if name]
    return [text for text in texts or [shorten(thing.name, font, width)] if text]
