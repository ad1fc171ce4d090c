"""Builds the parameters and the authorization header of a call to OpenAI's chat API. Pure functions."""

from __future__ import annotations

from collections.abc import Collection

from pydantic import JsonValue

from serve_app.config.models import TextParserModel
from serve_app.errors import ConfigError

SUBSTITUTES = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens", "temperature": None}
"""Parameters that some servers refuse, each with the parameter that replaces it; None if it is left out.
Source: OpenAI's API reference."""

Body = dict[str, JsonValue]
"""The JSON body of a call."""


def call_parameters(model: TextParserModel) -> Body:
    """Return the body of a call without its messages.

    It asks for greedy decoding and limits the reply. `extra_body` adds parameters, replaces them, or removes them
    (null).
    """
    extra = model.openai.extra_body
    body: Body = {"model": model.model_name, "temperature": 0, "max_tokens": model.max_new_tokens}
    if "max_completion_tokens" in extra:
        del body["max_tokens"]  # servers refuse a call with both
    return {key: value for key, value in {**body, **extra}.items() if value is not None}


def without_parameter(parameters: Body, name: str, refused: Collection[str]) -> Body:
    """Return the parameters without one of them, or with its substitute if that was not refused.

    Args:
        parameters: the body of a call without its messages.
        name: the parameter that the server refuses; a key of SUBSTITUTES.
        refused: all parameters that it has refused.

    >>> without_parameter({"max_tokens": 256}, "max_tokens", {"max_tokens"})
    {'max_completion_tokens': 256}
    """
    other = SUBSTITUTES[name]
    left = {key: value for key, value in parameters.items() if key != name}
    return left if other is None or other in refused else {other: parameters[name], **left}


def authorization(api_key: str | None) -> dict[str, str]:
    """Return the header that carries the key; empty if there is no key.

    Raises:
        ConfigError: the key contains a character that a header cannot carry.
    """
    key = (api_key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(
            "models.text_parser.openai.api_key_env: the key contains a character that an HTTP header cannot carry; "
            "set the variable to the key alone"
        )
    return {"Authorization": f"Bearer {key}"} if key else {}
