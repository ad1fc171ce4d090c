from __future__ import annotations

import base64
import io
import time
from collections.abc import Sequence
from itertools import combinations
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from serve_app.images.lettering import Box, font_of, place_tag, printable, shorten, tag_size, width_of
from serve_app.images.overlay import BOXES_PER_STEP, draw_objects, draw_steps, overlay_data_uri
from serve_app.images.palette import contrast, entity_colours, text_colour
from serve_app.images.sheet import Panel, compare_sheet
from serve_app.masks.formats import ENCODINGS
from serve_app.masks.rle import encode_rle
from serve_app.schemas.dicts import ObjectDict
from tests.documents import found_object

GREY = 120


def grey(width: int, height: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), GREY, dtype=np.uint8)


def disc(size_wh: tuple[int, int], centre: tuple[int, int], radius: int) -> NDArray[np.bool_]:
    y, x = np.mgrid[: size_wh[1], : size_wh[0]]
    inside: NDArray[np.bool_] = np.hypot(x - centre[0], y - centre[1]) <= radius
    return inside


def found(label: str, mask: NDArray[np.bool_], score: float = 0.9) -> ObjectDict:
    y, x = np.nonzero(mask)
    bbox = [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1]
    return {**found_object(f"{label}_0", bbox, score), "mask_rle": encode_rle(mask)}


def pixels(image: Image.Image) -> NDArray[np.int64]:
    return np.asarray(image).astype(np.int64)


def changed(image: Image.Image) -> NDArray[np.bool_]:
    different: NDArray[np.bool_] = np.any(pixels(image) != GREY, axis=2)
    return different


def test_entity_colours_depend_on_the_place_alone() -> None:
    assert entity_colours(["dog", "cat"]) == dict(zip(["dog", "cat"], entity_colours(["a", "b"]).values(), strict=True))
    assert entity_colours(["dog", "cat", "dog"]) == entity_colours(["dog", "cat"])
    assert entity_colours([]) == {}


def test_entity_colours_differ_for_32_entities() -> None:
    colours = entity_colours([f"thing {i}" for i in range(32)])
    assert min(np.abs(np.subtract(a, b)).sum() for a, b in combinations(colours.values(), 2)) >= 60
    assert all(max(colour) - min(colour) > 40 for colour in colours.values())


def test_entity_colours_return_after_32() -> None:
    colours = [*entity_colours([str(i) for i in range(40)]).values()]
    assert colours[32:] == colours[:8]


def test_text_colour_is_readable_on_every_colour() -> None:
    assert min(contrast(text_colour(c), c) for c in entity_colours([str(i) for i in range(32)]).values()) >= 4.5


@pytest.mark.parametrize(
    ("a", "b", "ratio"), [((0, 0, 0), (255, 255, 255), 21.0), ((255, 255, 255), (118, 118, 118), 4.54)]
)
def test_contrast_is_that_of_wcag(a: tuple[int, int, int], b: tuple[int, int, int], ratio: float) -> None:
    assert contrast(a, b) == contrast(b, a) == pytest.approx(ratio, abs=0.01)


