"""Engines are found by name, and their libraries are imported only when one is asked for."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from serve_app.config.engines import PARSERS, SEGMENTERS
from serve_app.config.files import app_config_from
from serve_app.config.schema import AppConfig
from serve_app.errors import ConfigError
from serve_app.models.interface import LocalParser, RemoteParser
from serve_app.models.registry import load_parser, load_segmenter


@pytest.mark.parametrize("path", [*PARSERS.values(), *SEGMENTERS.values()])
def test_every_registered_path_is_a_function(path: str) -> None:
    module, _, name = path.partition(":")
    assert callable(getattr(import_module(module), name))


def test_the_embedded_models_offer_what_the_service_asks_for() -> None:
    config = AppConfig()
    parser, segmenter = load_parser(config), load_segmenter(config)
    assert isinstance(parser, LocalParser)
    assert not isinstance(parser, RemoteParser)
    assert all(callable(getattr(segmenter, name)) for name in ("prepare", "encode", "embed", "detect"))
    assert [type(side) for side in segmenter.resolution_hw] == [int, int]


def test_a_parser_on_a_server_loads_no_model_library() -> None:
    code = """
import sys
from serve_app.config.files import app_config_from
from serve_app.models.interface import LocalParser, RemoteParser
from serve_app.models.registry import load_parser
from serve_app.serving.parser import ParserDeployment
config = app_config_from({"models": {"text_parser": {"engine": "openai"}}})
parser = load_parser(config)
assert isinstance(parser, RemoteParser) and not isinstance(parser, LocalParser)
ParserDeployment(config)
assert not {"torch", "transformers"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("model", "engine", "expected"),
    [
        ("text_parser", "openia", "must be 'transformers' or 'openai', got 'openia'; did you mean 'openai'?"),
        ("text_parser", 5, "must be 'transformers' or 'openai', got 5"),
        ("segmentation", "openia", "must be 'transformers', got 'openia'"),
    ],
)
def test_an_engine_that_nobody_knows_is_refused_with_the_nearest_name(
    model: str, engine: object, expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        app_config_from({"models": {model: {"engine": engine}}})
    assert caught.value.message == f"models.{model}.engine: {expected}"
