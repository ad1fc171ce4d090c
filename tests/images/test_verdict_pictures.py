"""Outlines without a fill, and what a verdict adds to a picture, pixel by pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from serve_app.images.lettering import Box, font_of, width_of, wrap
from serve_app.images.marks import Marks
from serve_app.images.notice import MAX_LINES, draw_notice
from serve_app.images.overlay import draw_objects
from serve_app.images.palette import entity_colours
from serve_app.images.sheet import Panel, compare_sheet
from serve_app.schemas.dicts import ObjectDict
from tests.images.test_overlay import GREY, changed, disc, found, grey, pixels

DOG, OWN = entity_colours(["dog", "own"]).values()
COLOURS = {"dog": DOG}


@pytest.mark.parametrize("size_wh", [(200, 200), (400, 300), (1600, 900)], ids=str)
def test_an_outline_leaves_the_colour_of_the_object(size_wh: tuple[int, int]) -> None:
    side = min(size_wh)
    centre = (size_wh[0] // 2, size_wh[1] // 2)
    mask, core = disc(size_wh, centre, side // 4), disc(size_wh, centre, side // 4 - 8)
    filled = draw_objects(grey(*size_wh), [found("dog", mask)], COLOURS)
    outlined = draw_objects(grey(*size_wh), [found("dog", mask)], COLOURS, "outline")
    assert changed(filled)[core].all()
    assert not changed(outlined)[core].any()
    ring = disc(size_wh, centre, side // 4 + 6) & ~disc(size_wh, centre, side // 4 - 6)
    assert (pixels(outlined)[ring] == DOG).all(axis=1).sum() > side / 2


def test_an_outline_of_the_objects_own_colour_has_a_light_rim() -> None:
    mask = disc((400, 300), (200, 150), 80)
    image = np.full((300, 400, 3), DOG, dtype=np.uint8)
    drawn = pixels(draw_objects(image, [found("dog", mask)], COLOURS, "outline"))
    rim = disc((400, 300), (200, 150), 86) & ~disc((400, 300), (200, 150), 74)
    assert (drawn[rim] - DOG).max() > 60


def test_an_object_that_is_marked_has_its_own_colour_and_the_others_their_labels() -> None:
    objects = [renamed(found("dog", disc((600, 300), (x, 150), 60)), f"dog_{i}") for i, x in enumerate((120, 450))]
    drawn = pixels(draw_objects(grey(600, 300), objects, COLOURS, marks=Marks({"dog_1": OWN}, {"dog_1": ("= ref 0",)})))
    left, right = drawn[:, :300].reshape(-1, 3), drawn[:, 300:].reshape(-1, 3)
    assert (left == DOG).all(axis=1).any()
    assert not (left == OWN).all(axis=1).any()
    assert (right == OWN).all(axis=1).any()
    assert not (right == DOG).all(axis=1).any()


def renamed(item: ObjectDict, object_id: str) -> ObjectDict:
    return {**item, "object_id": object_id}


def tag(item: ObjectDict, notes: tuple[str, ...], width: int = 600) -> NDArray[np.int64]:
    return pixels(draw_objects(grey(width, 300), [item], COLOURS, marks=Marks(notes={item["object_id"]: notes})))


def test_a_note_stands_in_the_place_of_the_score() -> None:
    item = found("dog", disc((600, 300), (300, 150), 60))
    as_label = found("dog_0", disc((600, 300), (300, 150), 60), 0.83)
    as_label["label"] = "dog_0"
    expected = pixels(draw_objects(grey(600, 300), [as_label], {"dog_0": DOG}))
    np.testing.assert_array_equal(tag(item, ("0.83",)), expected)


def test_the_note_stays_where_the_name_is_too_long() -> None:
    name = "rather long name of a dog that has no room"
    item = found(name, disc((160, 300), (80, 150), 60))
    np.testing.assert_array_equal(
        tag(item, ("= ref 0 and more words than have room (0.83)", "(0.83)"), 160),
        tag(item, ("(0.83)",), 160),
    )
    assert (tag(item, ("(0.83)",), 160) != tag(item, ("(0.11)",), 160)).any()


def test_lines_stand_beside_the_objects() -> None:
    left, right = disc((900, 600), (150, 300), 140), disc((900, 600), (740, 300), 140)
    objects = [found("dog", left), renamed(found("dog", right), "dog_1")]
    lines = ("dog: 3 asked, 2 found", "ref 0 dog_2: merged with another individual")
    plain, noted = (
        pixels(draw_objects(grey(900, 600), objects, COLOURS, "outline", Marks(lines=x))) for x in ((), lines)
    )
    panel = (plain != noted).any(axis=2)
    assert panel.sum() > 4000
    assert not (panel & (left | right)).any()


BOX_CASES: dict[str, list[Box]] = {
    "nothing to hide": [],
    "everything": [(0, 0, 640, 480)],
    "the lower half": [(0, 240, 640, 480)],
    "the upper half": [(0, 0, 640, 240)],
}


@pytest.mark.parametrize("avoid", BOX_CASES.values(), ids=BOX_CASES)
def test_a_panel_stays_inside_and_hides_a_fifth_of_an_object_at_most(avoid: list[Box]) -> None:
    canvas = Image.new("RGB", (640, 480), (GREY,) * 3)
    box = draw_notice(canvas, ["dog: 2 asked, 1 found", "tree: must not be there, 1 found"], 14, avoid)
    assert box is not None
    x1, y1, x2, y2 = box
    assert 0 <= x1 < x2 <= 640
    assert 0 <= y1 < y2 <= 480
    inside = np.zeros((480, 640), np.bool_)
    inside[y1:y2, x1:x2] = True
    assert changed(canvas)[inside].all()
    assert not changed(canvas)[~inside].any()
    for left, top, right, bottom in avoid:
        assert inside[top:bottom, left:right].sum() <= (right - left) * (bottom - top) / 5


def test_a_panel_shows_fewer_lines_rather_than_hide_an_object() -> None:
    boxes: list[Box] = [(x, y, x + 100, y + 70) for x in range(0, 400, 100) for y in (25, 105, 185)]
    canvas = Image.new("RGB", (400, 260))
    few = draw_notice(canvas.copy(), [f"line number {i}" for i in range(9)], 11, boxes)
    many = draw_notice(canvas.copy(), [f"line number {i}" for i in range(9)], 11, [])
    assert few is not None
    assert many is not None
    assert few[3] - few[1] < many[3] - many[1]


def test_of_thousands_of_lines_a_panel_shows_the_first() -> None:
    box = draw_notice(canvas := Image.new("RGB", (3000, 3000)), ["dog: 2 asked, 1 found"] * 5000, 60, [])
    assert box is not None
    assert box[3] - box[1] <= 60 * 1.35 * (MAX_LINES + 1) + 60
    assert canvas.getpixel((box[0] + 60, box[3] - 1)) != (0, 0, 0)


@pytest.mark.parametrize("size_wh", [(1, 1), (40, 300), (300, 20), (90, 90)], ids=str)
def test_an_image_too_small_for_words_has_no_panel(size_wh: tuple[int, int]) -> None:
    canvas = Image.new("RGB", size_wh)
    assert draw_notice(canvas, ["dog: 2 asked, 1 found"], 11, []) is None
    assert not pixels(canvas).any()


@pytest.mark.parametrize("style", ["fill", "outline"])
@pytest.mark.parametrize("size_wh", [(1, 1), (3, 90), (90, 3), (60, 60), (65_535, 2)], ids=str)
def test_marks_fit_on_any_size(size_wh: tuple[int, int], style: Any) -> None:
    item = found("日本語の犬", np.ones((size_wh[1], size_wh[0]), dtype=np.bool_))
    marks = Marks(
        {item["object_id"]: OWN}, {item["object_id"]: ("= ref 0 日本語の犬_1 (0.83)", "= (0.83)")}, ("日本語: 2 asked",)
    )
    assert draw_objects(grey(*size_wh), [item], {}, style, marks).size == size_wh


@pytest.mark.parametrize("width", [1, 40, 100, 1000])
def test_wrapped_lines_have_the_width_and_all_words(width: int) -> None:
    text = "ref 1 red sofa_0: another individual in the generated image"
    lines = wrap(text, font_of(14), width)
    assert all(width_of(line, font_of(14)) <= width for line in lines)
    if width >= 100:
        assert " ".join(lines) == text
    if width == 1000:
        assert len(lines) == 1


def test_a_sheet_has_notes_below_its_images_and_is_the_same_without() -> None:
    panels = [Panel("a", Image.new("RGB", (100, 100), (1, 2, 3)), {"dog": 1})]
    plain = pixels(compare_sheet(panels, COLOURS))
    noted = pixels(compare_sheet(panels, COLOURS, ["arrived: no", "dog: 2 asked, 1 found"]))
    other = pixels(compare_sheet(panels, COLOURS, ["arrived: yes", "dog: 2 asked, 1 found"]))
    np.testing.assert_array_equal(noted[: len(plain)], plain)
    assert (noted[len(plain) :] != noted[-1, -1]).any()
    assert (noted != other).any()


def test_long_notes_of_a_sheet_are_wrapped_and_many_are_counted() -> None:
    panels = [Panel("a", Image.new("RGB", (100, 100)))]
    heights = [compare_sheet(panels, {}, notes).height for notes in (["a"] * 2, ["a", "word " * 200], ["a"] * 5000)]
    assert heights[0] < heights[1]
    assert heights[0] < heights[2] < 3000


def test_a_legend_shows_the_colours_of_the_objects() -> None:
    image = Image.new("RGB", (100, 100))
    plain = pixels(compare_sheet([Panel("a", image, {"dog": 2})], COLOURS))
    both = pixels(compare_sheet([Panel("a", image, {"dog": 2}, swatches={"dog": [OWN, DOG]})], COLOURS))
    assert (plain == DOG).all(axis=2).sum() == (both == DOG).all(axis=2).sum() == (both == OWN).all(axis=2).sum() > 100
    assert not (plain == OWN).all(axis=2).any()
