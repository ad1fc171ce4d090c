"""The texts of `--help`, and the messages for unknown flags."""

from __future__ import annotations

import argparse
import importlib

import pytest

from serve_app.cli import commands
from serve_app.cli.main import main

TEXTS_WITHOUT = {"--help", "--version"}


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser of a command, with its flags declared."""
    parser = commands._Parser(prog=f"genseg {name}")
    importlib.import_module(f"serve_app.cli.{commands.COMMANDS[name][0]}").add_arguments(parser)
    return parser


def test_the_help_opens_with_a_sentence_for_users(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert (
        "Find each object that a prompt names, in each image, and write one JSON document with a mask, a box and "
        "a score of each object." in text
    )
    assert "genseg demo" in text


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_each_flag_with_a_default_names_it_and_each_flag_is_described(name: str) -> None:
    parser = parser_of(name)
    text = " ".join(parser.format_help().split())
    for action in parser._actions:
        assert action.help, f"{name} {action.option_strings}: no description"
        if action.default and action.default is not argparse.SUPPRESS and not isinstance(action.default, bool):
            assert f"{action.default}" in text, f"{name} {action.option_strings}: its default is not named"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("run", "The JSON file; - is standard output. Default: segmentation_output.json."),
        ("run", "Default: 60 with --url, else a day."),
        ("run", "How masks are sent: as COCO RLE, polygons or PNG, or not at all (`none`). Default: rle."),
        ("run", "Default: the configuration's (outputs/visualizations)."),
        ("demo", "Folder for the JSON file and the pictures. Default: results/demo."),
        ("batch", "Default: 32."),
        ("batch", "Default: 1000."),
        ("batch", "Default: rle."),
        ("serve", "Default: the file's, or 8000."),
    ],
)
def test_the_help_names_the_default(name: str, words: str) -> None:
    assert words in " ".join(parser_of(name).format_help().split())


@pytest.mark.parametrize(
    ("flag", "hint"),
    [
        ("--thresh", "did you mean --threshold or --thresholds?"),
        ("--mask", "did you mean --mask-threshold or --mask-format?"),
        ("--thersholds=dog=1", "did you mean --thresholds?"),
        ("--output-dir", "did you mean --output?"),
        ("--viz", "did you mean --viz-dir?"),
        ("--zzz", None),
    ],
)
def test_a_shortened_or_misspelt_flag_is_refused_with_the_nearest(
    flag: str, hint: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["run", "-p", "a dog", "-g", "x.png", flag, "0.4"])
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"genseg run: unrecognized arguments: {flag} 0.4")
    assert (hint or "(usage: genseg run --help)") in line
    assert ("did you mean" in line) is (hint is not None)


@pytest.mark.parametrize(
    "flags", [["-p", "a dog", "-p", "a cat"], ["-g", "a.png", "-g", "b.png"], ["-o", "a", "-o", "b"]]
)
def test_an_option_that_is_given_twice_is_refused(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["run", *flags])
    assert exit_.value.code == 2
    assert "given twice" in capsys.readouterr().err


def test_contextual_images_may_be_given_in_several_flags() -> None:
    args = parser_of("run").parse_args(["-c", "a.png", "-c", "b.png", "c.png"])
    assert args.contextual == ["a.png", "b.png", "c.png"]
