"""Each state of the page in a real browser, with a service that answers as the test says."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve_app.errors import InvalidImage, TooManyRequests
from serve_app.images.palette import contrast
from serve_app.masks.rle import encode_rle
from serve_app.schemas.dicts import ImageDict, ObjectDict
from serve_app.schemas.events import EventDict
from serve_app.schemas.requests import SegmentRequest
from tests.documents import events_of, found_object, image
from tests.page.browser import Page
from tests.page.conftest import Scripted, picture
from tests.page.scripted import ScriptedService, document, served

RED, BLUE = (255, 64, 64), (30, 144, 255)
INSIDE = 110 / 255
REFERENCES, GENERATED = "#references input", "#generated input"
PIXEL = """(() => {
  const canvas = document.querySelectorAll("canvas")[%d];
  const scale = canvas.width / 64;
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  return [...copy.getImageData(%r * scale, %r * scale, 1, 1).data];
})()"""


def found(
    name: str, box: tuple[int, int, int, int], score: float = 0.9, size: tuple[int, int] = (64, 48)
) -> ObjectDict:
    """An object whose mask fills its box."""
    mask = np.zeros((size[1], size[0]), bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return {**found_object(name, box, score), "mask_rle": encode_rle(mask)}


def dogs(path: str, objects: list[ObjectDict] | None, size: tuple[int, int] = (64, 48)) -> ImageDict:
    """An image in which a dog is present; `objects` is None for one that failed."""
    return image(path, objects, size, {} if objects is None else {"dog": 0.9})


@pytest.fixture
def opened(page: Page, scripted: Scripted) -> Page:
    """The page, loaded, of a service that is ready."""
    page.open(f"{scripted.url}/")
    page.wait("document.querySelector('#ready').textContent === 'Ready'")
    return page


def sends(scripted: Scripted, *images: ImageDict, entities: Sequence[str] = ("dog",)) -> None:
    """Let the service answer with these images."""

    async def script(request: SegmentRequest) -> AsyncGenerator[EventDict, None]:
        for event in events_of(document(request, *images, entities=entities)):
            yield event

    scripted.service.script = script


def segment(page: Page) -> None:
    page.click("#run")
    page.wait("document.querySelector('#said').textContent.startsWith('Done')")
    page.js("new Promise((resolve) => setTimeout(resolve, 300))")  # the last masks are drawn


def pixel(page: Page, canvas: int, x: float, y: float) -> tuple[int, ...]:
    """The colour at a place of the picture, given in the picture's own pixels."""
    return tuple(page.js(PIXEL % (canvas, x, y))[:3])


def tinted(colour: tuple[int, int, int], grey: int = 100) -> Any:
    return pytest.approx([grey + (part - grey) * INSIDE for part in colour], abs=2)


TWO_DOGS = (found("dog_0", (4, 20, 24, 44)), found("dog_1", (40, 24, 60, 44), score=0.6))


def test_before_any_result_the_page_says_what_to_do(opened: Page) -> None:
    assert opened.text("#nothing").startswith("No result yet.")
    assert opened.texts("#examples button") == ["Everything arrives", "Something is missing", "One image, own entities"]
    assert opened.js("document.querySelector('#pictures').hidden")


def test_masks_boxes_and_labels_are_drawn_and_can_be_changed(opened: Page, scripted: Scripted, tmp_path: Path) -> None:
    sends(scripted, dogs("g.png", [*TWO_DOGS]))
    opened.choose(GENERATED, [picture(tmp_path / "g.png")])
    segment(opened)
    assert pixel(opened, 0, 14, 32) == tinted(RED)
    assert pixel(opened, 0, 50, 32) == tinted(RED)
    assert pixel(opened, 0, 32, 10) == (100, 100, 100)
    assert pixel(opened, 0, 4.15, 19.3) == RED  # the label's ground, above the box
    opened.click("#labels")
    opened.wait("!document.querySelector('#labels').checked")
    assert pixel(opened, 0, 4.15, 19.3) == (100, 100, 100)
    assert opened.texts(".objects button") == ["dog_0 0.90", "dog_1 0.60"]


