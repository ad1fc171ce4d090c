"""`user_config`: which sections a running deployment takes, and what they replace."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from serve_app.config import AppConfig, BatchingConfig, EntityFilterConfig, LimitsConfig, SegmentationConfig
from serve_app.settings import IngressSettings, ParserSettings, SegmenterSettings, Settings, settings_from

ARGS = AppConfig(
    segmentation=SegmentationConfig(threshold=0.4, mask_threshold=0.4),
    batching=BatchingConfig(max_pixels=11, max_pairs=12, max_prompts=13),
    limits=LimitsConfig(max_images=3),
)


def test_apply_to_replaces_a_given_section_as_a_whole() -> None:
    settings = IngressSettings.model_validate({"segmentation": {"threshold": 0.1}})
    applied = settings.apply_to(ARGS)
    assert applied.segmentation == SegmentationConfig(threshold=0.1, mask_threshold=0.5)
    assert applied.limits == ARGS.limits
    assert ARGS.segmentation.threshold == 0.4


@pytest.mark.parametrize(
    "settings", [IngressSettings(), SegmenterSettings(), ParserSettings()], ids=lambda s: type(s).__name__
)
def test_apply_to_without_sections_changes_nothing(settings: Settings) -> None:
    assert settings.apply_to(ARGS) == ARGS


@pytest.mark.parametrize(
    ("kind", "section"),
    [
        (IngressSettings, "models"),
        (IngressSettings, "batching"),
        (IngressSettings, "entity_filter"),
        (SegmenterSettings, "segmentation"),
        (ParserSettings, "limits"),
        (ParserSettings, "cache"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_settings_refuse_what_takes_a_restart_or_is_another_s(kind: type[Settings], section: str) -> None:
    with pytest.raises(ValidationError, match=section):
        kind.model_validate({section: {}})


def test_settings_from_takes_from_each_deployment_what_is_its_own() -> None:
    config = settings_from(
        ARGS,
        IngressSettings.model_validate({"limits": {"max_images": 5}}),
        SegmenterSettings.model_validate({"batching": {"max_pairs": 2, "max_pixels": 1}, "limits": {"max_images": 9}}),
        ParserSettings(
            batching=BatchingConfig(max_prompts=4), entity_filter=EntityFilterConfig(excluded_terms=("haze",))
        ),
    )
    assert config.batching == BatchingConfig(max_pixels=1, max_pairs=2, max_prompts=4)
    assert config.limits.max_images == 5
    assert config.entity_filter.excluded_terms == ("haze",)


def test_settings_from_nothing_is_what_args_say() -> None:
    assert settings_from(ARGS, None, None, None) == ARGS
