"""`genseg view`: a batch's results in a real browser; pictures of the manifest and no other file; this machine only."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app.batch.exports.reading import open_results
from serve_app.cli.main import main
from serve_app.cli.view import FolderView
from serve_app.errors import InvalidRequest
from serve_app.masks.rle import decode_rle
from serve_app.serving.http.page_files import page_files
from serve_app.serving.http.view_app import view_app
from tests.batch.exports.folder import masks_of, run_batch
from tests.page.browser import Page
from tests.page.test_states import PIXEL


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of the exports' tests."""
    return run_batch(tmp_path_factory.mktemp("batch"))


@asynccontextmanager
async def http(results: Path, manifest: Path | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app that shows an output folder."""
    with closing(FolderView(open_results(results, manifest))) as folder:
        transport = httpx.ASGITransport(view_app(folder))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8010") as client:
            yield client


@pytest.fixture
async def viewed(results: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with http(results) as client:
        yield client


def refusal(answer: httpx.Response) -> str:
    document = answer.json()
    assert list(document) == ["error"]
    assert list(document["error"]) == ["code", "message", "field"]
    return str(document["error"]["message"])


async def test_rows_have_what_they_are_filtered_by(viewed: httpx.AsyncClient) -> None:
    listed = (await viewed.get("/rows.json")).json()
    assert [(row["id"], row["group"], row["status"]) for row in listed["rows"]] == [
        ("both", "one", "none"),
        ("=2", "two", "none"),
        (3, "", "unknown"),
        ("fails", "two", "failed"),
    ]
    assert listed["rows"][3]["error"] == {"code": "timeout", "message": "took too long", "field": None}
    assert listed["notes"] == []


async def test_a_document_comes_with_masks_as_rle_and_a_picture_as_its_file(
    viewed: httpx.AsyncClient, results: Path
) -> None:
    document = (await viewed.get("/rows/0/document.json")).json()
    ring = document["contextual_images"][0]["objects"][0]
    assert (decode_rle(ring["mask_rle"]) == masks_of("ring")[0]).all()
    picture = await viewed.get("/rows/0/generated/0")
    assert picture.content == (results.parent / "b" / "p.png").read_bytes()
    assert picture.headers["cache-control"] == "no-store"
    for path in ("/rows/0/generated/1", "/rows/0/contextual/7", "/rows/9/document.json", "/rows/3/document.json"):
        answer = await viewed.get(path)
        assert answer.status_code == 404
        assert refusal(answer)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """An output folder that a test may change."""
    return run_batch(tmp_path)


async def test_masks_of_other_formats_are_shown(own: Path) -> None:
    out = own
    shard = out / "part-00000.jsonl"
    lines = [json.loads(line) for line in shard.read_text().splitlines()]
    square = {"points": [[2, 2], [6, 2], [6, 5], [2, 5]], "hole": False}
    (both,) = (line for line in lines if line["id"] == "both")  # rows are stored in the order in which they end
    for item in both["generated_image"]["objects"]:
        item["mask_polygons"] = [square]
        del item["mask_rle"]
    shard.write_text("".join(json.dumps(line) + "\n" for line in lines))
    async with http(out) as client:
        document = (await client.get("/rows/0/document.json")).json()
    item = document["generated_image"]["objects"][0]
    assert "mask_polygons" not in item
    assert decode_rle(item["mask_rle"]).sum() == 12


async def test_no_file_is_read_that_the_manifest_does_not_name(own: Path, tmp_path: Path) -> None:
    out = own
    (tmp_path / "secret.png").write_bytes((tmp_path / "c.png").read_bytes())
    shard = out / "part-00000.jsonl"
    lines = [json.loads(line) for line in shard.read_text().splitlines()]
    foreign = {**lines[0], "id": "foreign"}
    foreign["generated_image"] = {**foreign["generated_image"], "path": "secret.png"}
    foreign["contextual_images"] = [{**foreign["contextual_images"][0], "path": str(tmp_path / "secret.png")}]
    shard.write_text("".join(json.dumps(line) + "\n" for line in [*lines, foreign]))
    async with http(out) as client:
        rows = (await client.get("/rows.json")).json()["rows"]
        (place,) = (row["place"] for row in rows if row["id"] == "foreign")
        for path in ("generated", "contextual"):
            answer = await client.get(f"/rows/{place}/{path}/0")
            assert answer.status_code < 500
            assert refusal(answer).startswith("the manifest does not name")


async def test_without_the_manifest_no_picture_is_read(own: Path, tmp_path: Path) -> None:
    out = own
    (tmp_path / "rows.jsonl").rename(tmp_path / "moved.jsonl")
    async with http(out) as client:
        assert "--manifest" in (await client.get("/rows.json")).json()["notes"][0]
        refused = await client.get("/rows/0/generated/0")
        assert refused.status_code >= 400
        assert refusal(refused).startswith("the manifest is not known, so ")
        assert (await client.get("/rows/0/document.json")).status_code == 200
    async with http(out, tmp_path / "moved.jsonl") as client:
        assert (await client.get("/rows/0/generated/0")).status_code == 200


@pytest.mark.parametrize("path", ["/", "/rows.json", "/rows/0/generated/0", "/page/view.js"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8010"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ],
)
async def test_another_name_of_this_machine_and_pages_of_other_sites_are_refused(
    viewed: httpx.AsyncClient, path: str, headers: dict[str, str]
) -> None:
    answer = await viewed.get(path, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == InvalidRequest.code
    assert (await viewed.get(path, headers={"Host": "localhost:8010"})).status_code == 200


def test_the_page_loads_its_own_files_only() -> None:
    files = page_files("view.html")
    html = files["/"].content.decode()
    assert set(re.findall(r'(?:href|src)="([^"#]*)"', html)) <= {path[1:] for path in files}
    assert not re.search(r"<style|\bstyle=|\bon\w+=|<script(?![^>]*\bsrc=)", html)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: is not an output folder of genseg batch"),
        ([".", "--port", "0"], "holds no results of genseg batch"),
        ([".", "--port", "70000"], "--port 70000: must be between 0 and 65535"),
    ],
)
def test_what_cannot_be_shown_is_said(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["view", *arguments]) > 0
    assert message in capsys.readouterr().err


def test_a_busy_port_is_named_in_a_few_words(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["view", str(results), "--port", str(port)]) == 1
    assert capsys.readouterr().err == f"genseg: --port {port}: is in use; choose another\n"


@contextmanager
def running(results: Path) -> Iterator[str]:
    """The command itself; yields its address, and checks that Ctrl-C ends it with 0."""
    command = [sys.executable, "-m", "serve_app", "view", str(results), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert found, line
        try:
            yield found[0]
        finally:
            process.send_signal(signal.SIGINT)  # without it, a test that fails would wait for the process
        assert process.wait(30) == 0


def test_rows_are_looked_at_in_the_browser(page: Page, own: Path, tmp_path: Path) -> None:
    out = own
    shutil.rmtree(tmp_path / "b")  # a picture that is gone
    page.expected = ["404", "422"]
    with running(out) as url:
        page.open(url)
        said = "document.querySelector('#said').textContent.startsWith"
        page.wait(f"{said}('Row 1 of 4: both')")
        page.wait("document.querySelectorAll('.objects button').length === 4")
        page.wait("document.querySelectorAll('.state')[1].innerText.startsWith('2 objects; ')")
        states = page.texts(".state")
        assert states[0] == "2 objects"
        assert "b/p.png" in states[1]
        page.js("new Promise((resolve) => setTimeout(resolve, 300))")
        red, _, _ = page.js(PIXEL % (0, 10.0 * 64 / 24, 9.0 * 64 / 24))[:3]
        assert red > 200  # the picture itself
        page.js("document.querySelector('#result').focus()")
        page.press("ArrowRight")
        page.wait(f"{said}('Row 2 of 4: =2')")
        page.press("ArrowRight")
        page.wait(f"{said}('Row 3 of 4: 3, could not be told')")
        page.wait("document.querySelector('.answer')")
        assert page.text(".answer") == "? Could not be told"
        assert page.texts(".reasons li") == ["generated_image: <i>failed</i>"]
        page.wait("document.querySelector('.failed .state')")
        assert page.texts(".failed .state") == ["<b>"]
        page.press("ArrowRight")
        page.wait("!document.querySelector('#problem').hidden")
        assert page.text("#problem") == "timeout: took too long"
        page.press("ArrowLeft")
        page.wait(f"{said}('Row 3 of 4')")
        choose(page, "group", '"two"')
        page.wait(f"{said}('Row 1 of 2 (4 in all): =2')")
        choose(page, "status", '"failed"')
        page.wait(f"{said}('Row 1 of 1 (4 in all): fails')")
        choose(page, "least", "0.5")
        page.wait(f"{said}('No row of 4')")
        assert page.js("document.querySelector('#pictures').hidden")
        page.window(360)
        assert page.js("document.documentElement.scrollWidth") <= 360


def choose(page: Page, name: str, value: Any) -> None:
    page.js(
        f"(() => {{ const box = document.getElementById({json.dumps(name)}); box.value = {json.dumps(value)};"
        "box.dispatchEvent(new Event('change')); })()"
    )
