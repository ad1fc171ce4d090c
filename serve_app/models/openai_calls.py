"""The parts of a call to OpenAI's chat API: the parameters, the header with the key, and the reply. Pure functions."""

from __future__ import annotations

from collections.abc import Collection

import httpx
from pydantic import JsonValue

from serve_app.config.models import TextParserModel
from serve_app.entities.chat import CutReply
from serve_app.errors import ConfigError, InvalidModelReply

CUT = frozenset({"length", "max_tokens", "max_output_tokens", "model_length"})
"""Finish reasons of a reply that was cut off. Source: the API references of OpenAI, Anthropic, Gemini and Mistral."""

SUBSTITUTES = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens", "temperature": None}
"""Parameters that some servers refuse, each with the parameter that replaces it; None leaves it out.
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


def reply_text(response: httpx.Response) -> str:
    """Return the reply in a chat completion.

    Args:
        response: a successful answer of the server.

    Returns:
        The text; a CutReply, possibly empty, if the finish reason says that it reached its length limit.

    Raises:
        InvalidModelReply: the body is not a chat completion, or it has no text.
    """
    try:
        choice = response.json()["choices"][0]
        message, reason = choice["message"], choice.get("finish_reason")
        text = message["content"]
        thought = message.get("reasoning_content") or message.get("reasoning")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise InvalidModelReply("the text model's server answered without a chat completion") from None
    if isinstance(reason, str) and reason.lower() in CUT:
        return CutReply(text if isinstance(text, str) else "")
    if thought and not text:
        raise InvalidModelReply(
            "the text model answered with a thought only, without text; "
            "switch thinking off with models.text_parser.openai.extra_body"
        )
    if not isinstance(text, str):
        raise InvalidModelReply("the text model's server answered without text")
    return text
