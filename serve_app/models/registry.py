"""Loads the configured engines. The libraries of a model are imported only when its engine is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from serve_app.config.engines import IDENTITY, PARSERS, SEGMENTERS
from serve_app.config.schema import AppConfig
from serve_app.models.interface import IdentityModel, Parser, Segmenter


def load_parser(config: AppConfig, engines: Mapping[str, str] = PARSERS) -> Parser:
    """Load the parser engine that `models.text_parser.engine` names.

    Args:
        config: the whole configuration.
        engines: by engine name, the import path (`module:function`) of the function that loads it.

    Raises:
        GensegError: the engine cannot be loaded; for example, a CheckpointError.
    """
    parser: Parser = _load(engines[config.models.text_parser.engine], config)
    return parser


def load_segmenter(config: AppConfig, engines: Mapping[str, str] = SEGMENTERS) -> Segmenter[Any, Any, Any]:
    """Load the segmenter engine that `models.segmentation.engine` names; arguments and errors as in `load_parser`."""
    segmenter: Segmenter[Any, Any, Any] = _load(engines[config.models.segmentation.engine], config)
    return segmenter


def load_identity(config: AppConfig) -> IdentityModel | None:
    """Load the identity model.

    Returns:
        The model; None if `models.identity` names none. In that case nothing is imported.

    Raises:
        GensegError: the model cannot be loaded; for example, a CheckpointError.
    """
    if config.models.identity_name is None:
        return None
    model: IdentityModel = _load(IDENTITY, config)
    return model


def _load(path: str, config: AppConfig) -> Any:
    module, _, function = path.partition(":")
    return getattr(import_module(module), function)(config)
