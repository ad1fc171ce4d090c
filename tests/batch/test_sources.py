"""Images by path and by URI, from real files and a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from serve_app.batch.manifest import ManifestError, Row
from serve_app.batch.sources import SourceReader, check_schemes, scheme_of
from serve_app.errors import FetchFailed, TooLarge

MAX_BYTES = 100


class Pages(BaseHTTPRequestHandler):
    refusals = 0

    def do_GET(self) -> None:
        status, body = {"/a.png": (200, b"from the web"), "/big": (200, b"x" * 200)}.get(self.path, (404, b""))
        if self.path == "/flaky" and not Pages.refusals:
            Pages.refusals += 1
            status = 503
        elif self.path == "/flaky":
            status, body = 200, b"at last"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[SourceReader]:
    reader = SourceReader(tmp_path, MAX_BYTES, pauses_s=(0.01,))
    yield reader
    reader.close()


def test_read_reads_paths_and_uris(tmp_path: Path, reader: SourceReader, web: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a b.png").write_bytes(b"local")
    fsspec.filesystem("memory").pipe("/bucket/a.png", b"from the store")
    assert reader.read("sub/a b.png") == b"local"
    assert reader.read(str(tmp_path / "sub" / "a b.png")) == b"local"
    assert reader.read((tmp_path / "sub" / "a b.png").as_uri()) == b"local"
    assert reader.read(f"{web}/a.png") == b"from the web"
    assert reader.read("memory://bucket/a.png") == b"from the store"


def test_read_asks_a_server_again_that_is_busy(reader: SourceReader, web: str) -> None:
    Pages.refusals = 0
    assert reader.read(f"{web}/flaky") == b"at last"
    assert Pages.refusals == 1


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("none.png", FetchFailed, "none.png: No such file"),
        (".", FetchFailed, "Is a directory"),
        ("{web}/none.png", FetchFailed, "answered with 404"),
        ("{web}/big", TooLarge, "over the limit of 100 bytes"),
        ("big", TooLarge, "big: the file is over the limit of 100 bytes"),
        ("http://[bad/a.png", FetchFailed, "bad"),
        ("memory://bucket/none.png", FetchFailed, "none.png"),
        ("a\0b.png", FetchFailed, "null byte"),
    ],
)
def test_read_says_what_cannot_be_read(
    tmp_path: Path, reader: SourceReader, web: str, source: str, error: type[Exception], message: str
) -> None:
    (tmp_path / "big").write_bytes(b"x" * 101)
    with pytest.raises(error, match=message):
        reader.read(source.format(web=web))


def test_request_echoes_the_sources_and_passes_options_on(tmp_path: Path, reader: SourceReader) -> None:
    for name in ("c.png", "g.png"):
        (tmp_path / name).write_bytes(name.encode())
    request = reader.request(Row(id=1, entities=["dog"], contextual=["c.png"], generated="g.png", threshold=0.0))
    assert [(image.name, image.data) for image in request.contextual_images] == [("c.png", b"c.png")]
    assert request.generated_image is not None
    assert (request.generated_image.name, request.generated_image.data) == ("g.png", b"g.png")
    assert (request.entities, request.threshold, request.mask_threshold) == (["dog"], 0.0, None)


def test_request_places_an_error(tmp_path: Path, reader: SourceReader) -> None:
    (tmp_path / "c.png").write_bytes(b"c")
    with pytest.raises(FetchFailed, match=r"^contextual_images\[1\]: none.png: ") as caught:
        reader.request(Row(id=1, prompt="a", contextual=["c.png", "none.png"]))
    assert caught.value.field == "contextual_images[1]"


@pytest.mark.parametrize(
    ("source", "scheme"),
    [("a.png", None), ("/a.png", None), ("C://a.png", None), ("S3://b/a", "s3"), ("file:///a", "file")],
)
def test_scheme_of_tells_uris_from_paths(source: str, scheme: str | None) -> None:
    assert scheme_of(source) == scheme


@pytest.mark.parametrize("scheme", ["s3", "gs", "nonsense"])
def test_check_schemes_says_in_one_line_what_is_missing(scheme: str) -> None:
    try:
        fsspec.get_filesystem_class(scheme)
    except (ImportError, ValueError):
        with pytest.raises(ManifestError, match=f"^{scheme}:// images cannot be read: .+") as caught:
            check_schemes([None, "file", "http", scheme])
        assert "\n" not in caught.value.message
    else:
        check_schemes([scheme])
