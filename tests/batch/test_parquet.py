"""Parquet beside the JSONL shards: the same results, readable by pyarrow."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.batch.parquet import write_missing
from serve_app.cli import batch
from tests.batch.command import parsed
from tests.batch.dataset import FakeSegment, connecting, read_lines, write_dataset

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


def test_write_missing_leaves_what_is_there(tmp_path: Path) -> None:
    manifest, out = write_dataset(tmp_path, 4), tmp_path / "out"
    batch.run_with(parsed(manifest, "--output", out, "--rows-per-shard", 2), connecting(FakeSegment()))
    assert write_missing(out) == 2
    (out / "part-00001.parquet").unlink()
    assert write_missing(out) == 1
