"""The configuration: its schema, reading it from files, and finding faults in it."""

from __future__ import annotations

from serve_app.config.models import IdentityConfig, ModelsConfig, OpenAIConfig, SegmentationModel, TextParserModel
from serve_app.config.schema import (
    AppConfig,
    AuthConfig,
    BatchingConfig,
    CacheConfig,
    DeviceConfig,
    EntityFilterConfig,
    FetchConfig,
    LimitsConfig,
    OutputConfig,
    SegmentationConfig,
    ServingConfig,
)
from serve_app.config.values import Section, bearer_token, http_address, known_device

__all__ = [
    "AppConfig", "AuthConfig", "BatchingConfig", "CacheConfig", "DeviceConfig", "EntityFilterConfig", "FetchConfig",
    "IdentityConfig", "LimitsConfig", "ModelsConfig", "OpenAIConfig", "OutputConfig", "Section", "SegmentationConfig",
    "SegmentationModel", "ServingConfig", "TextParserModel", "bearer_token", "http_address", "known_device",
]  # fmt: skip
