"""What a running deployment may be told anew: the `user_config` of each deployment.

Everything else of AppConfig (models, devices, caches) lives in `args:` and takes a restart. Knows neither Ray nor YAML.
"""

from __future__ import annotations

from serve_app.config import (
    AppConfig,
    AuthConfig,
    BatchingConfig,
    EntityFilterConfig,
    FetchConfig,
    LimitsConfig,
    Section,
    SegmentationConfig,
    ServingConfig,
)


class Settings(Section):
    """Base of a deployment's `user_config`: sections of AppConfig, each optional."""

    def apply_to(self, config: AppConfig) -> AppConfig:
        """Put the given sections in the place of the same sections of a configuration.

        Args:
            config: what `args:` says.

        Returns:
            A configuration in which every section given here is replaced as a whole (a key left out of it has its
            default, not its value in `config`) and every other section is that of `config`; `config` itself, equal,
            where no section is given.
        """
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return config.model_copy(update={name: section for name, section in given.items() if section is not None})


class IngressSettings(Settings):
    """`user_config` of the Ingress."""

    segmentation: SegmentationConfig | None = None
    limits: LimitsConfig | None = None
    serving: ServingConfig | None = None
    fetch: FetchConfig | None = None
    auth: AuthConfig | None = None


class SegmenterSettings(Settings):
    """`user_config` of the SegmenterDeployment."""

    batching: BatchingConfig | None = None
    limits: LimitsConfig | None = None


class ParserSettings(Settings):
    """`user_config` of the ParserDeployment, which also filters what it has read."""

    batching: BatchingConfig | None = None
    entity_filter: EntityFilterConfig | None = None


def settings_from(
    config: AppConfig,
    ingress: IngressSettings | None,
    segmenter: SegmenterSettings | None,
    parser: ParserSettings | None,
) -> AppConfig:
    """Draw the settings of all three deployments into one configuration.

    Args:
        config: what `args:` says.
        ingress: the `user_config` of the Ingress; None where it has none, as for the others.
        segmenter: that of the SegmenterDeployment.
        parser: that of the ParserDeployment.

    Returns:
        `config` with the ingress's sections, the segmenter's `max_pixels` and `max_pairs`, and the parser's
        `max_prompts` and filter. The segmenter's `limits` are its own guard and leave the ingress's untouched.
    """
    if ingress is not None:
        config = ingress.apply_to(config)
    batching = config.batching
    if segmenter is not None and segmenter.batching is not None:
        ours = segmenter.batching
        batching = batching.model_copy(update={"max_pixels": ours.max_pixels, "max_pairs": ours.max_pairs})
    if parser is not None and parser.batching is not None:
        batching = batching.model_copy(update={"max_prompts": parser.batching.max_prompts})
    if parser is not None:
        config = parser.apply_to(config)
    return config.model_copy(update={"batching": batching})
