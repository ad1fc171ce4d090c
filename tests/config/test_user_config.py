"""`user_config`: which sections a running deployment takes, and what they replace."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from serve_app.config.models import ModelsConfig, SegmentationModel
from serve_app.config.schema import (
    AppConfig,
    BatchingConfig,
    EntityFilterConfig,
    LimitsConfig,
    ParserBatching,
    SegmentationConfig,
    ServingConfig,
)
from serve_app.config.serve_config import our_findings
from serve_app.config.user_config import (
    IngressSettings,
    ParserSettings,
    SegmenterSettings,
    Settings,
    UserConfig,
    settings_from,
)
from serve_app.errors import ConfigError

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


def test_what_only_args_may_say_stays_as_args_say_it() -> None:
    args = ARGS.model_copy(update={"serving": ServingConfig(page=False, max_failed_starts=7)})
    serving = IngressSettings.model_validate({"serving": {"timeout_s": 5}}).apply_to(args).serving
    assert (serving.timeout_s, serving.page, serving.max_failed_starts) == (5, False, 7)
    with pytest.raises(ValidationError, match="page"):
        IngressSettings.model_validate({"serving": {"page": False}})


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
        SegmenterSettings.model_validate({"batching": {"max_pairs": 2, "max_pixels": 1}, "limits": {"max_side": 9}}),
        ParserSettings(
            batching=ParserBatching(max_prompts=4), entity_filter=EntityFilterConfig(excluded_terms=("haze",))
        ),
    )
    assert config.batching == BatchingConfig(max_pixels=1, max_pairs=2, max_prompts=4)
    assert (config.limits.max_images, config.limits.max_side) == (5, 65_535)
    assert config.entity_filter.excluded_terms == ("haze",)


@pytest.mark.parametrize(
    ("kind", "section", "key"),
    [
        (IngressSettings, "limits", "max_mask_bytes"),
        (SegmenterSettings, "limits", "max_images"),
        (SegmenterSettings, "limits", "max_body_bytes"),
        (SegmenterSettings, "batching", "max_prompts"),
        (ParserSettings, "batching", "max_pairs"),
    ],
)
def test_settings_refuse_a_key_that_this_deployment_does_not_read(kind: type[Settings], section: str, key: str) -> None:
    with pytest.raises(ValidationError, match=rf"{section}\.{key}"):
        kind.model_validate({section: {key: 5}})


def test_apply_to_leaves_what_another_deployment_reads() -> None:
    args = AppConfig(limits=LimitsConfig(max_mask_bytes=7, max_images=3, max_side=9))
    applied = IngressSettings.model_validate({"limits": {"max_images": 5}}).apply_to(args)
    assert applied.limits == LimitsConfig(max_mask_bytes=7, max_images=5)


def test_settings_from_nothing_is_what_args_say() -> None:
    assert settings_from(ARGS) == ARGS


def test_a_first_user_config_that_is_wrong_is_an_error_and_a_later_one_keeps_the_values(
    caplog: pytest.LogCaptureFixture,
) -> None:
    applied: list[IngressSettings] = []
    reader = UserConfig("Ingress", IngressSettings)
    wrong = {"segmentation": {"threshold": 7}, "limitz": {}}
    with pytest.raises(ConfigError, match=r"^user_config of Ingress: ") as caught:
        reader.take(wrong, applied.append)
    assert "segmentation.threshold: must be at most 1" in caught.value.message
    assert "unknown key 'limitz'" in caught.value.message
    reader.take({"segmentation": {"threshold": 0.25}}, applied.append)
    reader.take(wrong, applied.append)
    assert [each.segmentation for each in applied] == [SegmentationConfig(threshold=0.25)]
    assert "user_config of Ingress is refused, the earlier values stay: " in caplog.text


def test_a_user_config_that_cannot_be_applied_is_wrong_too() -> None:
    def refuse(_: IngressSettings) -> None:
        raise ConfigError("auth.token_env: not set")

    with pytest.raises(ConfigError, match=r"^user_config of Ingress: auth\.token_env: not set$"):
        UserConfig("Ingress", IngressSettings).take({}, refuse)


COMPILED = ARGS.model_copy(update={"models": ModelsConfig(segmentation=SegmentationModel(compile=True))})


@pytest.mark.parametrize(
    ("args", "batching", "reasons"),
    [
        (COMPILED, {"max_pixels": 11, "max_pairs": 12}, []),
        (COMPILED, {"max_pixels": 1, "max_pairs": 1}, []),
        (COMPILED, {"max_pixels": 11, "max_pairs": 13}, ["batching.max_pairs: 13 is over the 12 of args"]),
        (
            COMPILED,
            {"max_pairs": 12},  # a key that is left out has its default
            ["batching.max_pixels: 8128512 is over the 11 of args"],
        ),
        (
            COMPILED,
            {"max_pixels": 99, "max_pairs": 99},
            ["batching.max_pixels: 99 is over the 11 of args", "batching.max_pairs: 99 is over the 12 of args"],
        ),
        (ARGS, {"max_pixels": 99, "max_pairs": 99}, []),
    ],
    ids=["the same", "less", "more pairs", "left out", "more of both", "not compiled"],
)
def test_a_compiled_model_takes_no_batches_that_it_is_not_warmed_up_for(
    args: AppConfig, batching: dict[str, int], reasons: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    applied: list[AppConfig] = []
    reader = UserConfig("SegmenterDeployment", SegmenterSettings)
    reader.take({}, lambda settings: applied.append(settings.apply_to(args)))
    reader.take({"batching": batching}, lambda settings: applied.append(settings.apply_to(args)))
    assert len(applied) == (1 if reasons else 2)
    assert applied[0].batching == args.batching
    for reason in reasons:
        assert reason in caplog.text
    assert ("models.segmentation.compile to false" in caplog.text) == bool(reasons)


def test_check_config_finds_batches_that_a_compiled_model_is_not_warmed_up_for() -> None:
    application = {
        "args": {"models": {"segmentation": {"compile": True}}},
        "deployments": [{"name": "SegmenterDeployment", "user_config": {"batching": {"max_pairs": 64}}}],
    }
    config, (finding,) = our_findings(application)
    assert config is None
    assert finding.path == ("deployments", 0, "user_config", "batching", "max_pairs")
    assert finding.message.startswith("64 is over the 32 of args, which the compiled model is warmed up for")


@pytest.mark.parametrize("value", [5, "x", [1], {1: 2}], ids=str)
def test_a_user_config_that_is_no_mapping_of_keys_is_an_error(value: Any) -> None:
    with pytest.raises(ConfigError):
        UserConfig("ParserDeployment", ParserSettings).take(value, lambda _: None)