def test_sliders_filter_without_a_request_and_say_what_the_answer_is_for(
    opened: Page, scripted: Scripted, tmp_path: Path
) -> None:
    sends(scripted, dogs("g.png", [*TWO_DOGS]))
    opened.choose(GENERATED, [picture(tmp_path / "g.png")])
    segment(opened)
    assert opened.text(".note") == ""
    opened.js("document.querySelector('input[type=range]').focus()")
    for _ in range(20):
        opened.press("ArrowRight")
    assert opened.text(".slider output") == "0.70"
    assert opened.texts(".objects button") == ["dog_0 0.90"]
    assert opened.text(".state") == "1 object, 1 hidden"
    assert pixel(opened, 0, 50, 32) == (100, 100, 100)
    assert len(scripted.service.requests) == 1
    assert "for the request's thresholds" in opened.text(".note")
    opened.click(".note button")
    opened.wait("document.querySelector('.note').textContent === ''")
    assert scripted.service.requests[1].threshold == pytest.approx(0.7)


def test_an_entity_has_a_threshold_of_its_own_and_can_be_hidden(
    opened: Page, scripted: Scripted, tmp_path: Path
) -> None:
    objects = [*TWO_DOGS, found("red sofa_0", (28, 4, 36, 12), score=0.6)]
    sends(scripted, dogs("g.png", objects), entities=["dog", "red sofa"])
    opened.choose(GENERATED, [picture(tmp_path / "g.png")])
    segment(opened)
    assert pixel(opened, 0, 32, 8) == tinted(BLUE)
    opened.js("document.querySelectorAll('input[type=range]')[1].focus()")
    for _ in range(20):
        opened.press("ArrowRight")
    assert opened.texts(".objects button") == ["dog_0 0.90", "red sofa_0 0.60"]
    opened.click("[aria-label='Show dog']")
    assert opened.texts(".objects button") == ["red sofa_0 0.60"]


def test_hovering_names_an_object_and_dims_the_others(opened: Page, scripted: Scripted, tmp_path: Path) -> None:
    sends(scripted, dogs("g.png", [*TWO_DOGS]))
    opened.choose(GENERATED, [picture(tmp_path / "g.png")])
    segment(opened)
    x, y = opened.middle("canvas")
    opened.point(x + opened.js("document.querySelector('canvas').clientWidth") * (50 - 32) / 64, y + 20)
    opened.wait("!document.querySelector('.tip').hidden")
    assert opened.text(".tip") == "dog_1 0.60"
    assert pixel(opened, 0, 50, 32) == tinted(RED)
    dimmed = pixel(opened, 0, 14, 32)[0]
    assert 100 < dimmed < 120
    opened.point(1, 1)
    opened.wait("document.querySelector('.tip').hidden")
    assert pixel(opened, 0, 14, 32) == tinted(RED)


def test_an_image_that_failed_says_so_and_the_others_are_shown(
    opened: Page, scripted: Scripted, tmp_path: Path
) -> None:
    sends(scripted, dogs("a.png", None), dogs("g.png", [TWO_DOGS[0]]))
    opened.choose(REFERENCES, [picture(tmp_path / "a.png")])
    opened.choose(GENERATED, [picture(tmp_path / "g.png")])
    segment(opened)
    assert opened.texts(".failed .state") == ["the segmenter failed on this image"]
    assert pixel(opened, 1, 14, 32) == tinted(RED)
    assert opened.js("document.querySelector('.failed .buttons').hidden")


@pytest.mark.parametrize("width", [1280, 768, 360])
def test_sixteen_images_fit_every_screen(opened: Page, scripted: Scripted, tmp_path: Path, width: int) -> None:
    opened.window(width)
    opened.choose(REFERENCES, [picture(tmp_path / f"reference-{'long' * 9}-{place}.png") for place in range(15)])
    opened.choose(GENERATED, [picture(tmp_path / "g.png")])
    sends(scripted)
    segment(opened)
    assert opened.js("document.querySelectorAll('canvas').length") == 16
    assert opened.js("document.documentElement.scrollWidth") <= width
    assert opened.text("#said") == "Done: 16 of 16 images."


