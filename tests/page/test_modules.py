"""The page's modules, run in the browser one by one and compared with other programs."""

from __future__ import annotations

import ast
import base64
import io
import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from numpy.typing import NDArray

from serve_app.masks.rle import decode_rle, encode_rle
from tests.page.browser import Browser, Page
from tests.page.conftest import Scripted

DECODED = """(async () => {
  const { decode } = await import(new URL("page/rle.js", document.baseURI));
  const mask = decode(%s, %d, %d);
  return mask && [mask.x, mask.y, mask.width, mask.height, btoa(String.fromCharCode(...mask.pixels))];
})()"""
SNIPPETS = """(async () => {
  const { curl, python } = await import(new URL("page/snippets.js", document.baseURI));
  const job = %s;
  return [curl(job, "http://host:8000/twins", %s), python(job, "http://host:8000/twins", %s)];
})()"""
SHAPES: dict[str, Callable[[np.random.Generator], NDArray[np.bool_]]] = {
    "noise": lambda rng: rng.random((37, 53)) < 0.5,
    "sparse": lambda rng: rng.random((64, 48)) < 0.01,
    "dense": lambda rng: rng.random((48, 64)) < 0.99,
    "everything": lambda _: np.ones((30, 40), bool),
    "nothing": lambda _: np.zeros((30, 40), bool),
    "one pixel": lambda _: np.pad(np.ones((1, 1), bool), ((20, 9), (33, 0))),
    "one row": lambda rng: rng.random((1, 90)) < 0.5,
    "one column": lambda rng: rng.random((90, 1)) < 0.5,
    "long runs": lambda rng: np.repeat(rng.random((3, 4)) < 0.5, 500, axis=0).repeat(400, axis=1),
}


@pytest.fixture(scope="module")
def opened(browser: Browser, one_service: Scripted) -> Iterator[Page]:
    """The page, loaded."""
    with browser.page() as page:
        page.open(f"{one_service.url}/")
        yield page
        assert page.problems == []


def decoded(page: Page, mask: NDArray[np.bool_], width: int, height: int) -> NDArray[np.bool_]:
    """Decode a mask with the page's module, at a size in pixels."""
    found = page.js(DECODED % (json.dumps(encode_rle(mask)), width, height))
    whole = np.zeros((height, width), bool)
    if found is not None:
        x, y, w, h, pixels = found
        part = np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(h, w).astype(bool)
        assert part[[0, -1]].any(axis=1).all()
        assert part[:, [0, -1]].any(axis=0).all()
        whole[y : y + h, x : x + w] = part
    return whole


@pytest.mark.parametrize("shape", SHAPES)
def test_a_mask_is_read_as_pycocotools_reads_it(opened: Page, shape: str) -> None:
    mask = SHAPES[shape](np.random.default_rng(7))
    height, width = mask.shape
    if mask.size < 50_000:  # the call's arguments hold no more
        assert (decoded(opened, mask, width, height) == decode_rle(encode_rle(mask))).all()
    for new_width, new_height in ((width // 2 + 1, height // 3 + 1), (2 * width + 1, height + 2), (7, 5)):
        if new_width * new_height < 50_000:
            rows = ((np.arange(new_height) + 0.5) * height / new_height).astype(int)
            columns = ((np.arange(new_width) + 0.5) * width / new_width).astype(int)
            assert (decoded(opened, mask, new_width, new_height) == mask[np.ix_(rows, columns)]).all()


NASTY = 'It\'s a "dog"; `id` $(id) $HOME \\ \n& <lora:x> é 😀 %s {x}'


@pytest.mark.parametrize("prompt", [NASTY, "@file", "<file", "", "'", "-F x=y", "\\n\t"])
@pytest.mark.parametrize("asks_token", [False, True])
def test_the_request_as_a_program_sends_what_the_page_sends(opened: Page, prompt: str, asks_token: bool) -> None:
    names = ["it's; a,b.png", 'quote".png', "back\\slash.png"]
    job = {
        "prompt": prompt,
        "entities": ["dog", "it's"],
        "contextual": [{"name": name} for name in names],
        "generated": {"name": "g.png"},
        "threshold": 0.3,
        "maskThreshold": None,
        "thresholds": {"red 'sofa'": 0.4},
        "verdict": True,
    }
    flag = json.dumps(asks_token)
    curl, python = opened.js(SNIPPETS % (json.dumps(job), flag, flag))
    options = {"entities": ["dog", "it's"], "threshold": 0.3, "thresholds": {"red 'sofa'": 0.4}, "verdict": True}
    assert run_in_bash(curl) == [
        *(["-H", "Authorization: Bearer TOKEN"] if asks_token else []),
        *(["--form-string", f"prompt={prompt}"] if prompt else []),
        *(word for name, value in options.items() for word in ("--form-string", f"{name}={compact(value)}")),
        *(
            "-F",
            'contextual=@"it\'s; a,b.png"',
            "-F",
            r'contextual=@"quote\".png"',
            "-F",
            r'contextual=@"back\\slash.png"',
        ),
        *("-F", 'generated=@"g.png"', "http://host:8000/twins/v1/segment"),
    ]
    assert call_in(python, "segment") == ([prompt, names, "g.png"], options)
    assert call_in(python, "Client")[0] == ["http://host:8000/twins"]
    assert ("GENSEG_TOKEN" in python) == asks_token


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def run_in_bash(command: str) -> list[str]:
    """The words that a shell gives to `curl`."""
    script = f"curl() {{ printf '%s\\0' \"$@\"; }}\n{command}"
    environment = {"GENSEG_TOKEN": "TOKEN", "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    run = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    return run.stdout.split("\0")[:-1]


def call_in(code: str, name: str) -> tuple[list[Any], dict[str, Any]]:
    """The literal arguments of a call in a program."""
    (call,) = (
        node
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == name
    )
    named = {word.arg or "": ast.literal_eval(word.value) for word in call.keywords if word.arg != "token"}
    return [ast.literal_eval(each) for each in call.args], named


def test_an_archive_is_read_by_others(opened: Page) -> None:
    text = opened.js("""(async () => {
      const { zip } = await import(new URL("page/zip.js", document.baseURI));
      const files = [["a.png", "first"], ["é_dog 0.png", ""], ["b.txt", "x".repeat(70000)]];
      const blob = zip(files.map(([name, text]) => ({ name, bytes: new TextEncoder().encode(text) })));
      return btoa(String.fromCharCode(...new Uint8Array(await blob.slice(0, 60000).arrayBuffer()))) + "|" +
        btoa(String.fromCharCode(...new Uint8Array(await blob.slice(60000).arrayBuffer())));
    })()""")
    with ZipFile(io.BytesIO(b"".join(map(base64.b64decode, text.split("|"))))) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name).decode() for name in archive.namelist()} == {
            "a.png": "first",
            "é_dog 0.png": "",
            "b.txt": "x" * 70000,
        }
