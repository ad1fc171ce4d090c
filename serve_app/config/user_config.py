"""The `user_config` of each deployment: the settings that may change while its replicas run.

The other sections of AppConfig (models, devices, caches) may stand in `args:` only, and a change of them restarts the
replicas. Knows neither Ray nor YAML.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from pydantic import model_validator

from serve_app.config.auth import auth_findings
from serve_app.config.findings import Finding, place_of, submodel, validated
from serve_app.config.schema import (
    AppConfig,
    AuthConfig,
    EntityFilterConfig,
    FetchConfig,
    IngressLimits,
    IngressServing,
    ParserBatching,
    SegmentationConfig,
    SegmenterBatching,
    SegmenterLimits,
)
from serve_app.config.values import Section
from serve_app.errors import ConfigError

logger = logging.getLogger("ray.serve")


class Settings(Section):
    """Base of a deployment's `user_config`: optional sections of AppConfig, with the keys that the deployment reads."""

    @model_validator(mode="before")
    @classmethod
    def _no_empty_section(cls, value: object) -> object:
        # `auth:` with every key under it commented out must not mean "no authentication".
        if isinstance(value, Mapping):
            for name, section in value.items():
                if section is None and name in cls.model_fields:
                    raise ValueError(f"'{name}' is empty; give its keys, or leave it out")
            for finding in auth_findings(value.get("auth")):
                raise ValueError(f"'auth' {finding.message}")
        return value

    def apply_to(self, config: AppConfig) -> AppConfig:
        """Apply this `user_config` to a configuration.

        Args:
            config: the configuration from `args:`.

        Returns:
            A copy of `config`. In each section that this `user_config` has, all keys that the deployment takes are
            replaced. A key that is left out gets its default, not its value in `config`.
        """
        sections = {}
        for name, field in type(self).model_fields.items():
            given, kind = getattr(self, name), submodel(field.annotation)
            if given is not None and kind is not None:
                keys = {key: getattr(given, key) for key in kind.model_fields}
                sections[name] = getattr(config, name).model_copy(update=keys)
        return config.model_copy(update=sections)


class IngressSettings(Settings):
    """`user_config` of the Ingress."""

    segmentation: SegmentationConfig | None = None
    limits: IngressLimits | None = None
    serving: IngressServing | None = None
    fetch: FetchConfig | None = None
    auth: AuthConfig | None = None


class SegmenterSettings(Settings):
    """`user_config` of the SegmenterDeployment."""

    batching: SegmenterBatching | None = None
    limits: SegmenterLimits | None = None

    def apply_to(self, config: AppConfig) -> AppConfig:
        """Apply this `user_config` to a configuration; see Settings.

        Raises:
            ConfigError: the model is compiled, and the batches are larger than those in `config`.
        """
        if findings := self.findings_for(config):
            raise refusal(findings)
        return super().apply_to(config)

    def findings_for(self, config: AppConfig) -> list[Finding]:
        """Find batch sizes that a compiled model was not warmed up for: it would compile for minutes during a request.

        Args:
            config: the configuration from `args:`, with which the model is loaded and warmed up.

        Returns:
            One finding for each such key; none if the model is not compiled.
        """
        if self.batching is None or not config.models.segmentation.compile:
            return []
        findings = []
        for name in SegmenterBatching.model_fields:
            wanted, warmed_up = getattr(self.batching, name), getattr(config.batching, name)
            if wanted > warmed_up:
                said = (
                    f"{wanted} is over the {warmed_up} of args, which the compiled model is warmed up for; "
                    f"set batching.{name} in args, or models.segmentation.compile to false"
                )
                findings.append(Finding(("batching", name), said))
        return findings


class ParserSettings(Settings):
    """`user_config` of the ParserDeployment, which also filters the entities."""

    batching: ParserBatching | None = None
    entity_filter: EntityFilterConfig | None = None


SETTINGS: Mapping[str, type[Settings]] = {
    "Ingress": IngressSettings,
    "ParserDeployment": ParserSettings,
    "SegmenterDeployment": SegmenterSettings,
}
"""The schema of each deployment's `user_config`, by the deployment's name."""

Kind = TypeVar("Kind", bound=Settings)


class UserConfig(Generic[Kind]):
    """Checks and applies the `user_config` of one replica, each time that Ray Serve passes a new one.

    A replica does not start with a wrong `user_config`, because it would run with defaults that nobody chose, such as
    no authentication. If a later one is wrong, the replica logs an error and keeps the values that it has.

    Args:
        deployment: its name, for messages.
        kind: the schema of its `user_config`.
    """

    def __init__(self, deployment: str, kind: type[Kind]) -> None:
        self._deployment = deployment
        self._kind = kind
        self._taken = False

    def take(self, user_config: object, apply: Callable[[Kind], None]) -> None:
        """Check a `user_config` and apply it.

        Args:
            user_config: as Ray Serve passes it; None means no settings.
            apply: applies the settings. If they are not possible, it raises ConfigError and changes nothing.

        Raises:
            ConfigError: the first `user_config` is wrong; one line that names every fault.
        """
        try:
            settings, findings = validated(self._kind, {} if user_config is None else user_config)
            if settings is None:
                raise refusal(findings)
            apply(settings)
        except ConfigError as error:
            if not self._taken:
                raise ConfigError(f"user_config of {self._deployment}: {error.message}") from None
            logger.error("user_config of %s is refused, the earlier values stay: %s", self._deployment, error.message)
        else:
            self._taken = True


def refusal(findings: Sequence[Finding]) -> ConfigError:
    """Build an error whose one line names every fault with its place."""
    return ConfigError(
        "; ".join(f"{place_of(each.path)}: {each.message}" if each.path else each.message for each in findings)
    )


def settings_from(config: AppConfig, *given: Settings) -> AppConfig:
    """Apply the `user_config` of several deployments to one configuration.

    Args:
        config: the configuration from `args:`.
        given: the `user_config` of each deployment that has one.

    Returns:
        A copy of `config` with all settings except the segmenter's `limits`: `limits` of the copy holds the ingress's.
    """
    for settings in given:
        own = settings.model_copy(update={"limits": None}) if isinstance(settings, SegmenterSettings) else settings
        config = own.apply_to(config)
    return config
