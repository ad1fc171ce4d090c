import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from serve_app.embedded.segmenter.evaluation import Answer, ask, held_out_scenes, summarise
from serve_app.embedded.segmenter.glyphs import SpriteLibrary
from serve_app.embedded.segmenter.matching import Match, Rle, bounds_xyxy, box_iou, encode, match_masks
from serve_app.embedded.segmenter.model import build_model
from serve_app.embedded.segmenter.phrases import Concept, Query
from serve_app.embedded.segmenter.scene_files import main as write_scene_files
from serve_app.embedded.segmenter.scene_files import write_scene
from serve_app.embedded.segmenter.scenes import make_scene

SCENES = Path(__file__).parents[2] / "data" / "scenes"


def square(left: int, size: int = 20) -> Rle:
    mask = np.zeros((50, 100), dtype=np.uint8)
    mask[10 : 10 + size, left : left + size] = 1
    return encode(mask)


def answer(
    kind: str, truth: list[int], found: list[int], scores: list[float], presence: float, narrower: float = 0.0
) -> Answer:
    """Squares at these columns; the boxes of the found ones end `narrower` pixels too early."""
    query = Query("dog", Concept("dog"), kind, tuple(range(len(truth))))
    boxes = [[x, 10.0, x + 20.0 - narrower, 30.0] for x in found]
    return Answer(query, [square(x) for x in truth], [square(x) for x in found], boxes, scores, presence, (100, 50))


def test_match_masks_gives_an_object_to_one_detection_only() -> None:
    assert match_masks([square(10), square(11)], [square(10)]) == [Match(0, 0, 1.0)]
    matches = match_masks([square(12), square(50)], [square(50), square(10)])
    assert [(each.found, each.truth) for each in matches] == [(0, 1), (1, 0)]
    assert [each.iou for each in matches] == pytest.approx([18 / 22, 1.0])
    assert match_masks([square(40)], [square(10)]) == []
    assert match_masks([], [square(10)]) == [] == match_masks([square(10)], [])


@pytest.mark.parametrize(
    ("second", "expected"),
    [((0, 0, 10, 10), 1.0), ((5, 0, 15, 10), 1 / 3), ((2, 2, 7, 7), 0.25), ((10, 0, 20, 10), 0.0), ((3, 3, 3, 9), 0.0)],
    ids=["same", "half", "inside", "touching", "empty"],
)
def test_box_iou(second: tuple[float, ...], expected: float) -> None:
    assert box_iou((0, 0, 10, 10), second) == pytest.approx(expected)
    assert box_iou(second, (0, 0, 10, 10)) == pytest.approx(expected)


def test_bounds_have_exclusive_far_edges() -> None:
    assert bounds_xyxy(square(40)) == [40, 10, 60, 30]


def test_summarise_counts_at_the_threshold() -> None:
    answers = [
        answer("plain", [10, 60], [10, 60, 11], [0.9, 0.8, 0.3], 0.9),
        answer("coloured", [10], [10, 60], [0.9, 0.6], 0.8),
        answer("plain", [40], [], [], 0.2),
        answer("absent", [], [], [], 0.1),
    ]
    figures = summarise(answers)
    assert figures["precision"] == pytest.approx(3 / 4)
    assert figures["recall"] == pytest.approx(3 / 4)
    assert figures["presence_accuracy"] == pytest.approx(3 / 4)
    assert figures["mask_iou"] == pytest.approx(1.0)
    assert figures["by_kind"]["absent"]["recall"] is None
    assert figures["by_kind"]["plain"]["objects"] == 3
    assert 0.7 < figures["ap50"] <= 0.76


def test_boxes_are_measured_apart_from_masks() -> None:
    answers = [
        answer("plain", [10, 60], [10, 60], [0.9, 0.8], 0.9, narrower=4.0),  # IoU 0.8
        answer("coloured", [10], [10], [0.9], 0.8, narrower=12.0),  # IoU 0.4
        answer("plain", [10], [10], [0.2], 0.8),  # below the threshold: not a match
        answer("absent", [], [], [], 0.1),
    ]
    figures = summarise(answers)
    assert figures["mask_iou"] == pytest.approx(1.0)
    assert figures["box_iou"] == pytest.approx((0.8 + 0.8 + 0.4) / 3)
    assert figures["by_kind"]["coloured"]["box_iou"] == pytest.approx(0.4)
    assert figures["by_kind"]["absent"]["box_iou"] is None
    assert figures["ap"] == pytest.approx(1.0)
    assert 0.3 < figures["box_ap"] < figures["box_ap75"] == figures["box_ap50"] < 0.76


def test_held_out_scenes_do_not_depend_on_their_number(sprites: SpriteLibrary) -> None:
    (first, asked), *_ = held_out_scenes(sprites, 2, seed=0)
    (again, asked_again), *_ = held_out_scenes(sprites, 1, seed=0)
    assert np.array_equal(first.image, again.image)
    assert asked == asked_again


def test_ask_answers_every_query_by_the_stock_path(sprites: SpriteLibrary) -> None:
    model, processor = build_model(None)
    scene, queries = next(held_out_scenes(sprites, 1, seed=0))
    answers = ask(model.eval(), processor, scene, queries[:2])
    assert [each.query for each in answers] == queries[:2]
    for each in answers:
        assert each.scores == sorted(each.scores, reverse=True)
        assert all(rle["size"] == list(scene.image.shape[:2]) for rle in each.found)
        assert len(each.boxes) == len(each.found)
        height, width = scene.image.shape[:2]
        assert all(0 <= x1 <= x2 <= width and 0 <= y1 <= y2 <= height for x1, y1, x2, y2 in each.boxes)


def test_write_scene_tells_the_truth(sprites: SpriteLibrary, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    scene = make_scene(rng, sprites, (160, 120))
    entry = write_scene(rng, scene, tmp_path, "scene")
    with Image.open(tmp_path / entry["file"]) as picture:
        assert picture.size == (entry["width"], entry["height"]) == (160, 120)
    labels = [each["label"] for each in entry["objects"]]
    assert len(labels) == len(scene.sprites)
    assert set(labels) < set(entry["entities"])
    assert all(entity in entry["prompt"] for entity in entry["entities"][1:])
    for each, mask in zip(entry["objects"], scene.masks, strict=True):
        assert np.array_equal(coco_mask.decode(each["mask_rle"]).astype(bool), mask)


def test_write_scene_files_needs_the_font(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="fonts-noto-color-emoji"):
        write_scene_files([str(tmp_path), "--font", str(tmp_path / "missing.ttf")])


def test_bundled_scenes_are_consistent() -> None:
    entries = json.loads((SCENES / "scenes.json").read_text(encoding="utf-8"))
    assert len(entries) == 20
    for entry in entries:
        with Image.open(SCENES / entry["file"]) as picture:
            assert picture.size == (entry["width"], entry["height"])
        for each in entry["objects"]:
            assert each["label"] in entry["entities"]
            x, y, width, height = coco_mask.toBbox(each["mask_rle"]).astype(int).tolist()
            assert each["bbox"] == [x, y, x + width, y + height]
