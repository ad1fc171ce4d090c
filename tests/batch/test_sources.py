"""Images by path and by URI, from real files and a real server."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from serve_app.batch.row import ManifestError, Row
from serve_app.batch.source_names import file_key_of, scheme_of, shown
from serve_app.batch.sources import SourceReader, check_schemes
from serve_app.errors import FetchFailed, TooLarge

MAX_BYTES = 100


class Pages(BaseHTTPRequestHandler):
    refusals = 0

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        status, body = {"/a.png": (200, b"from the web"), "/big": (200, b"x" * 200)}.get(path, (404, b""))
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


ODD_NAMES = ["img#1.png", "img?1.png", "img%231.png", "img%41.png", "a::b.png", "100%.png", "a b.png", "#", "x;y=1.png"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_read_reads_the_file_that_is_named_and_never_another(tmp_path: Path, reader: SourceReader, name: str) -> None:
    for other in ("img", "a", "b.png", "imgA.png", "x"):
        (tmp_path / other).write_bytes(b"another file")
    (tmp_path / name).write_bytes(name.encode())
    store = fsspec.filesystem("memory")
    store.pipe("/b/img", b"another file")
    store.pipe(f"/b/{name}", name.encode())
    assert reader.read(name) == name.encode()
    assert reader.read((tmp_path / name).as_uri()) == name.encode()
    assert reader.read((tmp_path / name).as_uri().replace("file://", "file:")) == name.encode()
    assert reader.read((tmp_path / name).as_uri().replace("file://", "FILE://localhost")) == name.encode()
    assert reader.read(f"memory://b/{name}") == name.encode()
    if "%" not in name:
        assert reader.read(f"file://{tmp_path}/{name}") == name.encode()


@pytest.mark.parametrize("name", [name for name in ODD_NAMES if name != "img%41.png"])
def test_read_finds_nothing_where_the_file_that_is_named_is_not(
    tmp_path: Path, reader: SourceReader, name: str
) -> None:
    for other in ("img", "a", "b.png", "x", "100"):
        (tmp_path / other).write_bytes(b"another file")
        fsspec.filesystem("memory").pipe(f"/c/{other}", b"another file")
    for source in (name, f"file://{tmp_path}/{name}", f"memory://c/{name}"):
        with pytest.raises(FetchFailed, match=r"No such file|not found|FileNotFound|memory://c"):
            reader.read(source)


def test_read_takes_no_host_for_a_folder(tmp_path: Path, reader: SourceReader) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.png").write_bytes(b"another file")
    with pytest.raises(FetchFailed, match=r"'data' is in the place of the host; .* is file:///data/a\.png"):
        reader.read("file://data/a.png")


def test_read_reads_inside_archives(tmp_path: Path, reader: SourceReader) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("sub/a.png", b"packed")
    assert reader.read(f"zip://sub/a.png::{tmp_path}/a.zip") == b"packed"


def test_read_refuses_a_name_that_the_stores_package_would_cut(reader: SourceReader) -> None:
    """fsspec takes the address of such a server apart as if it were one of the web."""
    with pytest.raises(FetchFailed, match=r"the package for ftp:// would read '/img' instead"):
        reader.read("ftp://host/img?1.png")


SECRET = "SeCrEt"


@pytest.mark.parametrize(
    "source",
    [
        "{web}/none.png?X-Amz-Signature=SeCrEt",
        "{web}/big?sig=SeCrEt#SeCrEt",
        "http://SeCrEt:SeCrEt@{host}/none.png",
        "http://[bad/a.png?sig=SeCrEt",
        "http://host:port?sig=SeCrEt/a.png",
        "http://127.0.0.1:1/a.png?sig=SeCrEt",
        "memory://me:SeCrEt@bucket/none.png",
        "nonsense://me:SeCrEt@bucket/none.png",
        " {web}/none.png?X-Amz-Signature=SeCrEt",
        "\n\t {web}/none.png?X-Amz-Signature=SeCrEt",
        "\ufeff{web}/none.png?sig=SeCrEt",
        '"{web}/none.png?sig=SeCrEt"',
        "https:/host/a.png?sv=1&sig=SeCrEt",
        "https:host/a.png?SeCrEt",
        "HTTPS:\\\\host\\a.png?SeCrEt",
        "http:/me:SeCrEt@host/a.png",
        "https//host/a.png?X-Amz-Date=1&X-Amz-Signature=SeCrEt",
        "bucket.s3.amazonaws.com/a.png?Expires=1&Signature=SeCrEt",
        "memory://bucket/none.png?X-Goog-Signature=SeCrEt",
        " memory://me:SeCrEt@bucket/none.png",
        "memory://me:SeC/rEt-SeCrEt@bucket/none.png",
        "memory://me:SeCrEt@bucket/x@none.png",
        "zip://a.png::{web}/none.zip?X-Amz-Signature=SeCrEt",
        "zip://a.png::memory://me:SeCrEt@bucket/none.zip",
    ],
)
def test_read_keeps_what_a_signed_address_holds_to_itself(reader: SourceReader, web: str, source: str) -> None:
    with pytest.raises((FetchFailed, TooLarge)) as caught:
        reader.read(source.format(web=web, host=web.removeprefix("http://")))
    assert SECRET not in caught.value.message
    assert SECRET not in shown(source)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (" {web}/a.png?S", "{web}/a.png: not a valid http:// or https:// address"),
        ("{short}/a.png?S", "{short}/a.png: not a valid http:// or https:// address"),
        (" memory://bucket/a.png", "memory://bucket/a.png: ' ' stands before the scheme"),
    ],
)
def test_read_refuses_a_uri_that_is_not_well_written(
    tmp_path: Path, reader: SourceReader, web: str, source: str, message: str
) -> None:
    names = {"web": web, "short": web.replace("//", "/")}
    path = tmp_path / source.format(**names)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"another file")
    with pytest.raises(FetchFailed) as caught:
        reader.read(source.format(**names))
    assert caught.value.message == message.format(**names)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("https://me:pw@host:8/a%20b.png?X-Amz-Signature=1&b=@#x", "https://host:8/a%20b.png"),
        ("HTTPS://host?x", "HTTPS://host"),
        ("https://host/@me/a.png", "https://host/@me/a.png"),
        ("s3://key:pw@bucket/a#1?.png", "s3://bucket/a#1?.png"),
        ("memory://b/a::b.png", "memory://b/a::b.png"),
        ("s3://bucket/a@b.png", "s3://bucket/a@b.png"),
        ("abfs://one@account.dfs.core.windows.net/a.png", "abfs://one@account.dfs.core.windows.net/a.png"),
        ("abfss://two:pw@account/a.png", "abfss://two@account/a.png"),
        ("abfs://one:p/w@account/a.png", "abfs://one@account/a.png"),
        ("az://one/a@b.png", "az://one/a@b.png"),
        ("  https://me:pw@host/a.png?S", "https://host/a.png"),
        ("https:/host/a.png?S", "https:/host/a.png"),
        (" a.png", " a.png"),
        ("httpsfolder/a?b.png", "httpsfolder/a?b.png"),
        ("a?big=1.png", "a?big=1.png"),
        ("file:///a#b?c", "file:///a#b?c"),
        ("file:/a?b", "file:/a?b"),
        ("a?b#c@d.png", "a?b#c@d.png"),
    ],
)
def test_shown_leaves_out_user_query_and_fragment_of_an_address(source: str, expected: str) -> None:
    assert shown(source) == expected


def test_the_file_key_is_one_for_every_spelling(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "g.png")
    uri = (tmp_path / "g.png").as_uri()
    spellings = [
        "g.png",
        "./g.png",
        "a/../g.png",
        str(tmp_path / "g.png"),
        uri,
        uri.replace("g.png", "%67.png"),
        "link.png",
    ]
    assert {file_key_of(source, tmp_path) for source in spellings} == {str(tmp_path / "g.png")}
    assert file_key_of("HTTPS://x/a?b#c", tmp_path) == "https://x/a?b"
    assert file_key_of("s3://x/a?b#c", tmp_path) == "s3://x/a?b#c"


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20260101T000000Z&X-Amz-Signature=ab&versionId=3", "?versionId=3"),
        ("X-Goog-Expires=9&x-goog-signature=ab", ""),
        ("Expires=1&Signature=x~_&Key-Pair-Id=K", ""),
        ("sv=2024&se=2026-01-01&sr=b&sp=r&sig=a%3D&snapshot=7", "?snapshot=7"),
        ("id=7&se=1&expires=2", "?id=7&se=1&expires=2"),
        ("X-Amz-Date=1&X-Amz-Signature=ab&sp=4&st=2&ss=3&policy=1", "?sp=4&st=2&ss=3&policy=1"),
        ("Expires=1&Signature=x&Key-Pair-Id=K&sr=7&x-amz-page=2", "?sr=7&x-amz-page=2"),
        ("X-Goog-Date=9&X-Goog-Signature=ab&expires=3&x-amz-page=2", "?expires=3&x-amz-page=2"),
        ("sv=2024&sig=a&expires=3&x-goog-page=2", "?expires=3&x-goog-page=2"),
    ],
    ids=["s3", "gcs", "cloudfront", "azure", "not signed", "s3 +", "cloudfront +", "gcs +", "azure +"],
)
def test_the_file_key_does_not_depend_on_when_an_address_was_signed(tmp_path: Path, query: str, kept: str) -> None:
    assert file_key_of(f"https://x/a.png?{query}", tmp_path) == f"https://x/a.png{kept}"


def test_request_echoes_no_query(reader: SourceReader, web: str) -> None:
    request = reader.request(Row(id=1, entities=["dog"], contextual=[f"{web}/a.png?sig=1"]))
    assert [image.name for image in request.contextual_images] == [f"{web}/a.png"]


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
    [
        ("a.png", None),
        ("/a.png", None),
        ("C://a.png", None),
        ("S3://b/a", "s3"),
        ("file:///a", "file"),
        ("file:/a", "file"),
        ("file:a", None),
    ],
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
