"""`genseg run --verdict`: a table in words, colours on a terminal only, and pictures that show the verdict."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.responses import Response

from serve_app.cli import demo
from serve_app.cli.console import Progress
from serve_app.cli.main import main
from serve_app.cli.report import say_verdict
from serve_app.cli.verdict_report import verdict_table
from serve_app.entities.mentions import Asked
from serve_app.masks.rle import encode_rle
from serve_app.schemas.dicts import ObjectDict
from tests.cli.test_console import Terminal
from tests.client.service import Service
from tests.documents import found_object, image
from tests.verdict.documents import ASKED, ONE_DOG, TWO_DOGS, document
from tests.verdict.pictures import EMPTY, FAILED, SIZE_HW, picture, seen

TABLE = """\
entity     asked       found  status   in the prompt
dogs       2           1      too few  "Two dogs", ref 0
blue sofa  at least 1  1      ok       "a blue sofa"

reference     generated  similarity  status
ref 0 dogs_0  dogs_0     0.94        arrived
ref 0 dogs_1  -          -           merged with another individual

arrived: no
  dogs: 2 asked, 1 found
  ref 0 dogs_1: merged with another individual"""


TWO_OF_THEM = picture(seen("dog", 1), seen("dog", 3))


def table(**changes: Any) -> list[str]:
    answer = document(**changes)
    assert answer["verdict"] is not None
    return verdict_table(answer["verdict"], len(answer["contextual_images"]), coloured=False).splitlines()


def test_the_table_says_what_was_asked_and_found_and_what_is_wrong() -> None:
    assert table() == TABLE.splitlines()


@pytest.mark.parametrize(
    ("asked", "generated", "row"),
    [
        (Asked("dog", None), picture(seen("dog", 1)), "dog at least 1 1 ok -"),
        (Asked("dog", 2, True, "two dogs"), picture(seen("dog", 1)), 'dog 2 1 too few "two dogs"'),
        (Asked("dog", 1, True, "a single dog"), TWO_OF_THEM, 'dog 1 2 too many "a single dog"'),
        (Asked("dog", 3, False, "about 3 dogs"), EMPTY, 'dog at least 3 0 missing "about 3 dogs"'),
        (Asked("dog", 0, True, "no dog"), picture(seen("dog", 1)), 'dog none 1 must not be there "no dog"'),
        (Asked("dog", 1), FAILED, "dog at least 1 - could not tell -"),
        (Asked("dog", 1), None, "dog at least 1 - could not tell -"),
    ],
    ids=["one is enough", "too few", "too many", "missing", "excluded", "failed image", "no image"],
)  # fmt: skip
def test_each_status_has_words(asked: Asked, generated: Any, row: str) -> None:
    lines = table(contextual=(), generated=generated, asked=(asked,))
    assert " ".join(lines[1].split()) == row


def test_a_noun_of_another_kind_is_named() -> None:
    verdict = document()["verdict"]
    assert verdict is not None
    verdict["entities"][1] |= {"status": "other_attribute", "bare": {"entity": "sofa", "found": 1}}
    assert "1 for 'sofa' alone" in verdict_table(verdict, 1, coloured=False)


@pytest.mark.parametrize(
    ("contextual", "generated", "answer"),
    [
        ((TWO_DOGS,), TWO_DOGS, "arrived: no"),
        ((), ONE_DOG, "arrived: yes"),
        ((TWO_DOGS,), FAILED, "arrived: could not tell"),
    ],
    ids=["no", "yes", "could not tell"],
)
def test_the_answer_is_a_word(contextual: Any, generated: Any, answer: str) -> None:
    asked = ASKED if contextual else (Asked("dogs", 1), Asked("blue sofa", 1))
    assert answer in table(contextual=contextual, generated=generated, asked=asked)


def test_images_that_say_nothing_have_rows_too() -> None:
    tied = Asked("dogs", 1, sources=(0, 1), missing_images=(7,))
    lines = table(contextual=(TWO_DOGS, FAILED), asked=(tied,))
    rows = [" ".join(line.split()) for line in lines if line.endswith("could not tell")]
    assert rows == ["ref 1 - - could not tell", "image not given - - could not tell", "arrived: could not tell"]


def test_references_that_were_not_compared_are_not_passed_over() -> None:
    assert any(line.startswith("references: not compared") for line in table(identity=None))
    assert not any("references" in line for line in table(identity=None, contextual=()))


def test_what_a_prompt_holds_does_nothing_to_the_terminal() -> None:
    lines = table(contextual=(), generated=EMPTY, asked=(Asked("dog\x1b[2J", 1, False, "a\n dog\x1b[2J"),))
    assert lines[1].split() == ["dog", "[2J", "at", "least", "1", "0", "missing", '"a', "dog", '[2J"']


def told(out: io.StringIO, *, quiet: bool = False) -> str:
    say_verdict(document(), Progress(quiet, out))
    return out.getvalue()


def test_the_table_has_colours_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[31marrived: no\x1b[0m" in told(Terminal())
    assert "\x1b[32mok     \x1b[0m" in told(Terminal())
    assert told(io.StringIO()) == f"\n{TABLE}\n"
    assert told(Terminal(), quiet=True) == ""


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_the_user_may_refuse_colours(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert "\x1b[3" not in told(Terminal())


def write_png(path: Path) -> None:
    Image.new("RGB", (SIZE_HW[1], SIZE_HW[0]), (120, 120, 120)).save(path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("c0.png", "g.png"):
        write_png(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_by_url(service: Service, answer: Mapping[str, Any], *more: str) -> int:
    line = json.dumps({"event": "result", "result": answer})
    service.will(Response(f"{line}\n", media_type="application/x-ndjson"))
    return main(["run", "-p", answer["prompt"], "-c", "c0.png", "-g", "g.png", "--url", service.url, *more])


def test_run_by_url_asks_for_the_verdict_and_ends_with_its_table(
    service: Service,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_by_url(service, document(), "--verdict", "-o", "out.json") == 0
    out, err = capsys.readouterr()
    assert service.seen[0].fields["verdict"] == ["true"]
    assert "overlay_style" not in service.seen[0].fields
    assert err.endswith(f"\n{TABLE}\n")
    assert "arrived" not in out
    assert json.loads((folder / "out.json").read_text()) == document()


@pytest.mark.usefixtures("folder")
def test_quiet_prints_the_json_alone(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_by_url(service, document(), "--verdict", "--quiet") == 0
    out, err = capsys.readouterr()
    assert (json.loads(out), err) == (document(), "")


@pytest.mark.usefixtures("folder")
def test_a_service_without_a_verdict_gives_no_table(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    older = {name: value for name, value in document().items() if name != "verdict"}
    assert run_by_url(service, older, "--compare", "--viz-dir", "viz") == 0
    assert "arrived" not in capsys.readouterr().err


def pixels(path: Path) -> np.ndarray[Any, np.dtype[np.int64]]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(np.int64)


def near(image: np.ndarray[Any, np.dtype[np.int64]], colour: Sequence[int], most: int = 40) -> int:
    """Count the pixels of about a colour; JPEG changes it a little."""
    return int((np.abs(image - np.array(colour)).max(axis=2) < most).sum())


def test_pictures_and_sheet_show_the_verdict(service: Service, folder: Path) -> None:
    assert run_by_url(service, {**document(), "verdict": None}, "--compare", "--viz-dir", "plain") == 0
    assert run_by_url(service, document(), "--verdict", "--compare", "--viz-dir", "viz") == 0
    names = ["comparison.jpg", "contextual_0_c0.jpg", "generated_g.jpg"]
    assert sorted(path.name for path in (folder / "viz").iterdir()) == names
    label, match = (255, 64, 64), (60, 200, 75)  # the first entity's colour, and the first after both entities'
    for name in names[1:]:
        assert near(pixels(folder / "viz" / name), match) > near(pixels(folder / "plain" / name), match)
    assert near(pixels(folder / "viz" / names[1])[:, :10], label) == 0  # dogs_0 arrived
    assert near(pixels(folder / "viz" / names[1])[:, 10:], label) > 0  # dogs_1 was merged
    assert pixels(folder / "viz" / names[0]).shape[0] > pixels(folder / "plain" / names[0]).shape[0] + 60


def test_outline_draws_no_colour_over_the_objects(service: Service, folder: Path) -> None:
    Image.new("RGB", (300, 200), (120, 120, 120)).save("g.png")
    mask = np.zeros((200, 300), np.bool_)
    mask[50:150, 100:200] = True
    found: ObjectDict = {**found_object("dogs_0", [100, 50, 200, 150]), "mask_rle": encode_rle(mask)}
    answer = document()
    answer["generated_image"] = image("g.png", [found], (300, 200))
    assert run_by_url(service, answer, "--save-viz", "--viz-dir", "fill") == 0
    assert run_by_url(service, answer, "--outline", "--save-viz", "--viz-dir", "outline") == 0
    assert service.seen[1].fields["overlay_style"] == ["outline"]
    fill, outline = (pixels(folder / style / "generated_g.jpg") for style in ("fill", "outline"))
    inside = (slice(85, 115), slice(135, 165))  # below the label, far from the lines
    assert near(outline[inside], (120, 120, 120), 10) == 30 * 30
    assert near(fill[inside], (120, 120, 120), 10) == 0


@pytest.mark.usefixtures("folder")
def test_outline_and_a_fill_contradict_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "-p", "a dog", "-g", "g.png", "--outline", "--overlay-style", "fill"]) == 2
    assert capsys.readouterr().err == "genseg: --outline: contradicts --overlay-style fill\n"


@pytest.mark.parametrize(
    ("flags", "note"),
    [
        (["--outline"], "--outline: has no effect without pictures; add --save-viz or --overlays"),
        (["--overlay-style", "fill"], "--overlay-style: has no effect without pictures; add --save-viz or --overlays"),
        (["--outline", "--overlays"], None),
        (["--outline", "--compare", "--viz-dir", "viz"], None),
        ([], None),
    ],
    ids=["outline", "style", "overlays", "saved", "neither"],
)
@pytest.mark.usefixtures("folder")
def test_a_style_that_draws_nothing_is_noted(
    service: Service, capsys: pytest.CaptureFixture[str], flags: list[str], note: str | None
) -> None:
    assert run_by_url(service, document(), *flags) == 0
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if "no effect" in line] == ([] if note is None else [note])


def test_the_demo_asks_for_the_verdict_and_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def segment(request: Any, *_: Any) -> Any:
        asked.append(request.verdict)
        return document((), None, (Asked("dog", 1),))

    monkeypatch.setattr(demo, "segment_locally", segment)
    monkeypatch.setattr("serve_app.cli.demo.pictures.write_pictures", lambda *_, **__: [])
    assert main(["demo", "-o", str(tmp_path)]) == 0
    assert asked == [True]
    assert "arrived: could not tell" in capsys.readouterr().err
