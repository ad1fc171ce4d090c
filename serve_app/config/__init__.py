"""The configuration: its schema, its files, and what is wrong in them."""

from __future__ import annotations

from serve_app.config.schema import (
    AppConfig,
    AuthConfig,
    BatchingConfig,
    CacheConfig,
    DeviceConfig,
    EntityFilterConfig,
    FetchConfig,
    LimitsConfig,
    ModelsConfig,
    OpenAIConfig,
    OutputConfig,
    Section,
    SegmentationConfig,
    SegmentationModel,
    ServingConfig,
    TextParserModel,
    bearer_token,
    http_address,
    known_device,
)

__all__ = [
    "AppConfig", "AuthConfig", "BatchingConfig", "CacheConfig", "DeviceConfig", "EntityFilterConfig", "FetchConfig",
    "LimitsConfig", "ModelsConfig", "OpenAIConfig", "OutputConfig", "Section", "SegmentationConfig",
    "SegmentationModel", "ServingConfig", "TextParserModel", "bearer_token", "http_address", "known_device",
]  # fmt: skip
