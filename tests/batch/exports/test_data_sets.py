"""COCO with polygons and YOLO: the tools that use them open them, and give the masks of the document."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import supervision
import yaml
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from serve_app.batch.exports.catalogue import Catalogue
from serve_app.batch.exports.jobs import job_of_result
from serve_app.batch.exports.reading import open_results
from serve_app.batch.exports.yolo import FIRST_LINE, write_yolo
from serve_app.cli.options import CommandError
from tests.batch.exports.folder import HEIGHT, WIDTH, ColouredPictures, export, jobs_of, masks_of

FILLED = masks_of("ring")[0].copy()
FILLED[4:7, 5:8] = True
EXPECTED: dict[str, list[NDArray[np.bool_]]] = {
    "ring": [FILLED], "parts": masks_of("parts"), "dog": masks_of("dog"), "nothing": [], "empty": [],
}  # fmt: skip
"""What a format without holes has of each entity, in each picture in which it was looked for."""
LOOKED_FOR = {"a/p.png": ["ring", "parts", "dog"], "b/p.png": ["ring", "parts"], "c.png": ["dog"]}


def expected(name: str) -> list[tuple[str, NDArray[np.bool_]]]:
    return [(label, mask) for label in LOOKED_FOR[name] for mask in EXPECTED[label]]


def test_polygons_are_the_masks_of_the_document_for_pycocotools(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "coco.json"
    export(results, "coco-polygon", path)
    told = "3 images, 8 annotations, 6 categories, 2 holes filled, 2 objects with an empty mask left out"
    assert f"wrote {path}: {told}" in capsys.readouterr().err
    coco = COCO(str(path))
    for image in coco.imgs.values():
        found = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
        wanted = expected(image["file_name"])
        assert [coco.cats[each["category_id"]]["name"] for each in found] == [label for label, _ in wanted]
        for each, (_, mask) in zip(found, wanted, strict=True):
            assert isinstance(each["segmentation"], list)
            assert np.array_equal(coco.annToMask(each), mask)
            assert each["area"] == mask.sum()


def test_an_image_that_failed_is_no_image_without_the_thing(results: Path, tmp_path: Path) -> None:
    """Row 3 looked for `broken` in c.png and failed: nobody knows whether it is there."""
    export(results, "coco", tmp_path / "coco.json")
    coco = json.loads((tmp_path / "coco.json").read_text())
    names = {each["id"]: each["name"] for each in coco["categories"]}
    negative = {each["file_name"]: [names[one] for one in each["neg_category_ids"]] for each in coco["images"]}
    assert negative == {"a/p.png": ["nothing", "broken"], "b/p.png": [], "c.png": ["nothing"]}


@pytest.mark.parametrize("kind", ["coco", "coco-polygon"])
def test_supervision_opens_coco(kind: str, results: Path, tmp_path: Path) -> None:
    export(results, kind, tmp_path / "coco.json")
    pictures = results.parent
    dataset = supervision.DetectionDataset.from_coco(str(pictures), str(tmp_path / "coco.json"), force_masks=True)
    assert dataset.classes == ["ring", "parts", "dog", "nothing", "empty", "broken"]
    assert len(dataset) == 3
    for path, _, detections in dataset:
        name = str(Path(path).relative_to(pictures))
        assert detections.mask is not None
        assert detections.class_id is not None
        if kind == "coco":
            wanted = [(label, mask) for label in LOOKED_FOR[name] for mask in masks_of(label)]
            wanted += [("empty", masks_of("empty")[0])] if name != "b/p.png" else []
            assert [dataset.classes[each] for each in detections.class_id] == [label for label, _ in wanted]
            for mask, (_, exact) in zip(detections.mask, wanted, strict=True):
                assert np.array_equal(mask, exact)
        else:
            wanted = expected(name)
            assert [dataset.classes[each] for each in detections.class_id] == [label for label, _ in wanted]
            for mask, (_, exact) in zip(detections.mask, wanted, strict=True):
                check_near(mask, exact)


@pytest.mark.parametrize("kind", ["coco", "coco-polygon"])
def test_a_picture_that_only_failed_is_left_out(results: Path, tmp_path: Path, kind: str) -> None:
    document = json.loads(json.dumps(jobs_of(results)[3].document))
    (tmp_path / "one.json").write_text(json.dumps(document))
    export(tmp_path / "one.json", kind, tmp_path / "coco.json")
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert [each["file_name"] for each in coco["images"]] == ["a/p.png"]
    export(tmp_path / "one.json", "yolo", tmp_path / "set", "--no-pictures")
    assert [path.name for path in (tmp_path / "set" / "labels").iterdir()] == ["p.txt"]


def test_twenty_thousand_pictures_of_one_name_are_told_apart(results: Path, tmp_path: Path) -> None:
    """Each picture must find its name in one step. Counting up from the first name each time would take minutes."""
    document = jobs_of(results)["both"].document.copy()
    document["contextual_images"] = []
    catalogue = Catalogue()
    for number in range(20_000):
        assert [*catalogue.add(job_of_result(number, document, tmp_path, {}, same_path_same_file=False))]
    names = [each.file_name for each in catalogue.pictures.values()]
    assert [names[0], names[1], names[-1]] == ["b/p.png", "b/p.png#2", "b/p.png#20000"]
    assert len({*names}) == 20_000


def check_near(mask: NDArray[np.bool_], exact: NDArray[np.bool_]) -> None:
    """Check that a drawn mask covers the exact one, and exceeds it by at most one pixel to the right and below."""
    assert (mask >= exact).all()
    right, below = np.zeros_like(exact), np.zeros_like(exact)
    right[:, 1:], below[1:] = exact[:, :-1], exact[:-1]
    corner = np.zeros_like(exact)
    corner[1:, 1:] = exact[:-1, :-1]
    assert (mask <= exact | right | below | corner).all()


def polygon_of(line: str) -> tuple[int, list[float]]:
    number, *shares = line.split()
    points = np.array([float(each) for each in shares]).reshape(-1, 2) * [WIDTH, HEIGHT]
    return int(number), points.ravel().tolist()


def test_yolo_labels_are_the_masks_of_the_document(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(results, "yolo", tmp_path / "set")
    counts = "3 images, 8 labels, 6 classes, 3 files copied, 2 holes filled, 2 objects with an empty mask left out"
    assert f": {counts}" in capsys.readouterr().err
    described = yaml.safe_load((tmp_path / "set" / "data.yaml").read_text())
    assert described["path"] == str(tmp_path / "set")
    assert (tmp_path / "set" / described["train"]).is_dir()
    names = [*described["names"].values()]
    assert [*described["names"]] == [0, 1, 2, 3, 4, 5]
    for stem, name in (("p", "a/p.png"), ("p_2", "b/p.png"), ("c", "c.png")):  # two pictures are called p.png
        assert (tmp_path / "set" / "images" / f"{stem}.png").read_bytes() == (results.parent / name).read_bytes()
        lines = (tmp_path / "set" / "labels" / f"{stem}.txt").read_text().splitlines()
        wanted = expected(name)
        for line, (label, mask) in zip(lines, wanted, strict=True):
            number, polygon = polygon_of(line)
            assert names[number] == label
            rounded = [round(each) for each in polygon]
            assert np.abs(np.array(polygon) - rounded).max() < 1e-4
            drawn = coco_mask.decode(coco_mask.frPyObjects([[*map(float, rounded)]], HEIGHT, WIDTH)[0])
            assert np.array_equal(drawn, mask)


def test_supervision_opens_yolo(results: Path, tmp_path: Path) -> None:
    export(results, "yolo", tmp_path / "set")
    folder = tmp_path / "set"
    dataset = supervision.DetectionDataset.from_yolo(
        str(folder / "images"), str(folder / "labels"), str(folder / "data.yaml"), force_masks=True
    )
    assert dataset.classes == ["ring", "parts", "dog", "nothing", "empty", "broken"]
    found = {Path(path).name: detections for path, _, detections in dataset}
    for stem, name in (("p", "a/p.png"), ("p_2", "b/p.png"), ("c", "c.png")):
        detections, wanted = found[f"{stem}.png"], expected(name)
        assert detections.class_id is not None
        assert isinstance(detections.mask, np.ndarray)
        assert [dataset.classes[each] for each in detections.class_id] == [label for label, _ in wanted]
        for mask, (label, exact) in zip(detections.mask, wanted, strict=True):
            if label in {"parts", "dog"}:  # the line that joins the parts is drawn as pixels
                assert (mask >= exact).all()
            else:
                check_near(mask, exact)


def test_yolo_without_pictures_has_labels_only_and_says_which_files_were_not_there(
    results: Path, tmp_path: Path
) -> None:
    opened = open_results(results)
    counts = write_yolo(tmp_path / "set", opened, ColouredPictures("c.png"))
    assert (counts["files copied"], counts["files not copied"]) == (2, 1)
    assert sorted(path.name for path in (tmp_path / "set" / "labels").iterdir()) == ["c.txt", "p.txt", "p_2.txt"]
    assert export(results, "yolo", tmp_path / "bare", "--no-pictures") == 0
    assert sorted(path.name for path in (tmp_path / "bare").iterdir()) == ["data.yaml", "labels"]


def test_yolo_replaces_its_own_folder_and_no_other(results: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert export(results, "yolo", tmp_path / "set") == 0
        assert (tmp_path / "set" / "data.yaml").read_text().startswith(FIRST_LINE)
        (tmp_path / "set" / "labels" / "old.txt").write_text("0")
    assert export(results, "yolo", tmp_path / "set") == 0
    assert not (tmp_path / "set" / "labels" / "old.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]  # nothing unfinished is left
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(CommandError, match="holds other files"):
        export(results, "yolo", tmp_path / "mine")
    with pytest.raises(CommandError, match="holds other files"):
        export(results, "yolo", results)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "x"
