"""The page with the real service and the embedded models: dropped files, verdict, drawings, downloads."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

import serve_app.embedded
from serve_app.images.palette import colour_at
from serve_app.masks.rle import decode_rle
from tests.graph.conftest import Graph
from tests.page.browser import Browser, Page

PICTURES = Path(serve_app.embedded.__file__).parent / "images"
NAMES = ("contextual_0.jpg", "contextual_1.jpg", "generated.jpg")
PROMPT = "Two dogs from image 1 on a blue sofa, no tree"
COLOURED = """((canvas, colour) => {
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
  let found = 0;
  for (let at = 0; at < data.length; at += 4) found += colour.every((part, place) => data[at + place] === part);
  return found;
})(document.querySelectorAll("canvas")[%d], %s)"""
INDIVIDUAL, TREE = colour_at(3), colour_at(2)
"""The colours after those of the three entities are those of individuals."""


@pytest.fixture(scope="module")
def judged(browser: Browser, graph: Graph, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Page, Path]]:
    """The page after the job, and the folder of its downloads."""
    folder = tmp_path_factory.mktemp("downloads")
    files = [Path(shutil.copy(PICTURES / name, tmp_path_factory.mktemp("dropped"))) for name in NAMES]
    with browser.page() as page:
        page.window(1280)
        page.downloads_to(folder)
        page.open(f"{graph.url}/")
        page.wait("document.querySelector('#ready').textContent === 'Ready'")
        page.drop("#references", files[:2])
        page.drop("#generated", files[2:])
        page.wait("document.querySelectorAll('.thumbs li').length === 3")
        page.click("#prompt")
        page.type(PROMPT)
        page.click("#run")
        page.wait("document.querySelector('#said').textContent === 'Done: 3 of 3 images.'")
        page.js("new Promise((resolve) => setTimeout(resolve, 500))")  # the last masks are drawn
        yield page, folder
        assert page.problems == []
        assert [each for each in page.addresses if not each.startswith((f"{graph.url}/", "blob:"))] == []


def test_the_verdict_is_a_table(judged: tuple[Page, Path]) -> None:
    page, _ = judged
    assert page.text(".answer") == "✗ Did not arrive"
    assert page.texts(".reasons li")[0] == "dogs: 2 asked, 1 found"
    rows = [row.split("\t") for row in page.texts("#verdict-box tbody tr")]
    assert [[cell.split("\n")[0].strip() for cell in row] for row in rows] == [
        ["dogs", "2", "1", "✗ too few"],
        ["blue sofa", "at least 1", "0", "✗ 1 for “sofa” alone"],
        ["tree", "none", "1", "✗ must not be there"],
        ["dogs_0", "dogs_0", rows[3][2].split("\n")[0].strip(), "✓ arrived"],
    ]
    assert 0.8 < float(rows[3][2].split("\n")[0]) <= 1
    assert page.js("[...document.querySelectorAll('.status')].map((each) => each.dataset.status)") == [
        *("too_few", "other_attribute", "unwanted", "arrived")
    ]


def test_an_individual_and_its_match_have_one_colour_and_their_similarity(judged: tuple[Page, Path]) -> None:
    page, _ = judged
    coloured = [page.js(COLOURED % (canvas, json.dumps(INDIVIDUAL))) for canvas in range(3)]
    assert min(coloured[0], coloured[2]) > 200
    assert coloured[1] == 0
    notes = [text.partition(" · ")[2] for text in page.texts(".objects button")]
    similarity = page.js("document.querySelectorAll('#verdict-box tbody tr')[3].cells[2].innerText").split()[0]
    assert notes == [f"same {similarity}", f"same {similarity}", "not wanted"]


def test_a_row_brings_its_objects_out_by_mouse_and_keyboard(judged: tuple[Page, Path]) -> None:
    page, _ = judged
    before = page.js(COLOURED % (2, json.dumps(TREE)))
    assert before > 200
    for enter, leave in (("focus", "blur"), ("mouseenter", "mouseleave")):
        page.js(f"document.querySelectorAll('#verdict-box tbody tr')[0].dispatchEvent(new Event('{enter}'))")
        assert page.js("[...document.querySelectorAll('.lit')].map((each) => each.dataset.id)") == ["dogs_0", "dogs_0"]
        assert page.js(COLOURED % (2, json.dumps(TREE))) < before / 20
        page.js(f"document.querySelectorAll('#verdict-box tbody tr')[0].dispatchEvent(new Event('{leave}'))")
        assert page.js(COLOURED % (2, json.dumps(TREE))) == before


def test_the_document_annotated_pictures_and_cut_outs_are_downloaded(judged: tuple[Page, Path], graph: Graph) -> None:
    page, folder = judged
    page.click("#json")
    document = json.loads(downloaded(folder / "segmentation.json"))
    assert document["prompt"] == PROMPT
    assert document == {**document_of(graph), "meta": document["meta"]}
    assert document["verdict"]["arrived"] is False

    page.click("[aria-label='Annotated PNG: Generated: generated.jpg']")
    with Image.open(io.BytesIO(downloaded(folder / "generated_annotated.png"))) as annotated:
        assert annotated.size == (960, 640)
        pixels = np.asarray(annotated.convert("RGB"))
    assert (pixels == INDIVIDUAL).all(axis=2).sum() > 500
    assert (pixels == TREE).all(axis=2).sum() > 500

    page.click("[aria-label='Cut-outs: Generated: generated.jpg']")
    objects = {each["object_id"]: each for each in document["generated_image"]["objects"]}
    with ZipFile(io.BytesIO(downloaded(folder / "generated_cut-outs.zip"))) as archive:
        assert sorted(archive.namelist()) == [f"generated_{name}.png" for name in sorted(objects)]
        for name, each in objects.items():
            check_cut_out(archive.read(f"generated_{name}.png"), each)
    page.click("[aria-label='Cut-outs: Reference 1: contextual_0.jpg']")
    check_cut_out(
        downloaded(folder / "contextual_0_dogs_0.png"),
        document["contextual_images"][0]["objects"][0],
        "contextual_0.jpg",
    )


def check_cut_out(content: bytes, found: dict[str, Any], name: str = "generated.jpg") -> None:
    """The picture's own pixels inside the mask, nothing outside."""
    mask = decode_rle(found["mask_rle"])
    rows, columns = np.where(mask.any(axis=1))[0], np.where(mask.any(axis=0))[0]
    part = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    with Image.open(io.BytesIO(content)) as opened:
        cut = np.asarray(opened.convert("RGBA"))
    assert ((cut[..., 3] == 255) == mask[part]).all()
    with Image.open(PICTURES / name) as picture:
        expected = np.asarray(picture.convert("RGB"), int)[part]
    assert np.abs(cut[..., :3].astype(int) - expected)[mask[part]].mean() < 3  # two decoders of JPEG


