"""Parquet beside the JSONL shards: the same results, readable by pyarrow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from serve_app.batch.parquet import write_missing
from serve_app.batch.parquet_schema import Contents, schema
from serve_app.cli import batch
from serve_app.masks.formats import ENCODINGS
from serve_app.schemas.dicts import ResultDict, RingDict, images_of
from serve_app.schemas.requests import SegmentRequest
from tests.batch.command import parsed
from tests.batch.dataset import FakeSegment, connecting, read_lines, row_of, write_dataset
from tests.documents import as_json

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def test_write_missing_says_what_the_shards_say(tmp_path: Path) -> None:
    manifest, out = write_dataset(tmp_path, 5), tmp_path / "out"
    flags = ["--output", out, "--rows-per-shard", 3, "--format", "parquet"]
    assert batch.run_with(parsed(manifest, *flags), connecting(FakeSegment())) == 0
    assert sorted(path.name for path in out.glob("*.parquet")) == ["part-00000.parquet", "part-00001.parquet"]
    rows = [row for path in sorted(out.glob("*.parquet")) for row in parquet.read_table(path).to_pylist()]
    for row, document in zip(rows, read_lines(out), strict=True):
        assert (row["id"], row["prompt"], row["entities"]) == (document["id"], document["prompt"], document["entities"])
        images = [*document["contextual_images"], document["generated_image"]]
        assert [image["role"] for image in row["images"]] == ["contextual", "contextual", "generated"]
        for image, expected in zip(row["images"], images, strict=True):
            assert image["objects"] == expected["objects"]
            assert dict(image["presence"]) == expected["presence"]
            assert (image["path"], image["width"], image["height"]) == (expected["path"], 24, 16)


def read(out: Path) -> list[dict[str, Any]]:
    """The rows of all files of a folder, read as one data set."""
    files = sorted(out.glob("*.parquet"))
    assert len({str(parquet.read_schema(path)) for path in files}) == 1
    return [row for path in files for row in parquet.read_table(path).to_pylist()]


def run(manifest: Path, out: Path, *flags: Any, segment: FakeSegment | None = None) -> list[dict[str, Any]]:
    arguments = parsed(manifest, "--output", out, "--rows-per-shard", 2, "--format", "parquet", *flags)
    assert batch.run_with(arguments, connecting(segment or FakeSegment())) == 0
    return read(out)


def rewrite(manifest: Path, rows: list[dict[str, Any]]) -> None:
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_write_missing_says_how_the_results_came_about(tmp_path: Path) -> None:
    class Telling(FakeSegment):
        async def __call__(self, request: SegmentRequest) -> ResultDict:
            document = await super().__call__(request)
            document["meta"] |= {
                "thresholds": {"dog": 0.3},
                "unused_thresholds": ["cat"],
                "dropped": [{"entity": "golden hour", "reason": "lighting"}],
            }
            return document

    manifest, out = write_dataset(tmp_path, 3), tmp_path / "out"
    rows = run(manifest, out, "--threshold", "0.4", segment=Telling())
    for row, document in zip(rows, read_lines(out), strict=True):
        meta = {**row["meta"], **{key: dict(row["meta"][key]) for key in ("models", "thresholds", "timings_ms")}}
        assert meta == document["meta"]
        assert meta["threshold"] == 0.4


def test_write_missing_reads_documents_of_earlier_versions(tmp_path: Path) -> None:
    class Earlier(FakeSegment):
        async def __call__(self, request: SegmentRequest) -> ResultDict:
            document = as_json(await super().__call__(request))
            for key in ("thresholds", "unused_thresholds", "dropped"):
                del document["meta"][key]
            return cast(ResultDict, document)

    meta = run(write_dataset(tmp_path, 1), tmp_path / "out", segment=Earlier())[0]["meta"]
    assert (meta["thresholds"], meta["unused_thresholds"], meta["dropped"]) == ([], None, None)


def test_write_missing_writes_every_other_column_in_one_type_for_all_files(tmp_path: Path) -> None:
    manifest, out = write_dataset(tmp_path, 6), tmp_path / "out"
    columns: list[dict[str, Any]] = [
        {"seed": 1, "cfg": 7, "mixed": 1, "flag": True, "tags": ["a"], "note": "é"},
        {"seed": 2, "cfg": 7.5, "mixed": "x", "huge": 2**70},
        {"seed": None},
        {},
        {"seed": 5},
        {"late": "x"},
    ]
    rewrite(manifest, [{**row_of(number), **each} for number, each in enumerate(columns)])
    rows = run(manifest, out, "--concurrency", 1)
    names = ["seed", "cfg", "mixed", "flag", "tags", "note", "huge", "late"]
    assert [name for name in rows[0] if name.startswith("column.")] == [f"column.{name}" for name in names]
    found = [{name: row[f"column.{name}"] for name in names if row[f"column.{name}"] is not None} for row in rows]
    assert found == [
        {"seed": 1, "cfg": 7.0, "mixed": "1", "flag": True, "tags": '["a"]', "note": "é"},
        {"seed": 2, "cfg": 7.5, "mixed": '"x"', "huge": str(2**70)},
        {},
        {},
        {"seed": 5},
        {"late": "x"},
    ]


def test_write_missing_writes_files_anew_that_lack_a_column_of_later_rows(tmp_path: Path) -> None:
    manifest, out = write_dataset(tmp_path, 4), tmp_path / "out"
    run(manifest, out)
    rewrite(manifest, [*map(row_of, range(4)), {**row_of(3), "id": "new", "seed": 7}])
    assert [row["column.seed"] for row in run(manifest, out)] == [None] * 4 + [7]
    (out / "part-00000.parquet").write_bytes(b"broken")
    assert len(run(manifest, out)) == 5


def test_write_missing_drops_no_mask_of_another_format_and_no_overlay(tmp_path: Path) -> None:
    ring: list[RingDict] = [{"points": [[0.0, 1.0], [4.5, 1.0], [4.0, 3.0]], "hole": False}]

    class Formats(FakeSegment):
        async def __call__(self, request: SegmentRequest) -> ResultDict:
            document = await super().__call__(request)
            for image in images_of(document):
                for item in image["objects"] or ():
                    if request.mask_format != "rle":
                        del item["mask_rle"]
                    if request.mask_format == "polygon":
                        item["mask_polygons"] = ring
                    if request.mask_format == "png":
                        item["mask_png"] = "aWk="
                if request.overlays:
                    image["overlay"] = "data:image/jpeg;base64,eHg="
            return document

    manifest, out = write_dataset(tmp_path, 4), tmp_path / "out"
    formats = ["rle", "polygon", "png", "none"]
    rewrite(manifest, [{**row_of(number), "mask_format": each} for number, each in enumerate(formats)])
    rows = {row["id"]: row["images"][0] for row in run(manifest, out, "--overlays", segment=Formats())}
    for document in read_lines(out):
        image, expected = rows[document["id"]], document["contextual_images"][0]
        assert image["overlay"] == expected["overlay"] == "data:image/jpeg;base64,eHg="
        for item, wanted in zip(image["objects"], expected["objects"], strict=True):
            assert {key: value for key, value in item.items() if value is not None} == wanted
    assert set(rows["row-0"]["objects"][0]) >= {"mask_rle", "mask_polygons", "mask_png"}


def test_the_schema_has_a_field_for_the_mask_of_every_format() -> None:
    contents = Contents()
    contents.further.update(encoding.key for encoding in ENCODINGS.values())
    objects = schema(pyarrow, contents).field("images").type.value_type.field("objects").type.value_type
    assert {name for name in objects.names if name.startswith("mask_")} == contents.further


def test_write_missing_leaves_what_is_there(tmp_path: Path) -> None:
    manifest, out = write_dataset(tmp_path, 4), tmp_path / "out"
    batch.run_with(parsed(manifest, "--output", out, "--rows-per-shard", 2), connecting(FakeSegment()))
    assert write_missing(out) == 2
    (out / "part-00001.parquet").unlink()
    assert write_missing(out) == 1
