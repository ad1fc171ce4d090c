"""Bearer tokens: where they may stand, and which ones a service accepts. Pure; the environment comes in.

A service must never run without authentication because a secret was forgotten. So a variable that is named and empty is
an error, wherever it is found: by the Ingress when it starts, by `genseg serve` and by `genseg check-config`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from serve_app.config import AuthConfig, bearer_token
from serve_app.errors import ConfigError
from serve_app.findings import Finding, Path, children

TOKENS_IN_ARGS = (
    "tokens may not stand in args, which Ray writes into its logs; "
    "use auth.token_env, or auth.tokens in the user_config of the Ingress"
)


def accepted_tokens(auth: AuthConfig, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Collect the tokens of the configuration and of the environment variable that it names.

    Args:
        auth: the configuration.
        environment: of the process that authenticates.

    Returns:
        The tokens; empty where the configuration asks for no authentication.

    Raises:
        ConfigError: the variable is named but empty, or holds a token that no header can carry.
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


def unset_variables(document: object, environment: Mapping[str, str], path: Path = ()) -> Iterator[Finding]:
    """Find every `auth.token_env` of a configuration whose variable is not set here.

    Args:
        document: a configuration or a Serve config, as YAML gives it.
        environment: of this process. The service's may differ, on a cluster for example.
        path: where the document stands in a larger one.

    Yields:
        A finding for each.
    """
    for key, value in children(document):
        here = (*path, key)
        if here[-2:] == ("auth", "token_env") and isinstance(value, str) and not _listed(environment.get(value, "")):
            text = f"the environment variable {value} is not set here, or empty; without it the service does not start"
            yield Finding(here, text)
        yield from unset_variables(value, environment, here)


def _listed(text: str) -> list[str]:
    return [token for part in text.split(",") if (token := part.strip())]


def tokens_in_args(args: Mapping[str, Any]) -> bool:
    """Tell whether the `args:` of a Serve config hold tokens."""
    auth = args.get("auth")
    return isinstance(auth, Mapping) and bool(auth.get("tokens"))