def document_of(graph: Graph) -> dict[str, Any]:
    """The same request's document by another way."""
    files = [("contextual", (name, (PICTURES / name).read_bytes())) for name in NAMES[:2]]
    files.append(("generated", (NAMES[2], (PICTURES / NAMES[2]).read_bytes())))
    answer = graph.post(data={"prompt": PROMPT, "verdict": "true"}, files=files)
    return dict(answer.json())


def downloaded(path: Path) -> bytes:
    end = time.monotonic() + 30
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.05)
    return path.read_bytes()


def test_an_example_is_one_click(graph: Graph, page: Page) -> None:
    page.open(f"{graph.url}/")
    page.wait("document.querySelectorAll('#examples button').length === 3")
    page.js("document.querySelector('#examples button').focus()")
    page.press("Enter")
    page.wait("document.querySelector('#said').textContent === 'Done: 3 of 3 images.'")
    assert page.text(".answer") == "✓ Arrived"
    assert page.js("document.querySelectorAll('#verdict-box tr').length") > 5


def test_foreign_pages_are_refused_and_the_page_is_cached(graph: Graph) -> None:
    refused = graph.post(headers={"Origin": "http://evil.example"}, json={"prompt": "a dog"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "invalid_request")
    import httpx

    first = httpx.get(f"{graph.url}/page/main.js")
    again = httpx.get(f"{graph.url}/page/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