@pytest.mark.parametrize("size_wh", [(200, 200), (640, 480), (480, 1200), (4000, 1000)], ids=str)
def test_draw_objects_tints_the_mask_and_leaves_the_rest(size_wh: tuple[int, int]) -> None:
    side = min(size_wh)
    mask = disc(size_wh, (size_wh[0] // 2, size_wh[1] // 2), side // 4)
    colours = entity_colours(["dog"])
    image = draw_objects(grey(*size_wh), [found("dog", mask)], colours)
    assert (image.mode, image.size) == ("RGB", size_wh)
    centre = pixels(image)[size_wh[1] // 2, size_wh[0] // 2]
    expected = GREY + 0.38 * (np.array(colours["dog"]) - GREY)
    np.testing.assert_allclose(centre, expected, atol=2)
    far = disc(size_wh, (size_wh[0] // 2, size_wh[1] // 2), side // 2 - 2)
    assert not changed(image)[~far][: size_wh[0] * 5].any()  # the first rows lie above box and label
    assert not changed(image)[-side // 8 :].any()


def test_draw_objects_draws_outline_and_box_in_the_full_colour() -> None:
    mask = disc((640, 480), (320, 240), 100)
    colours = entity_colours(["dog"])
    drawn = pixels(draw_objects(grey(640, 480), [found("dog", mask)], colours))
    for x, y in ((320, 340), (249, 311), (220, 150), (420, 339)):  # bottom and lower left of the disc, two of the box
        near = drawn[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 3)
        assert (near == colours["dog"]).all(axis=1).any(), (x, y)


def test_draw_objects_leaves_a_hole_clear() -> None:
    mask = disc((400, 400), (200, 200), 120) & ~disc((400, 400), (200, 200), 60)
    image = draw_objects(grey(400, 400), [found("dog", mask)], entity_colours(["dog"]))
    assert not changed(image)[disc((400, 400), (200, 200), 50)].any()


def test_draw_objects_leaves_the_image_alone() -> None:
    image = grey(64, 64)
    draw_objects(image, [found("dog", disc((64, 64), (32, 32), 20))], {})
    assert (image == GREY).all()


@pytest.mark.parametrize("objects", [[], None], ids=["no-object", "failed"])
def test_draw_objects_without_objects_is_the_image(objects: list[ObjectDict] | None) -> None:
    assert not changed(draw_objects(grey(80, 60), objects, {})).any()


def test_draw_objects_draws_every_mask_format_alike() -> None:
    mask = disc((320, 240), (150, 120), 60) & ~disc((320, 240), (150, 120), 20)
    rle = encode_rle(mask)
    base = found_object("dog_0", found("dog", mask)["bbox"])
    items = [
        cast(ObjectDict, {**base, encoding.key: encoding.write(rle, lambda _: None)}) for encoding in ENCODINGS.values()
    ]
    first, *others = (pixels(draw_objects(grey(320, 240), [item], entity_colours(["dog"]))) for item in items)
    assert (first != GREY).any()
    assert all((first == other).all() for other in others)


def test_draw_objects_without_a_mask_draws_box_and_label() -> None:
    item = found_object("dog_0", [50, 60, 150, 160], 0.5)
    drawn = changed(draw_objects(grey(200, 200), [item], entity_colours(["dog"])))
    assert drawn[60, 60:140].all()
    assert drawn[80:150, 149].all()
    assert drawn[45:58, 52:90].any()
    assert not drawn[80:140, 70:130].any()


@pytest.mark.parametrize(
    "bbox", [[0, 0, 200, 200], [5, 5, 5, 5], [190, 190, 200, 200], [-20, -20, 260, 230], [150, 100, 40, 20]], ids=str
)
def test_draw_objects_takes_any_box(bbox: list[int]) -> None:
    assert changed(draw_objects(grey(200, 200), [found_object("dog_0", bbox, 1.0)], {})).any()


@pytest.mark.parametrize("size_wh", [(1, 1), (3, 90), (90, 3), (16, 16)], ids=str)
@pytest.mark.parametrize("label", ["dog", "日本語の犬", "كلب", "🐶🐕", "", "a\nb\tc\x00", "x" * 400], ids=ascii)
def test_draw_objects_takes_any_label_on_any_size(label: str, size_wh: tuple[int, int]) -> None:
    item = found(label, np.ones((size_wh[1], size_wh[0]), dtype=np.bool_))
    assert draw_objects(grey(*size_wh), [item], {}).size == size_wh


def test_draw_objects_skips_an_empty_mask() -> None:
    item = found("dog", np.ones((50, 50), dtype=np.bool_))
    item["mask_rle"] = encode_rle(np.zeros((50, 50), np.bool_))
    assert not changed(draw_objects(grey(50, 50), [item], {}))[25:40, 10:40].any()


def test_draw_objects_refuses_a_mask_of_another_size() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        draw_objects(grey(50, 40), [found("dog", np.ones((50, 40), dtype=np.bool_))], {})


def test_draw_objects_gives_an_entity_one_colour_in_every_image() -> None:
    colours = entity_colours(["cat", "dog"])
    for size_wh in ((200, 200), (900, 600)):
        mask = disc(size_wh, (size_wh[0] // 2, size_wh[1] // 2), 60)
        drawn = pixels(draw_objects(grey(*size_wh), [found("dog", mask)], colours)).reshape(-1, 3)
        assert (drawn == colours["dog"]).all(axis=1).any()
        assert not (drawn == colours["cat"]).all(axis=1).any()


def overlaps(boxes: Sequence[Box]) -> bool:
    """Tell whether any two boxes share a pixel."""
    return any(
        min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1]) for a, b in combinations(boxes, 2)
    )


def test_place_tag_stays_inside_and_apart() -> None:
    rng = np.random.default_rng(0)
    taken: list[Box] = []
    for _ in range(25):
        x, y = (int(v) for v in rng.integers(0, (900, 600)))
        taken.append(place_tag((90, 16), (x, y, x + 80, y + 60), (0, 0, 960, 640), taken))
    assert all(b[0] >= 0 and b[1] >= 0 and b[2] <= 960 and b[3] <= 640 for b in taken)
    assert not overlaps(taken)


def test_place_tag_stands_above_its_box_where_there_is_room() -> None:
    assert place_tag((40, 10), (100, 100, 200, 200), (0, 0, 400, 400), []) == (100, 90, 140, 100)


def test_place_tag_parts_the_tags_of_identical_boxes() -> None:
    taken: list[Box] = []
    for _ in range(8):
        taken.append(place_tag((60, 12), (50, 50, 150, 150), (0, 0, 200, 200), taken))
    assert not overlaps(taken)


@pytest.mark.parametrize("width", [0, 5, 30, 80, 1000])
def test_shorten_fits_and_keeps_the_beginning(width: int) -> None:
    font = font_of(14)
    text = shorten("light brown cabinet", font, width)
    assert width_of(text, font) <= width
    assert "light brown cabinet".startswith(text.removesuffix("..."))
    assert text == "light brown cabinet" if width == 1000 else text != "light brown cabinet"


def test_printable_keeps_one_line() -> None:
    assert printable("a\nb\t\x00c \u202e d") == "a b c d"


def test_tag_size_grows_with_text_and_font() -> None:
    assert tag_size("dog", 12)[0] < tag_size("dogs and cats", 12)[0] < tag_size("dogs and cats", 40)[0]
    assert tag_size("dog", 12)[1] < tag_size("dog", 40)[1]


def test_overlay_data_uri_is_a_jpeg_of_the_same_size() -> None:
    uri = overlay_data_uri(Image.new("RGB", (70, 50), (200, 30, 40)))
    prefix = "data:image/jpeg;base64,"
    assert uri.startswith(prefix)
    with Image.open(io.BytesIO(base64.b64decode(uri.removeprefix(prefix), validate=True))) as image:
        assert (image.format, image.size) == ("JPEG", (70, 50))


@pytest.mark.parametrize(("count", "rows", "columns"), [(1, 1, 1), (3, 1, 3), (4, 1, 4), (5, 2, 3), (17, 5, 4)])
def test_compare_sheet_sets_images_in_even_rows(count: int, rows: int, columns: int) -> None:
    panels = [Panel(f"{i}.jpg", Image.new("RGB", (640, 480), (1, 2, 3)), {"dog": 1}) for i in range(count)]
    sheet = compare_sheet(panels, entity_colours(["dog"]))
    painted = (pixels(sheet) == (1, 2, 3)).all(axis=2)
    assert sheet.size[0] == columns * 664 + 24
    assert painted.sum() == count * 640 * 480
    tops = np.flatnonzero(np.diff(painted.any(axis=1).astype(int)) == 1)
    assert len(tops) == rows


def test_compare_sheet_shrinks_large_images_and_leaves_small_ones() -> None:
    panels = [Panel("a", Image.new("RGB", (3000, 500), (9, 8, 7))), Panel("b", Image.new("RGB", (40, 30), (1, 2, 3)))]
    drawn = pixels(compare_sheet(panels, {}))
    assert (drawn == (9, 8, 7)).all(axis=2).sum() == 640 * 107
    assert (drawn == (1, 2, 3)).all(axis=2).sum() == 40 * 30


def test_compare_sheet_fills_the_swatches_of_what_was_found() -> None:
    colours = entity_colours(["dog", "cat"])
    panel = Panel("a", Image.new("RGB", (100, 100)), {"dog": 2, "cat": 0})
    drawn = pixels(compare_sheet([panel], colours))
    dog, cat = ((drawn == colours[entity]).all(axis=2).sum() for entity in ("dog", "cat"))
    assert dog > 1.5 * cat > 0


def test_compare_sheet_wraps_a_long_legend() -> None:
    entities = [f"rather long entity number {i}" for i in range(32)]
    image = Image.new("RGB", (100, 100))
    short = compare_sheet([Panel("a", image, {"dog": 1})], entity_colours(["dog"]))
    long = compare_sheet([Panel("a", image, dict.fromkeys(entities, 1))], entity_colours(entities))
    assert long.width == short.width
    assert long.height > short.height + 200


def test_compare_sheet_says_where_an_image_failed() -> None:
    image = Image.new("RGB", (100, 100))
    failed, nothing = (Panel("a", image, None), Panel("a", image, {}))
    assert (pixels(compare_sheet([failed], {})) != pixels(compare_sheet([nothing], {}))).any()


def test_compare_sheet_frames_the_generated_image() -> None:
    image = Image.new("RGB", (100, 100), (255, 0, 0))
    plain, framed = (pixels(compare_sheet([Panel("a", image, highlighted=flag)], {})) for flag in (False, True))
    assert (plain != framed).any(axis=2).sum() >= 4 * 4 * 100


def test_compare_sheet_refuses_no_image() -> None:
    with pytest.raises(ValueError, match="at least one"):
        compare_sheet([], {})


def test_draw_objects_labels_the_surest_of_thousands_of_objects_only() -> None:
    items = [found_object(f"dog_{index}", [10, 10 + index % 7, 590, 590], 1 - index / 4000) for index in range(4000)]
    begin = time.process_time()
    crowded = draw_objects(grey(600, 600), items, entity_colours(["dog"]))
    assert time.process_time() - begin < 20  # under 1 s; 800 labels took 120 s
    assert not np.array_equal(pixels(crowded), pixels(draw_objects(grey(600, 600), [], {})))


def test_draw_steps_stops_between_masks_and_boxes() -> None:
    items = [found("dog", disc((64, 64), (32, 32), 20))] * 40
    steps = draw_steps(grey(64, 64), items, {})
    assert sum(1 for _ in steps) >= 40 * 2 + 40 // BOXES_PER_STEP


def test_place_tag_tries_few_places_in_a_tall_box() -> None:
    taken: list[Box] = []
    for _ in range(150):
        taken.append(place_tag((40, 12), (0, 0, 50, 65_535), (0, 0, 60, 65_535), taken))
    assert not overlaps(taken[:60])
    assert all(box[0] >= 0 and box[3] <= 65_535 for box in taken)
