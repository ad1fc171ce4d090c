"""Results as the types of pandas and supervision."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import supervision

from serve_app.batch.exports.reading import open_results
from serve_app.batch.exports.table import write_table
from serve_app.client import InvalidAnswer, Result
from serve_app.errors import InternalError
from serve_app.masks.formats import ENCODINGS
from serve_app.masks.rle import encode_rle
from tests.client.test_results import ring_and_island

SIZE_HW = (9, 12)


def masks() -> list[np.ndarray[Any, np.dtype[np.bool_]]]:
    lower = np.zeros(SIZE_HW, np.bool_)
    lower[6:] = True
    return [ring_and_island(), lower, lower.copy()]


def image(path: str, kind: str = "rle") -> dict[str, Any]:
    objects = []
    for label, number, mask in zip(["dog", "dog", "cat"], [0, 1, 0], masks(), strict=True):
        item = {"object_id": f"{label}_{number}", "label": label, "bbox": [0, 1, 12, 9], "score": 0.75 - number / 4}
        if kind != "none":
            encoding = ENCODINGS[kind]  # type: ignore[index]
            item[encoding.key] = encoding.write(encode_rle(mask), lambda _: None)
        objects.append(item)
    presence = {"fox": 0.25, "dog": 1.0, "cat": 0.5}
    return {"path": path, "width": 12, "height": 9, "objects": objects, "presence": presence, "error": None}


def document(kind: str = "rle") -> dict[str, Any]:
    failed = {"code": "internal", "message": "no", "field": None}
    return {
        "prompt": "",
        "entities": ["fox", "dog", "cat"],
        "contextual_images": [
            image("a.png", kind),
            {**image("b.png"), "objects": None, "presence": {}, "error": failed},
        ],
        "generated_image": {**image("g.png"), "objects": []},
        "verdict": None,
        "box_format": "xyxy",
        "coordinate_unit": "pixels",
        "meta": {
            "request_id": "r", "models": {"text_parser": "p", "segmentation": "s"}, "threshold": 0.5,
            "mask_threshold": 0.5, "timings_ms": {"parse": 0, "segment": 0, "total": 0},
        },
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["rle", "polygon", "png", "none"])
def test_detections_are_the_objects(kind: str) -> None:
    detections = Result.load(document(kind)).images[0].to_supervision()
    assert isinstance(detections, supervision.Detections)
    assert detections.xyxy.tolist() == [[0, 1, 12, 9]] * 3
    assert detections.confidence is not None
    assert detections.confidence.tolist() == [0.75, 0.5, 0.75]
    assert detections.class_id is not None
    assert detections.class_id.tolist() == [1, 1, 2]  # places among the document's entities
    assert [*detections.data["class_name"]] == ["dog", "dog", "cat"]
    assert [*detections.data["object_id"]] == ["dog_0", "dog_1", "cat_0"]
    if kind == "none":
        assert detections.mask is None
    else:
        assert detections.mask is not None
        assert detections.mask.dtype == np.bool_
        assert np.array_equal(detections.mask, np.array(masks()))
        assert detections.area.tolist() == [each.sum() for each in masks()]


def test_supervision_filters_and_draws_them() -> None:
    detections = Result.load(document()).images[0].to_supervision()
    cats = detections[np.asarray(detections.data["class_name"]) == "cat"]
    assert isinstance(cats, supervision.Detections)
    assert [*cats.data["object_id"]] == ["cat_0"]
    picture = np.zeros((*SIZE_HW, 3), np.uint8)
    drawn = supervision.MaskAnnotator(opacity=1).annotate(picture.copy(), detections)
    assert np.array_equal(drawn.any(axis=2), np.any(masks(), axis=0))


def test_no_objects_are_empty_detections() -> None:
    detections = Result.load(document()).images[2].to_supervision()
    assert (len(detections), detections.xyxy.shape) == (0, (0, 4))
    assert detections.mask is not None
    assert detections.mask.shape == (0, *SIZE_HW)


def test_an_image_that_failed_is_an_error_and_not_empty() -> None:
    failed = Result.load(document()).images[1]
    for method in (failed.to_supervision, failed.to_frame):
        with pytest.raises(InternalError):
            method()


def test_the_frame_of_an_image_has_a_row_an_object() -> None:
    frame = Result.load(document()).images[0].to_frame()
    assert frame["object_id"].tolist() == ["dog_0", "dog_1", "cat_0"]
    assert frame["area"].tolist() == [int(each.sum()) for each in masks()]
    assert frame.loc[1].tolist()[:7] == ["dog_1", "dog", 0.5, 0, 1, 12, 9]
    none = Result.load(document("none")).images[0].to_frame()
    assert none["area"].isna().all()
    assert [*Result.load(document()).images[2].to_frame().columns] == [*frame.columns]


def test_the_frame_of_a_result_is_the_exported_table(tmp_path: Path) -> None:
    frame = Result.load(document()).to_frame()
    assert frame["count"].tolist() == [0, 2, 1, pandas.NA, pandas.NA, pandas.NA, 0, 0, 0]
    assert (frame["error"].isna()[2], frame["error"][3]) == (True, "internal")
    assert frame["area"].tolist()[:3] == [0, int((masks()[0] | masks()[1]).sum()), int(masks()[2].sum())]
    (tmp_path / "one.json").write_text(json.dumps(document()))
    write_table(tmp_path / "t.parquet", open_results(tmp_path / "one.json"))
    table = pandas.read_parquet(tmp_path / "t.parquet").drop(columns="id")
    kinds = {name: frame.dtypes[name] for name in frame.columns}
    pandas.testing.assert_frame_equal(frame, table.astype(kinds))


def test_a_malformed_mask_is_an_invalid_answer() -> None:
    broken = document()
    broken["contextual_images"][0]["objects"][0]["mask_rle"]["counts"] = "000"
    loaded = Result.load(broken)
    for method in (loaded.to_frame, loaded.images[0].to_frame, loaded.images[0].to_supervision):
        with pytest.raises(InvalidAnswer):
            method()


@pytest.mark.parametrize("library", ["pandas", "supervision"])
def test_without_the_library_the_error_says_what_to_install(library: str, tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps(document()))
    method = "to_frame" if library == "pandas" else "to_supervision"
    code = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "from serve_app.client import Result\n"
        f"try: Result.load({str(tmp_path / 'one.json')!r}).images[0].{method}()\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{method} needs the package {library}: pip install {library}\n"
