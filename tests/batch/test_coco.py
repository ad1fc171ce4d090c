"""The COCO file: read by pycocotools itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from serve_app.batch.exports.coco import write_coco
from serve_app.batch.exports.jobs import job_of_row
from serve_app.batch.output import OutputError
from serve_app.batch.row import Row
from serve_app.batch.source_names import shown
from serve_app.cli import batch
from serve_app.cli.options import CommandError
from serve_app.masks import rle
from tests.batch.command import parsed
from tests.batch.dataset import FakeSegment, by_id, connecting, read_lines, row_of, write_dataset


def test_write_coco_is_read_by_pycocotools(tmp_path: Path) -> None:
    manifest = write_dataset(tmp_path, 6)
    path = tmp_path / "coco.json"
    flags = ["--output", tmp_path / "out", "--coco", path, "--rows-per-shard", 2]
    assert batch.run_with(parsed(manifest, *flags), connecting(FakeSegment())) == 0
    coco = COCO(str(path))
    documents = by_id(read_lines(tmp_path / "out"))
    assert len(coco.imgs) == 13  # one that all rows share, two more of each row
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["dog", "sofa0", "sofa1", "sofa2"]
    by_name = {entry["file_name"]: entry for entry in coco.imgs.values()}
    assert list(by_name)[:5] == [
        "images/shared.png",
        "images/c0.png",
        "images/g0.png",
        "images/c1.png",
        "images/g1.png",
    ]
    for number in range(6):
        document = documents[f"row-{number}"]
        for image in [document["contextual_images"][1], document["generated_image"]]:
            entry = by_name[image["path"]]
            assert entry["job_id"] == document["id"]
            annotations = coco.loadAnns(coco.getAnnIds(imgIds=[entry["id"]]))
            assert len(annotations) == len(image["objects"]) == 2
            check_annotations(coco, annotations, image["objects"], document["id"])
    shared = coco.loadAnns(coco.getAnnIds(imgIds=[by_name["images/shared.png"]["id"]]))
    assert [annotation["job_id"] for annotation in shared] == ["row-0", "row-0", "row-1", "row-2"]
    for row in range(3):
        of_row = [annotation for annotation in shared if annotation["job_id"] == f"row-{row}"]
        objects = documents[f"row-{row}"]["contextual_images"][0]["objects"]
        check_annotations(coco, of_row, objects if row == 0 else objects[1:], f"row-{row}")


def check_annotations(coco: COCO, annotations: list[Any], objects: list[Any], job_id: str) -> None:
    for annotation, item in zip(annotations, objects, strict=True):
        mask = coco.annToMask(annotation)
        assert np.array_equal(mask, rle.decode_rle(item["mask_rle"]))
        assert annotation["area"] == mask.sum() == 34
        x1, y1, x2, y2 = item["bbox"]
        assert annotation["bbox"] == [x1, y1, x2 - x1, y2 - y1]
        assert coco.cats[annotation["category_id"]]["name"] == item["label"]
        assert (annotation["score"], annotation["job_id"]) == (0.75, job_id)


def test_write_coco_does_not_depend_on_the_order_of_the_work(tmp_path: Path) -> None:
    manifest = write_dataset(tmp_path, 8)
    for name, concurrency in (("a", 1), ("b", 8)):
        flags = ["--output", tmp_path / name, "--coco", tmp_path / f"{name}.json", "--concurrency", concurrency]
        batch.run_with(parsed(manifest, *flags), connecting(FakeSegment(0.01 if name == "b" else 0.0)))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_write_coco_of_nothing_is_a_file_that_loads(tmp_path: Path) -> None:
    assert write_coco(tmp_path / "coco.json", []) == {"images": 0, "annotations": 0, "categories": 0}
    assert COCO(str(tmp_path / "coco.json")).getImgIds() == []


def test_write_coco_leaves_the_old_file_where_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"none.*: No such file"):
        write_coco(tmp_path / "none" / "coco.json", [])


def test_batch_refuses_coco_for_other_mask_formats_before_the_work(tmp_path: Path) -> None:
    manifest = write_dataset(tmp_path, 1)
    with manifest.open("a") as file:
        file.write(json.dumps({**row_of(0), "id": "other", "mask_format": "polygon"}) + "\n")
    args = parsed(manifest, "--output", tmp_path / "out", "--coco", tmp_path / "coco.json")
    with pytest.raises(CommandError, match="needs masks as RLE"):
        batch.run_with(args, lambda *_: pytest.fail("started"))


def result(row: dict[str, Any], found: dict[str, list[Any]], size_wh: tuple[int, int] = (24, 16)) -> tuple[Row, Any]:
    """A row and its result. Every image has the same objects: lists of boxes, or of (box, mask) pairs, by label."""
    width, height = size_wh
    parsed_row = Row.model_validate({"id": "a", "entities": list(found), **row})

    def image(path: str) -> dict[str, Any]:
        objects = []
        for label, boxes in found.items():
            for number, (x1, y1, x2, y2) in enumerate(boxes):
                mask = np.zeros((height, width), dtype=np.bool_)
                mask[y1:y2, x1:x2] = True
                one = {"object_id": f"{label}_{number}", "label": label, "bbox": [x1, y1, x2, y2], "score": 0.5}
                objects.append(one | {"mask_rle": rle.encode_rle(mask)})
        return {"path": shown(path), "width": width, "height": height, "objects": objects, "error": None}

    document = {
        "id": parsed_row.id,
        "entities": list(found),
        "contextual_images": [image(path) for path in parsed_row.contextual],
        "generated_image": None if parsed_row.generated is None else image(parsed_row.generated),
    }
    return parsed_row, document


def written(folder: Path, *results: tuple[Row, Any]) -> dict[str, Any]:
    path = folder / "coco.json"
    write_coco(path, (job_of_row(row, document, folder) for row, document in results))
    COCO(str(path))
    return dict(json.loads(path.read_text()))


def of_images(coco: dict[str, Any]) -> dict[str, list[tuple[str, str, list[int]]]]:
    """By file name, the annotations of each image: row, category and box."""
    categories = {category["id"]: category["name"] for category in coco["categories"]}
    return {
        image["file_name"]: [
            (annotation["job_id"], categories[annotation["category_id"]], annotation["bbox"])
            for annotation in coco["annotations"]
            if annotation["image_id"] == image["id"]
        ]
        for image in coco["images"]
    }


DOG, CAT = [2, 3, 8, 9], [10, 3, 16, 9]
DOG_BOX, CAT_BOX = [2, 3, 6, 6], [10, 3, 6, 6]


@pytest.mark.parametrize(
    "spelling",
    ["g.png", "./g.png", "x/../g.png", "{folder}/g.png", "file://{folder}/g.png", "file:{folder}/%67.png"],
)
def test_write_coco_has_a_picture_once_however_rows_spell_it(tmp_path: Path, spelling: str) -> None:
    coco = written(
        tmp_path,
        result({"id": "a", "contextual": ["g.png", "g.png"], "generated": "g.png"}, {"dog": [DOG]}),
        result({"id": "b", "generated": spelling.format(folder=tmp_path)}, {"cat": [CAT]}),
    )
    assert of_images(coco) == {"g.png": [("a", "dog", DOG_BOX), ("b", "cat", CAT_BOX)]}


def test_write_coco_takes_an_entity_of_a_picture_from_the_first_row_that_looks_for_it(tmp_path: Path) -> None:
    coco = written(
        tmp_path,
        result({"id": "a", "generated": "g.png"}, {"dog": [DOG], "cat": []}),
        result({"id": "b", "generated": "g.png"}, {"Dog": [CAT], "cat": [CAT], "tree": []}),
    )
    assert of_images(coco) == {"g.png": [("a", "dog", DOG_BOX)]}
    (image,) = coco["images"]
    assert [coco["categories"][number - 1]["name"] for number in image["neg_category_ids"]] == ["cat", "tree"]
    assert (image["job_id"], image["role"]) == ("a", "generated")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("https://x/g.png?id=1", "https://x/g.png?id=2"),
        ("https://x/g.png?id=1&sig=1", "https://x/g.png?id=2&sig=1"),
        ("https://x/g.png?id=1", "https://me:secret@x/g.png"),
    ],
)
def test_write_coco_tells_addresses_apart_and_shows_no_query(tmp_path: Path, first: str, second: str) -> None:
    rows = [
        result({"id": "a", "generated": first}, {"dog": [DOG]}),
        result({"id": "b", "generated": second}, {"dog": [CAT]}),
    ]
    coco = written(tmp_path, *rows, result({"id": "c", "generated": f"{first}#part"}, {"cat": [CAT]}))
    assert of_images(coco) == {
        "https://x/g.png": [("a", "dog", DOG_BOX), ("c", "cat", CAT_BOX)],
        "https://x/g.png#2": [("b", "dog", CAT_BOX)],
    }


def test_write_coco_does_not_mix_pictures_of_two_sizes(tmp_path: Path) -> None:
    """A file that was replaced between two runs."""
    coco = written(
        tmp_path,
        result({"id": "a", "generated": "g.png"}, {"dog": [DOG]}),
        result({"id": "b", "generated": "g.png"}, {"dog": [CAT]}, (48, 32)),
        result({"id": "c", "generated": "g.png#2"}, {"dog": [CAT]}),
    )
    assert [(image["file_name"], image["width"]) for image in coco["images"]] == [
        ("g.png", 24), ("g.png#2", 48), ("g.png#2#2", 24),
    ]  # fmt: skip


def test_write_coco_has_one_category_of_names_that_differ_in_case_or_composition(tmp_path: Path) -> None:
    coco = written(
        tmp_path,
        result({"id": "a", "contextual": ["a.png"]}, {"Caf\u00e9 table": [DOG], "dog": []}),
        result({"id": "b", "contextual": ["b.png"]}, {"cafe\u0301 TABLE": [CAT], "DOG": [DOG]}),
    )
    assert [category["name"] for category in coco["categories"]] == ["Caf\u00e9 table", "dog"]
    assert {annotation["category_id"] for annotation in coco["annotations"]} == {1, 2}


def test_write_coco_gives_an_object_with_an_empty_mask_the_area_of_its_box(tmp_path: Path) -> None:
    row, document = result({"generated": "g.png"}, {"dog": [DOG, CAT]})
    document["generated_image"]["objects"][0]["mask_rle"] = rle.encode_rle(np.zeros((16, 24), dtype=np.bool_))
    written(tmp_path, (row, document))
    truth = COCO(str(tmp_path / "coco.json"))
    assert [(each["area"], each["bbox"], int(truth.annToMask(each).sum())) for each in truth.anns.values()] == [
        (36, DOG_BOX, 0), (36, CAT_BOX, 36),
    ]  # fmt: skip
    found = truth.loadRes([{**each, "score": 0.9} for each in truth.anns.values()])
    for kind, expected in (("bbox", 1.0), ("segm", 0.5)):
        evaluation = COCOeval(truth, found, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert evaluation.stats[8] == expected  # recall: without a mask it is found by its box only
