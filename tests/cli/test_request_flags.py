"""Flags for the options of a request: how they are written, and the messages for wrong values."""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

import pytest

from serve_app.cli import pictures, request_flags
from serve_app.cli.main import main
from serve_app.schemas.requests import ImageInput, SegmentRequest
from tests.conftest import png


def given(*arguments: str) -> object:
    parser = argparse.ArgumentParser()
    request_flags.add_flags(parser, "options")
    return request_flags.given(parser.parse_args(arguments))


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], {}),
        (["--entities", "dog", "red sofa"], {"entities": ["dog", "red sofa"]}),
        (["--entities", "dog", "--entities", "red sofa"], {"entities": ["dog", "red sofa"]}),
        (["--thresholds", "dog=0.3", "red sofa=0.6"], {"thresholds": {"dog": 0.3, "red sofa": 0.6}}),
        (["--thresholds", "dog=0.3", "--thresholds", "a=b=1"], {"thresholds": {"dog": 0.3, "a=b": 1.0}}),
        (["--threshold", "0"], {"threshold": 0.0}),
        (["--overlays", "--mask-format", "png"], {"mask_format": "png", "overlays": True}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_given_collects_the_options_whose_flags_are_there(arguments: list[str], options: object) -> None:
    assert given(*arguments) == options


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threshold", "2"], "argument --threshold: 2 is not between 0 and 1"),
        (["--threshold", "nan"], "argument --threshold: nan is not between 0 and 1"),
        (["--threshold", "much"], "argument --threshold: 'much' is not a number"),
        (["--timeout", "0"], "argument --timeout: 0 is not above 0 and at most 86400"),
        (["--timeout", "inf"], "argument --timeout: inf is not above 0 and at most 86400"),
        (["--timeout", "1e12"], "argument --timeout: 1e12 is not above 0 and at most 86400"),
        (["--thresholds", "dog"], "argument --thresholds: 'dog' is not of the form NAME=NUMBER"),
        (["--thresholds", "=0.5"], "argument --thresholds: '=0.5' is not of the form NAME=NUMBER"),
        (["--thresholds", "dog=0.3", "dog=0.4"], "argument --thresholds: 'dog' is given twice"),
        (["--thresholds", "dog=0.3", "--thresholds", "dog=0.3"], "argument --thresholds: 'dog' is given twice"),
        (["--thresholds", "dog=2"], "argument --thresholds: 2 is not between 0 and 1"),
        (["--mask-format", "bitmap"], "argument --mask-format: invalid choice: 'bitmap'"),
        (["--entities"], "argument --entities: expected at least one argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_value_is_named_with_its_flag(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        given(*arguments)
    assert message in capsys.readouterr().err


def test_run_asks_for_a_prompt_or_entities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = tmp_path / "g.png"
    image.write_bytes(png())
    with pytest.raises(SystemExit) as caught:
        main(["run", "-g", str(image)])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("genseg run: the following arguments are required: -p/--prompt, or --entities (usage:")
    # With entities it goes on: as far as the service, which is not there.
    assert main(["run", "-g", str(image), "--entities", "dog", "--url", "http://127.0.0.1:1"]) == 1
    assert "http://127.0.0.1:1" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "batch"])
def test_the_help_shows_each_flag(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = capsys.readouterr().out
    assert all(f"  {flag}" in text for flag in ("--threshold T", "--mask-threshold T", "--overlays", "--timeout S"))
    assert ("--thresholds NAME=T" in text) is (command == "run")


def test_pictures_ask_for_masks_that_the_document_does_not_show() -> None:
    request = SegmentRequest(prompt="a dog", generated_image=ImageInput(data=b"x"), mask_format="none")
    assert pictures.with_masks(request).mask_format == "rle"
    polygons = request.model_copy(update={"mask_format": "polygon"})
    assert pictures.with_masks(polygons) is polygons
    image = {"objects": [{"object_id": "dog_0", "mask_rle": {"size": [1, 1], "counts": "0"}}]}
    document: Any = {"contextual_images": [copy.deepcopy(image), {"objects": None}], "generated_image": image}
    bare: Any = pictures.without_masks(document)
    assert bare["contextual_images"] == [{"objects": [{"object_id": "dog_0"}]}, {"objects": None}]
    assert bare["generated_image"] == {"objects": [{"object_id": "dog_0"}]}
    assert "mask_rle" in image["objects"][0]


@pytest.mark.parametrize(
    ("text", "outcome"),
    [("3", "3"), ("1", "1"), ("0", "0 is not at least 1"), ("1.5", "'1.5' is not a whole number")],
)
def test_a_whole_number_is_read_within_its_range(text: str, outcome: str) -> None:
    read = request_flags.number_of({"type": "integer", "minimum": 1})
    try:
        answer = str(read(text))
    except argparse.ArgumentTypeError as error:
        answer = str(error)
    assert answer == outcome
