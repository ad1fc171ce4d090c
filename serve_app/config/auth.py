"""Reads secrets: the bearer tokens that a service accepts, and the key of the text model's server.

A service must never run without authentication because a secret was forgotten. So an empty variable that the
configuration names is an error in the Ingress when it starts, in `genseg serve` and in `genseg check-config`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from serve_app.config.findings import Finding, Path, children
from serve_app.config.models import OpenAIConfig
from serve_app.config.schema import AuthConfig
from serve_app.config.values import bearer_token
from serve_app.errors import ConfigError

TOKENS_IN_ARGS = (
    "tokens are not allowed in args, because Ray writes args into its logs; "
    "use auth.token_env, or auth.tokens in the user_config of the Ingress"
)


def accepted_tokens(auth: AuthConfig, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Collect the tokens of the configuration and of the environment variable that it names.

    Args:
        auth: the section `auth` of the configuration.
        environment: the environment variables of the process that checks the tokens.

    Returns:
        The tokens; empty if the configuration asks for no authentication.

    Raises:
        ConfigError: the variable that `auth` names is empty, or one of its tokens has characters that are not allowed
            in a header.
    """
    name = auth.token_env
    if name is None:
        return auth.tokens
    named = _listed(environment.get(name, ""))
    if not named:
        raise ConfigError(f"auth.token_env: the environment variable {name} is not set, or empty")
    try:
        return (*auth.tokens, *map(bearer_token, named))
    except ValueError as error:
        raise ConfigError(f"auth.token_env: in the environment variable {name}, {error}") from None


def api_key(server: OpenAIConfig, environment: Mapping[str, str] = os.environ) -> str | None:
    """Read the key of the text model's server.

    Args:
        server: the section `models.text_parser.openai` of the configuration.
        environment: the environment variables of the process that calls the server.

    Returns:
        The key; None if `api_key_env` is null or its variable is not set.
    """
    return environment.get(server.api_key_env) if server.api_key_env else None


def unset_variables(document: object, environment: Mapping[str, str], path: Path = ()) -> Iterator[Finding]:
    """Find every `auth.token_env` whose variable holds no usable token in this environment.

    Args:
        document: a configuration or a Serve config, as read from YAML.
        environment: the environment variables of this process. The service may have others, for example on a cluster.
            The `runtime_env.env_vars` of an application override them.
        path: the path of `document` in the whole file.

    Yields:
        One finding for each such `token_env`.
    """
    environment = {**environment, **_variables_of(document)}
    for key, value in children(document):
        here = (*path, key)
        if here[-2:] == ("auth", "token_env") and isinstance(value, str):
            try:
                accepted_tokens(AuthConfig(token_env=value), environment)
            except ConfigError as error:
                text = error.message.removeprefix("auth.token_env: ")
                yield Finding(here, f"{text}; with the environment of this command the service does not start")
        yield from unset_variables(value, environment, here)


def auth_findings(section: object, *, in_args: bool = False) -> Iterator[Finding]:
    """Find the faults of an `auth` section that its schema does not find.

    Args:
        section: the section as read from YAML. Only a mapping is examined; the schema reports anything else.
        in_args: whether the section is in the `args:` of a Serve config.

    Yields:
        A finding for a section without any token, because the service would be open by mistake, and for tokens that
        Ray would write into its logs. Paths are relative to the section.
    """
    if not isinstance(section, Mapping):
        return
    if in_args and section.get("tokens"):
        yield Finding(("tokens",), TOKENS_IN_ARGS, on_key=True)
    if not section.get("tokens") and section.get("token_env") is None and not {*section} - {"tokens", "token_env"}:
        yield Finding((), "asks for no token; give token_env or tokens, or leave auth out", on_key=True)


def _variables_of(document: object) -> dict[str, str]:
    runtime_env = document.get("runtime_env") if isinstance(document, Mapping) else None
    variables = runtime_env.get("env_vars") if isinstance(runtime_env, Mapping) else None
    return {name: text for name, text in children(variables) if isinstance(name, str) and isinstance(text, str)}


def _listed(text: str) -> list[str]:
    return [token for part in text.split(",") if (token := part.strip())]
