"""The COCO file: read by pycocotools itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from serve_app.batch.coco import write_coco
from serve_app.batch.output import OutputError
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
    assert len(coco.imgs) == 18
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["dog", "sofa0", "sofa1", "sofa2"]
    for number in range(6):
        document = documents[f"row-{number}"]
        images = [*document["contextual_images"], document["generated_image"]]
        for place, image in enumerate(images):
            entry = coco.imgs[3 * number + place + 1]  # in the manifest's order
            assert (entry["file_name"], entry["job_id"]) == (image["path"], document["id"])
            annotations = coco.loadAnns(coco.getAnnIds(imgIds=[entry["id"]]))
            assert len(annotations) == len(image["objects"]) == 2
            for annotation, item in zip(annotations, image["objects"], strict=True):
                mask = coco.annToMask(annotation)
                assert np.array_equal(mask, rle.decode_rle(item["mask_rle"]))
                assert annotation["area"] == mask.sum() == 34
                x1, y1, x2, y2 = item["bbox"]
                assert annotation["bbox"] == [x1, y1, x2 - x1, y2 - y1]
                assert coco.cats[annotation["category_id"]]["name"] == item["label"]
                assert annotation["score"] == 0.75


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