def test_an_error_is_shown_in_the_service_s_words_and_its_image_is_marked(
    opened: Page, scripted: Scripted, tmp_path: Path
) -> None:
    async def script(_: SegmentRequest) -> AsyncGenerator[EventDict, None]:
        raise InvalidImage("contextual_images[1]: the image is truncated", "contextual_images[1]")
        yield {"event": "entities", "entities": [], "dropped": []}  # never: it makes this a generator

    scripted.service.script = script
    opened.expected = ["422"]
    opened.choose(REFERENCES, [picture(tmp_path / "a.png"), picture(tmp_path / "b.png")])
    opened.click("#run")
    opened.wait("!document.querySelector('#problem').hidden")
    assert opened.text("#problem") == "contextual_images[1]: the image is truncated"
    assert opened.texts(".thumbs .wrong .name") == ["2: b.png"]


def test_a_wrong_field_is_marked(opened: Page, tmp_path: Path) -> None:
    opened.expected = ["400"]
    opened.choose(GENERATED, [picture(tmp_path / "g.png")])
    opened.js("document.querySelector('#prompt').value = 'a dog'; document.querySelector('#threshold').value = '7'")
    opened.click("#run")
    opened.wait("!document.querySelector('#problem').hidden")
    assert opened.text("#problem").startswith("threshold: ")
    assert opened.js("document.querySelector('#threshold').getAttribute('aria-invalid')") == "true"


def test_what_arrived_stays_when_the_connection_is_lost(opened: Page, scripted: Scripted, tmp_path: Path) -> None:
    async def script(request: SegmentRequest) -> AsyncGenerator[EventDict, None]:
        events = [*events_of(document(request, dogs("a.png", [TWO_DOGS[0]]), dogs("g.png", [])))]
        for place, event in enumerate(events):
            yield event
            await asyncio.sleep(0.1)
            scripted.service.cut = place == 1

    scripted.service.script = script
    opened.expected = ["ERR_INCOMPLETE_CHUNKED_ENCODING"]
    opened.choose(REFERENCES, [picture(tmp_path / "a.png")])
    opened.choose(GENERATED, [picture(tmp_path / "g.png")])
    opened.click("#run")
    opened.wait("!document.querySelector('#problem').hidden")
    assert "The connection was lost" in opened.text("#problem")
    assert "1 of 2 images had arrived" in opened.text("#problem")
    assert pixel(opened, 0, 14, 32) == tinted(RED)
    assert opened.texts(".state") == ["1 object", "did not arrive"]
    scripted.service.cut = False
    sends(scripted, dogs("a.png", [TWO_DOGS[0]]), dogs("g.png", []))
    opened.click("#problem button")
    opened.wait("document.querySelector('#said').textContent === 'Done: 2 of 2 images.'")


def test_each_image_appears_when_it_is_done_and_cancel_ends_the_work(
    opened: Page, scripted: Scripted, tmp_path: Path
) -> None:
    async def script(request: SegmentRequest) -> AsyncGenerator[EventDict, None]:
        events = [*events_of(document(request, dogs("a.png", [TWO_DOGS[0]]), dogs("g.png", [])))]
        for event in events[:2]:
            yield event
        await asyncio.sleep(60)

    scripted.service.script = script
    opened.choose(REFERENCES, [picture(tmp_path / "a.png")])
    opened.choose(GENERATED, [picture(tmp_path / "g.png")])
    opened.click("#run")
    opened.wait("document.querySelector('#said').textContent === '1 of 2 images done …'")
    opened.wait("document.querySelector('.objects button')")
    assert pixel(opened, 0, 14, 32) == tinted(RED)
    assert opened.js("document.querySelector('#bar').value") == 1
    opened.click("#cancel")
    opened.wait("document.querySelector('#said').textContent === 'Cancelled.'")
    assert opened.texts(".state") == ["1 object", "cancelled"]
    end = time.monotonic() + 10
    while not scripted.service.left and time.monotonic() < end:
        time.sleep(0.05)
    assert scripted.service.left == 1


