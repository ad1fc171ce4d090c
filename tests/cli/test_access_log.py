"""Serve's own lines for each request: off, unless a Serve config asks for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import LoggingConfig, ServeDeploySchema

from serve_app.cli.deploy import without_access_log

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (None, {"enable_access_log": False}),
        ({}, {"enable_access_log": False}),
        ({"encoding": "JSON", "log_level": "DEBUG"}, {"encoding": "JSON", "enable_access_log": False}),
        ({"enable_access_log": True}, {"enable_access_log": True}),
        ({"enable_access_log": False}, {"enable_access_log": False}),
    ],
)
def test_access_lines_are_written_only_where_they_are_asked_for(
    given: dict[str, Any] | None, kept: dict[str, Any]
) -> None:
    config = without_access_log(None if given is None else LoggingConfig(**given))
    assert kept.items() <= config.model_dump().items()
    assert config.log_level == (given or {}).get("log_level", "INFO")


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_the_configurations_that_ship_turn_them_off_for_serve_run_too(path: Path) -> None:
    schema = ServeDeploySchema.model_validate(yaml.safe_load(path.read_text()))
    for application in schema.applications:
        assert application.logging_config is not None
        assert not application.logging_config.enable_access_log
