"""Shards: a shard is complete or absent, an incomplete last line is cut off, and complete lines are never lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.batch.shards import Line, ShardWriter, keep_lines, lines_of, shards
from serve_app.batch.whole_file import UNFINISHED
from tests.documents import FAILED


def keys(folder: Path) -> list[str]:
    return [line.key for path in shards(folder) for line in lines_of(path)]


def test_append_makes_a_shard_once_it_is_full(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path / "out", 2)
    for number in range(5):
        writer.append(f"row {number}", FAILED)
    assert [path.name for path in shards(tmp_path / "out")] == ["part-00000.jsonl", "part-00001.jsonl"]
    writer.seal()
    assert keys(tmp_path / "out") == [f"row {number}" for number in range(5)]
    assert len(list((tmp_path / "out").iterdir())) == 3


@pytest.mark.parametrize("identifier", ["plain", 'quo"te, {"id": 1}', "é漢", "\ud800", 17, "x" * 1024], ids=ascii)
def test_line_key_reads_the_id(tmp_path: Path, identifier: str | int) -> None:
    writer = ShardWriter(tmp_path, 1)
    writer.append(identifier, {"code": "internal", "message": "\ud800 \n", "field": None})
    (line,) = lines_of(shards(tmp_path)[0])
    assert line.key == str(identifier)
    assert line.error() == {"id": identifier, "code": "internal", "message": "\ud800 \n", "field": None}


@pytest.mark.parametrize(
    ("tail", "kept"),
    [
        (b"", 3),
        (b'{"id": "torn", "va', 3),
        (b'{"id": "torn", "value": 1}', 3),
        (b"\0\0\0\0", 3),
        (b'\0\0\n{"id": "after"}\n', 3),
        (b'{"other": 1}\n', 3),
    ],
    ids=["whole", "torn", "no newline", "zeros", "zeros and a line", "no id"],
)
def test_recover_goes_on_after_the_last_whole_line(tmp_path: Path, tail: bytes, kept: int) -> None:
    first = ShardWriter(tmp_path, 10)
    for number in range(3):
        first.append(number, FAILED)
    partial = tmp_path / ".part-00000.jsonl.partial"
    written = partial.read_bytes()
    first.seal()  # closes the file
    shards(tmp_path)[0].unlink()
    partial.write_bytes(written + tail)  # as a killed process leaves it
    second = ShardWriter(tmp_path, 10)
    assert [line.key for line in second.recover()] == [str(number) for number in range(kept)]
    second.append("next", FAILED)
    second.seal()
    assert keys(tmp_path) == ["0", "1", "2", "next"]


def test_recover_takes_up_nothing_of_a_file_that_is_torn_from_the_start(tmp_path: Path) -> None:
    (tmp_path / ".part-00003.jsonl.partial").write_bytes(b'{"id": "to')
    writer = ShardWriter(tmp_path, 10)
    assert [*writer.recover()] == []
    assert [*tmp_path.iterdir()] == []
    writer.append("a", FAILED)
    writer.seal()
    assert [path.name for path in shards(tmp_path)] == ["part-00003.jsonl"]


def test_recover_seals_a_shard_that_was_full(tmp_path: Path) -> None:
    (tmp_path / ".part-00000.jsonl.partial").write_bytes(b'{"id": 1}\n{"id": 2}\n')
    writer = ShardWriter(tmp_path, 2)
    assert [line.key for line in writer.recover()] == ["1", "2"]
    assert [path.name for path in shards(tmp_path)] == ["part-00000.jsonl"]


def test_keep_lines_drops_the_others_and_an_empty_file(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, 3)
    for number in range(3):
        writer.append(number, FAILED)
    (path,) = shards(tmp_path)
    keep_lines(path, lambda line: line.key != "1")
    assert keys(tmp_path) == ["0", "2"]
    keep_lines(path, lambda _: False)
    assert [*tmp_path.iterdir()] == []


def test_shards_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (100000, 99999, 2):
        (tmp_path / f"part-{number:05d}.jsonl").write_bytes(b"")
    (tmp_path / "part-1.jsonl").write_bytes(b"")
    assert [path.name for path in shards(tmp_path)] == ["part-00002.jsonl", "part-99999.jsonl", "part-100000.jsonl"]
    assert shards(tmp_path / "none") == []


def test_line_document_decodes(tmp_path: Path) -> None:
    assert Line(tmp_path, 0, b'{"id": 1, "a": [1, 2]}\n').result() == {"id": 1, "a": [1, 2]}


def test_recover_removes_what_a_killed_rewriting_left(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, 1)
    writer.append("a", FAILED)
    (tmp_path / f".part-00000.jsonl{UNFINISHED}").write_bytes(b'{"id": "a"}\n')
    assert [*ShardWriter(tmp_path, 1).recover()] == []
    assert [*tmp_path.iterdir()] == shards(tmp_path)