def test_a_busy_service_is_asked_again_after_the_time_that_it_names(
    opened: Page, scripted: Scripted, tmp_path: Path
) -> None:
    tries = []

    async def script(request: SegmentRequest) -> AsyncGenerator[EventDict, None]:
        tries.append(time.monotonic())
        if len(tries) == 1:
            raise TooManyRequests("the service is busy with 64 requests, its limit; try again later")
        for event in events_of(document(request)):
            yield event

    scripted.service.script = script
    opened.expected = ["429"]
    opened.choose(GENERATED, [picture(tmp_path / "g.png")])
    opened.click("#run")
    opened.wait("document.querySelector('#said').textContent.includes('busy with 64 requests')")
    opened.wait("document.querySelector('#said').textContent.startsWith('Done')")
    assert tries[1] - tries[0] >= 0.9


def test_the_page_waits_for_a_service_that_is_not_ready(page: Page, scripted: Scripted) -> None:
    scripted.service.not_ready = ["text_parser", "segmentation"]
    page.expected = ["503"]
    page.open(f"{scripted.url}/")
    page.wait("document.querySelector('#ready').textContent.startsWith('Not ready')")
    assert page.text("#ready") == "Not ready: waiting for the text parser and the segmenter"
    scripted.service.not_ready = []
    page.wait("document.querySelector('#ready').textContent === 'Ready'")


def test_a_token_is_typed_in_once_and_kept_for_the_session(page: Page, scripted: Scripted, tmp_path: Path) -> None:
    scripted.service.accepted = ("s3cret",)
    page.expected = ["401"]
    page.open(f"{scripted.url}/")
    page.wait("document.querySelector('#ready').textContent === 'A token is needed'")
    assert page.text("#problem") == "a bearer token is needed (Authorization: Bearer …)"
    assert page.js("document.activeElement.id") == "token"
    page.type("wrong")
    page.press("Enter")
    page.wait("document.querySelector('#problem').textContent === 'the token is not accepted'")
    page.type("s3cret")
    page.press("Enter")
    page.wait("document.querySelector('#ready').textContent === 'Ready'")
    assert page.js("document.querySelector('#problem').hidden")
    page.open(f"{scripted.url}/?again")
    page.wait("document.querySelector('#ready').textContent === 'Ready'")
    page.choose(GENERATED, [picture(tmp_path / "g.png")])
    page.click("#run")
    page.wait("document.querySelector('#curl')")
    curl = page.js("document.querySelector('#curl').textContent")
    assert "$GENSEG_TOKEN" in curl
    assert "s3cret" not in page.js("document.documentElement.outerHTML")


def test_entities_that_were_dropped_are_shown_with_the_reason(opened: Page, scripted: Scripted, tmp_path: Path) -> None:
    async def script(request: SegmentRequest) -> AsyncGenerator[EventDict, None]:
        result = document(request)
        result["meta"]["dropped"] = [{"entity": "<b>golden hour</b>", "reason": "lighting"}]
        for event in events_of(result):
            yield event

    scripted.service.script = script
    opened.choose(GENERATED, [picture(tmp_path / "g.png")])
    segment(opened)
    assert opened.texts(".dropped li") == ["<b>golden hour</b>: lighting"]


