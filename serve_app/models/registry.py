"""Loads the configured engines. A model's libraries are imported when its engine is loaded, not before."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from serve_app.config.engines import IDENTITY, PARSERS, SEGMENTERS
from serve_app.config.schema import AppConfig
from serve_app.models.interface import IdentityModel, Parser, Segmenter


def load_parser(config: AppConfig, engines: Mapping[str, str] = PARSERS) -> Parser:
    """Load the engine `models.text_parser.engine`.

    Args:
        config: everything.
        engines: import paths of functions that load a parser, by the engine's name.

    Raises:
        GensegError: what the engine raises, such as CheckpointError.
    """
    parser: Parser = _load(engines[config.models.text_parser.engine], config)
    return parser


def load_segmenter(config: AppConfig, engines: Mapping[str, str] = SEGMENTERS) -> Segmenter[Any, Any, Any]:
    """Load the engine `models.segmentation.engine`; as for load_parser."""
    segmenter: Segmenter[Any, Any, Any] = _load(engines[config.models.segmentation.engine], config)
    return segmenter


def load_identity(config: AppConfig) -> IdentityModel | None:
    """Load the identity model.

    Returns:
        None where `models.identity` names no model; nothing is imported for it then.

    Raises:
        GensegError: what the engine raises, such as CheckpointError.
    """
    if config.models.identity_name is None:
        return None
    model: IdentityModel = _load(IDENTITY, config)
    return model


def _load(path: str, config: AppConfig) -> Any:
    module, _, function = path.partition(":")
    return getattr(import_module(module), function)(config)
