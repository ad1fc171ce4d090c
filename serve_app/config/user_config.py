"""What a running deployment may be told anew: the `user_config` of each deployment.

Everything else of AppConfig (models, devices, caches) lives in `args:` and takes a restart. Knows neither Ray nor YAML.
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
    """Base of a deployment's `user_config`: sections of AppConfig, each optional, with the keys that it reads."""

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
        """Put the given sections in the place of the same sections of a configuration.

        Args:
            config: what `args:` says.

        Returns:
            A configuration in which of every section given here all keys that this deployment takes are replaced (a key
            left out has its default, not its value in `config`), and everything else is that of `config`; `config`
            itself, equal, where no section is given.
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
        """See Settings.

        Raises:
            ConfigError: the batches are larger than those that a compiled model is warmed up for.
        """
        if findings := self.findings_for(config):
            raise refusal(findings)
        return super().apply_to(config)

    def findings_for(self, config: AppConfig) -> list[Finding]:
        """Find batches for which a compiled model would be compiled anew, minutes in the middle of a request.

        Args:
            config: what `args:` says: what the model is loaded and warmed up with.
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
    """`user_config` of the ParserDeployment, which also filters what it has read."""

    batching: ParserBatching | None = None
    entity_filter: EntityFilterConfig | None = None


SETTINGS: Mapping[str, type[Settings]] = {
    "Ingress": IngressSettings,
    "ParserDeployment": ParserSettings,
    "SegmenterDeployment": SegmenterSettings,
}
"""What each deployment takes as its `user_config`, by the deployment's name."""

Kind = TypeVar("Kind", bound=Settings)


class UserConfig(Generic[Kind]):
    """Takes the `user_config` of one replica, again and again while it runs.

    The first one must be right: a replica that started without it would run with defaults that nobody chose, such as
    no authentication. A later wrong one is logged, and the values before it stay.

    Args:
        deployment: its name, for messages.
        kind: the settings that the deployment takes.
    """

    def __init__(self, deployment: str, kind: type[Kind]) -> None:
        self._deployment = deployment
        self._kind = kind
        self._taken = False

    def take(self, user_config: object, apply: Callable[[Kind], None]) -> None:
        """Check a `user_config` and apply it.

        Args:
            user_config: as Ray Serve hands it over; None means no settings.
            apply: puts the settings in force. It raises ConfigError, and changes nothing, where they cannot be.

        Raises:
            ConfigError: it is the first one and it is wrong; one line that names every fault.
        """
        try:
            settings, findings = validated(self._kind, {} if user_config is None else user_config)
            if settings is None:
                raise refusal(findings)
            apply(settings)
        except ConfigError as error:
            if not self._taken:
                raise ConfigError(f"user_config of {self._deployment}: {error.message}") from None
            logger.error("user_config of %s is refused, the old one stays: %s", self._deployment, error.message)
        else:
            self._taken = True


def refusal(findings: Sequence[Finding]) -> ConfigError:
    """Put faults into one line, each with its place."""
    return ConfigError(
        "; ".join(f"{place_of(each.path)}: {each.message}" if each.path else each.message for each in findings)
    )


def settings_from(config: AppConfig, *given: Settings) -> AppConfig:
    """Put the settings of the deployments into one configuration.

    Args:
        config: what `args:` says.
        given: the `user_config` of each deployment that has one.

    Returns:
        `config` with what each takes. The segmenter's `limits` are its own guard and leave the ingress's untouched.
    """
    for settings in given:
        own = settings.model_copy(update={"limits": None}) if isinstance(settings, SegmenterSettings) else settings
        config = own.apply_to(config)
    return config