def test_references_are_removed_and_reordered_by_keyboard(opened: Page, scripted: Scripted, tmp_path: Path) -> None:
    opened.drop("#references", [picture(tmp_path / f"{name}.png") for name in "abc"])
    opened.drop("#generated", [picture(tmp_path / "g.png"), picture(tmp_path / "d.png")])
    names = "#references .thumbs .name"
    opened.wait("document.querySelectorAll('#references .name').length === 4")
    assert opened.texts(names) == ["1: a.png", "2: b.png", "3: c.png", "4: d.png"]
    opened.js("document.querySelector('[aria-label=\"Move reference image 1 down (a.png)\"]').focus()")
    opened.press("Enter")
    opened.press("Enter")
    assert opened.texts(names) == ["1: b.png", "2: c.png", "3: a.png", "4: d.png"]
    opened.js("document.querySelector('[aria-label=\"Remove reference image 2 (c.png)\"]').focus()")
    opened.press("Enter")
    assert opened.js("document.activeElement.ariaLabel") == "Remove reference image 2 (a.png)"
    segment(opened)
    (request,) = scripted.service.requests
    assert [each.name for each in request.contextual_images] == ["b.png", "a.png", "d.png"]
    assert request.generated_image is not None
    assert request.generated_image.name == "g.png"


def test_images_are_pasted_into_the_zone_that_was_used_last(opened: Page) -> None:
    paste = """(() => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array([1])], "pasted.png", { type: "image/png" }));
      document.activeElement.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
    })()"""
    opened.js(paste)
    opened.js("document.querySelector('#generated input').focus()")
    opened.js(paste)
    assert opened.texts("#references .name") == ["1: pasted.png"]
    assert opened.texts("#generated .name") == ["pasted.png"]


def names_in(tree: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for node in tree["nodes"]:
        if not node.get("ignored"):
            yield node["role"]["value"], node.get("name", {}).get("value", "")


def test_everything_is_reached_and_named_without_a_mouse(opened: Page, scripted: Scripted, tmp_path: Path) -> None:
    sends(scripted, dogs("g.png", [*TWO_DOGS]))
    opened.choose(GENERATED, [picture(tmp_path / "g.png")])
    segment(opened)
    names = [*names_in(opened.call("Accessibility.getFullAXTree"))]
    for role in ("button", "textbox", "slider", "checkbox", "link", "image", "spinbutton"):
        assert [name for each, name in names if each == role and not name] == []
    assert ("image", "Generated: g.png: 2 objects: dog_0 0.90, dog_1 0.60") in names
    opened.js("document.querySelector('.skip').focus()")
    reached: list[str] = []
    for _ in range(60):
        opened.press("Tab")
        if opened.js("document.activeElement === document.body"):
            break  # after the last one
        said = "[document.activeElement.id || document.activeElement.textContent || document.activeElement.ariaLabel,"
        name, outlined = opened.js(
            f"{said} getComputedStyle(document.activeElement).outlineStyle !== 'none' || "
            "getComputedStyle(document.activeElement.parentElement).outlineStyle !== 'none']"
        )
        assert outlined, name
        reached.append(name)
    for wanted in ("prompt", "run", "labels", "dog_0 0.90", "Annotated PNG", "Cut-outs", "json"):
        assert wanted in reached, (wanted, reached)


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_its_ground(opened: Page, dark: bool) -> None:
    opened.window(1280, dark=dark)
    names = ["--text", "--soft", "--main", "--good", "--bad", "--open", "--card", "--page"]
    colours = opened.js(
        json.dumps(names)
        + """.map((name) => {
      const probe = document.body.appendChild(document.createElement("p"));
      probe.style.color = `var(${name})`;
      const found = getComputedStyle(probe).color.match(/\\d+/g).map(Number);
      probe.remove();
      return found;
    })"""
    )
    *texts, card, ground = [tuple(each) for each in colours]
    assert (sum(card) < 200) == dark
    for text in texts:
        assert min(contrast(text, card), contrast(text, ground)) >= 4.5


def test_the_page_works_below_a_prefix(page: Page, tmp_path: Path) -> None:
    service = ScriptedService()
    with served(service, root_path="/a/twins") as url:
        page.open(url)  # without the slash
        page.wait("document.querySelector('#ready').textContent === 'Ready'")
        assert page.js("location.pathname") == "/a/twins/"
        page.choose(GENERATED, [picture(tmp_path / "g.png")])
        segment(page)
        assert f"'{url}/v1/segment'" in page.js("document.querySelector('#curl').textContent")
    assert len(service.requests) == 1
    assert json.dumps(page.addresses).count("/a/twins/page/") > 20
