"""Lists the settings that change the results of a dataset job. The job's output folder records them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import cast

from pydantic import JsonValue

from serve_app.batch.fingerprint import Setting
from serve_app.cli import request_flags
from serve_app.config.schema import AppConfig
from serve_app.schemas.requests import OptionArguments, RequestOptions

NOT_OF_RESULTS = frozenset({"timeout_s"})
"""Options that do not change a result. They only decide how long a row may take before it fails."""
OF_RESULTS = (
    "models.text_parser.engine",
    "models.text_parser.model_name",
    "models.segmentation.engine",
    "models.segmentation.model_name",
    "models.segmentation.head_dtype",
    "models.identity.model_name",
    "models.identity.threshold",
    "segmentation",
    "entity_filter",
)
"""Keys and sections of a configuration that change results. They are recorded with --standalone or --config; without
these flags a running service may do the work, and its configuration is not known."""
ALWAYS_RECORDED = frozenset({"threshold", "mask_threshold"})
"""Options that are recorded as null if they are not given, as in folders of earlier versions."""


def options_of(args: argparse.Namespace) -> OptionArguments:
    """Return the options for rows that do not set them."""
    options = request_flags.given(args)
    return {**options, "overlay_style": "outline"} if args.outline else options


def settings_of(args: argparse.Namespace, config: AppConfig) -> dict[str, Setting]:
    """Return the settings that change results: flags; with --standalone or --config also keys of the configuration."""
    given = cast(Mapping[str, Setting], options_of(args))
    settings: dict[str, Setting] = {
        request_flags.flag_of(name): given.get(name)
        for name, field in RequestOptions.model_fields.items()
        if name in ALWAYS_RECORDED or (given.get(name, field.default) != field.default and name not in NOT_OF_RESULTS)
    }
    if not args.standalone and not args.config:
        return settings
    return {**settings, **config_settings(config)}


def config_settings(config: AppConfig) -> dict[str, Setting]:
    """Return the values of a configuration that change results, by key."""
    values = _leaves("", config.model_dump(mode="json"))
    return {name: value for name, value in values if any(f"{name}.".startswith(f"{each}.") for each in OF_RESULTS)}


def _leaves(prefix: str, values: Mapping[str, JsonValue]) -> Iterator[tuple[str, Setting]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(f"{prefix}{name}.", value)
        else:
            yield f"{prefix}{name}", cast(Setting, value)
