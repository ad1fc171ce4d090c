"""A `file:` URI names the same file to every reader, and never another one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from serve_app.batch.sources import SourceReader
from serve_app.client.requests import read_image
from serve_app.errors import FetchFailed, InvalidRequest
from serve_app.schemas.file_uri import local_path
from serve_app.schemas.requests import ImageInput, SegmentRequest

SPELLINGS = ["file:{}", "FILE:{}", "file://{}", "FILE://{}", "file://localhost{}", "File://LOCALHOST{}"]


def in_python(source: str, _: Path) -> object:
    return ImageInput.from_file(source).data


def in_a_request(source: str, _: Path) -> object:
    image = SegmentRequest.from_files("a dog", generated=source).generated_image
    return image and image.data


def in_the_client(source: str, _: Path) -> object:
    return read_image(source, "generated").data


def in_a_manifest(source: str, folder: Path) -> object:
    reader = SourceReader(folder, 100)
    try:
        return reader.read(source)
    finally:
        reader.close()


READERS = [in_python, in_a_request, in_the_client, in_a_manifest]
Reader = Callable[[str, Path], object]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a.png", "a.png"),
        ("a#1.png", "a%231.png"),
        ("a%41.png", "a%2541.png"),
        ("a?b.png", "a?b.png"),
        ("a b.png", "a%20b.png"),
        ("é.png", "%C3%A9.png"),
    ],
)
def test_every_reader_reads_the_file_that_a_uri_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Reader, spelling: str, name: str, written: str
) -> None:
    # Where a reader takes the host or the scheme for a folder, it finds another file.
    for folder in ("localhost", "LOCALHOST", "file:", "FILE:"):
        inner = tmp_path / folder / str(tmp_path)[1:]
        inner.mkdir(parents=True)
        (inner / name).write_bytes(b"another file")
    for other in ("a", "aA.png"):
        (tmp_path / other).write_bytes(b"another file")
    (tmp_path / name).write_bytes(b"the file")
    monkeypatch.chdir(tmp_path)
    assert read(spelling.format(f"{tmp_path}/{written}"), tmp_path) == b"the file"


@pytest.mark.parametrize("read", READERS)
def test_every_reader_names_another_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Reader) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.png").write_bytes(b"another file")
    monkeypatch.chdir(tmp_path)
    words = r"'data' is in the place of the host; a path on this machine is file:///data/a\.png"
    with pytest.raises((InvalidRequest, FetchFailed), match=words):
        read("file://data/a.png", tmp_path)


def test_the_argument_of_another_host_is_named() -> None:
    with pytest.raises(InvalidRequest) as caught:
        SegmentRequest.from_files("a dog", ["file://data/a.png"])
    assert caught.value.field == "contextual[0]"
    with pytest.raises(InvalidRequest) as caught:
        read_image("file://data/a.png", "generated")
    assert caught.value.field == "generated"


@pytest.mark.parametrize("path", ["a%23.png", "/a%20b.png", "file:a.png", "file", "files://a", "./file:/a.png"])
def test_a_path_stands_as_it_is(path: str) -> None:
    assert local_path(path) == path


def test_bytes_that_are_no_text_are_kept() -> None:
    assert local_path("file:///a%FF.png").encode("utf-8", "surrogateescape") == b"/a\xff.png"
