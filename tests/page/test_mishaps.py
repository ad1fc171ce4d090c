"""Faults on the user's side of the page: files that change, slow examples, odd words, a worker that fails."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast
from zipfile import ZipFile

import pytest
from PIL import Image

from serve_app.schemas.dicts import ObjectDict
from tests.documents import image
from tests.page.browser import Page
from tests.page.conftest import Scripted, picture
from tests.page.scripted import ScriptedService, served
from tests.page.test_states import GENERATED, RED, REFERENCES, TWO_DOGS, dogs, found, pixel, segment, sends, tinted
from tests.page.test_whole_way import downloaded

LATE_WORKER = """
  const Real = window.Worker;
  window.Worker = class extends Real {
    constructor(url, options) { super(window.isThere ? url : "page/no-worker.js", options); }
  };
"""


@pytest.fixture
def opened(page: Page, scripted: Scripted) -> Page:
    """The page, loaded, of a service that is ready."""
    page.open(f"{scripted.url}/")
    page.wait("document.querySelector('#ready').textContent === 'Ready'")
    return page


def test_a_file_that_is_gone_when_it_is_sent_is_named(opened: Page, scripted: Scripted, tmp_path: Path) -> None:
    opened.expected = ["/v1/segment", "ERR_FILE_NOT_FOUND"]
    names = [picture(tmp_path / name) for name in ("a.png", "b.png")]
    opened.choose(REFERENCES, names)
    names[1].unlink()
    opened.click("#run")
    opened.wait("!document.querySelector('#problem').hidden")
    assert opened.text("#problem").startswith("contextual_images[1]: b.png cannot be read: ")
    assert opened.texts(".thumbs .wrong .name") == ["2: b.png"]
    assert opened.js("document.querySelector('#problem button')") is None  # it would fail again
    assert scripted.service.requests == []


def test_a_file_that_changed_since_it_was_chosen_says_why_it_is_not_shown(
    opened: Page, scripted: Scripted, tmp_path: Path
) -> None:
    opened.expected = ["ERR_UPLOAD_FILE_CHANGED"]
    sends(scripted, dogs("g.png", [TWO_DOGS[0]]))
    path = picture(tmp_path / "g.png")
    opened.choose(GENERATED, [path])
    picture(path, size=(80, 60))
    os.utime(path, (1, 1))
    segment(opened)
    assert opened.text(".state") == "1 object; the picture's file has changed or is gone"


def test_masks_never_lie_on_a_picture_that_the_browser_turns_otherwise(
    opened: Page, scripted: Scripted, tmp_path: Path
) -> None:
    """Chromium shows WebP without the orientation that its EXIF names, which the service applies."""
    orientation = Image.Exif()
    orientation[0x0112] = 6
    Image.new("RGB", (64, 48), "white").save(tmp_path / "g.webp", exif=orientation)
    sends(scripted, dogs("g.webp", [found("dog_0", (4, 20, 24, 44), size=(48, 64))], size=(48, 64)))
    opened.choose(GENERATED, [tmp_path / "g.webp"])
    segment(opened)
    assert opened.text(".state").startswith("1 object; this browser turns the picture differently")
    shape = "[document.querySelector('canvas').width, document.querySelector('canvas').height]"
    width, height = opened.js(shape)
    assert width / height == pytest.approx(48 / 64, abs=0.01)
    where = 64 / 48  # `pixel` takes pictures to be 64 wide
    assert pixel(opened, 0, 40 * where, 10 * where) == (128, 128, 128)
    assert pixel(opened, 0, 14 * where, 32 * where) == tinted(RED, grey=128)


def test_what_is_transparent_is_white_as_for_the_service_and_keeps_nothing_of_what_was_drawn_before(
    opened: Page, scripted: Scripted, tmp_path: Path
) -> None:
    Image.new("RGBA", (64, 48), (0, 0, 0, 0)).save(tmp_path / "g.png")
    sends(scripted, dogs("g.png", [TWO_DOGS[0]]))
    opened.choose(GENERATED, [tmp_path / "g.png"])
    segment(opened)
    assert pixel(opened, 0, 50, 32) == (255, 255, 255)
    assert pixel(opened, 0, 14, 32) == tinted(RED, grey=255)
    opened.click("[aria-label='Show dog']")
    opened.wait("document.querySelector('.state').textContent === '0 objects, 1 hidden'")
    assert pixel(opened, 0, 14, 32) == (255, 255, 255)


def test_a_service_that_is_gone_is_not_called_ready(page: Page, tmp_path: Path) -> None:
    page.expected = ["ERR_CONNECTION_REFUSED"]
    with served(ScriptedService()) as url:
        page.open(f"{url}/")
        page.wait("document.querySelector('#ready').textContent === 'Ready'")
    page.choose(GENERATED, [picture(tmp_path / "g.png")])
    page.click("#run")
    page.wait("!document.querySelector('#problem').hidden")
    assert page.text("#problem") == "The service cannot be reached. Try again"
    page.wait("document.querySelector('#ready').textContent === 'The service cannot be reached.'")


def test_an_example_that_loads_slowly_does_not_take_the_place_of_a_later_job(
    opened: Page, scripted: Scripted, tmp_path: Path
) -> None:
    opened.js("""(() => {
      const real = window.fetch;
      window.fetch = async (...given) => {
        if (String(given[0]).includes("examples/")) await new Promise((go) => (window.release = go));
        return real(...given);
      };
    })()""")
    opened.js("document.querySelectorAll('#examples button')[2].click()")
    opened.wait("window.release")
    opened.js("document.querySelector('#prompt').value = 'my own'")
    opened.choose(GENERATED, [picture(tmp_path / "own.png")])
    segment(opened)
    opened.js("window.release()")
    opened.js("new Promise((resolve) => setTimeout(resolve, 300))")
    assert opened.js("document.querySelector('#prompt').value") == "my own"
    assert [request.prompt for request in scripted.service.requests] == ["my own"]


def test_an_example_is_asked_with_its_own_options(opened: Page, scripted: Scripted) -> None:
    opened.js(
        "document.querySelector('#threshold').value = '0.999'; document.querySelector('#verdict').checked = false"
    )
    opened.js("document.querySelectorAll('#examples button')[2].click()")
    opened.wait("document.querySelector('#said').textContent.startsWith('Done')")
    (request,) = scripted.service.requests
    assert (request.threshold, request.verdict) == (None, True)


@pytest.mark.parametrize("entity", ["constructor", "__proto__", "<img src=x onerror=alert(1)>", 'it\'s "it" \\ 🦊'])
def test_any_words_may_be_an_entity(opened: Page, scripted: Scripted, tmp_path: Path, entity: str) -> None:
    thing = found(f"{entity}_0", (4, 20, 24, 44))
    sends(scripted, image("g.png", [thing], presence={entity: 0.9}), entities=[entity])
    opened.choose(GENERATED, [picture(tmp_path / "g.png")])
    segment(opened)
    assert opened.texts(".objects button") == [f"{entity}_0 0.90"]
    assert pixel(opened, 0, 14, 32) == tinted(RED)
    opened.js("document.querySelectorAll('input[type=range]')[1].focus()")
    opened.press("ArrowRight")
    assert opened.texts(".slider output") == ["0.50", "0.51"]
    opened.click(".note button")
    opened.wait("document.querySelector('.note').textContent === ''")
    assert scripted.service.requests[1].thresholds == {entity: pytest.approx(0.51)}


def test_what_is_no_number_is_not_sent(opened: Page, scripted: Scripted, tmp_path: Path) -> None:
    opened.choose(GENERATED, [picture(tmp_path / "g.png")])
    opened.js("document.querySelector('#options').open = true; document.querySelector('#threshold').focus()")
    opened.call("Input.dispatchKeyEvent", type="char", text="e")
    opened.click("#run")
    opened.wait("!document.querySelector('#problem').hidden")
    assert opened.text("#problem") == "threshold: is not a number"
    assert opened.js("document.querySelector('#threshold').getAttribute('aria-invalid')") == "true"
    assert scripted.service.requests == []


def test_text_that_comes_with_a_picture_of_it_is_pasted_as_text(opened: Page) -> None:
    taken = opened.js("""(() => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array([1])], "cell.png", { type: "image/png" }));
      data.setData("text/plain", "two dogs");
      const paste = new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true });
      document.querySelector("#prompt").dispatchEvent(paste);
      return paste.defaultPrevented;
    })()""")
    assert not taken
    assert opened.texts("#references .name") == []


def test_a_token_that_no_header_can_carry_is_named(page: Page, scripted: Scripted) -> None:
    scripted.service.accepted = ("s3cret",)
    page.expected = ["401"]
    page.open(f"{scripted.url}/")
    page.wait("document.activeElement.id === 'token'")
    page.type("s3cret\u200b")
    page.press("Enter")
    page.wait("document.querySelector('#problem').textContent.includes('no header can carry')")
    assert page.text("#ready") == "A token is needed"
    assert page.js("document.activeElement.id") == "token"


def test_a_prompt_of_several_lines_arrives_as_it_is_written(opened: Page, scripted: Scripted, tmp_path: Path) -> None:
    opened.choose(GENERATED, [picture(tmp_path / "g.png")])
    opened.js("document.querySelector('#prompt').value = 'a dog\\n\\na \"cat\" $HOME'")
    segment(opened)
    assert [request.prompt for request in scripted.service.requests] == ['a dog\n\na "cat" $HOME']


def test_cut_outs_whose_names_would_be_alike_are_all_there(opened: Page, scripted: Scripted, tmp_path: Path) -> None:
    things = [found(f"{name}_0", (4, 20, 24 + wider, 44)) for wider, name in enumerate(["a/b", "a:b"])]
    sends(scripted, dogs("g.png", things), entities=["a/b", "a:b"])
    opened.downloads_to(tmp_path)
    opened.choose(GENERATED, [picture(tmp_path / "g.png")])
    segment(opened)
    opened.click("[aria-label='Cut-outs: Generated: g.png']")
    downloaded(tmp_path / "g_cut-outs.zip")
    with ZipFile(tmp_path / "g_cut-outs.zip") as archive:
        assert sorted(archive.namelist()) == ["g_a_b_0 (2).png", "g_a_b_0.png"]


def test_masks_are_missed_aloud_where_the_worker_does_not_load_and_made_once_it_does(
    page: Page, scripted: Scripted, tmp_path: Path
) -> None:
    sends(scripted, dogs("g.png", [*TWO_DOGS]))
    page.expected = ["404"]
    page.call("Page.addScriptToEvaluateOnNewDocument", source=LATE_WORKER)
    page.open(f"{scripted.url}/")
    page.choose(GENERATED, [picture(tmp_path / "g.png")])
    segment(page)
    assert page.text("#said") == "Done: 1 of 1 images."
    assert page.text(".state") == "2 objects; masks that could not be drawn: 2"
    assert pixel(page, 0, 14, 32) == (100, 100, 100)
    page.js("window.isThere = true")
    page.click("#labels")
    page.wait("document.querySelector('.state').textContent === '2 objects'")
    assert pixel(page, 0, 14, 32) == tinted(RED)


def test_a_mask_that_is_malformed_leaves_the_others(opened: Page, scripted: Scripted, tmp_path: Path) -> None:
    counts = cast(str, None)  # no service sends it
    broken: ObjectDict = {**TWO_DOGS[1], "mask_rle": {"size": [48, 64], "counts": counts}}
    sends(scripted, dogs("g.png", [TWO_DOGS[0], broken]))
    opened.choose(GENERATED, [picture(tmp_path / "g.png")])
    segment(opened)
    assert opened.text(".state") == "2 objects; masks that could not be drawn: 1"
    assert pixel(opened, 0, 14, 32) == tinted(RED)
    assert opened.text("#said") == "Done: 1 of 1 images."
