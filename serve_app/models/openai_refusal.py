"""Reads why a server that speaks OpenAI's chat API refuses a call. Each kind of server has its own words. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from pydantic import JsonValue

REASON_CHARS = 300
MAX_DEPTH = 8

ECHOES = frozenset({"input", "ctx", "url"})
"""Keys under which servers repeat what they were sent."""

_TOO_LONG = re.compile(
    r"context_length_exceeded|string_above_max_length|exceed_context_size|prompt_too_long|input_too_long"
    r"|(?:maximum|max|model'?s|available)\s+(?:allowed\s+)?context"
    r"|maximum model length|max_model_len|max_seq_len|context length of only"
    r"|exceed\w*\b.{0,60}\b(?:context|maximum (?:allowed |input |prompt )?(?:length|number of tokens|tokens))"
    r"|(?:prompt|input) length\b.{0,80}\bexceed"
    r"|(?:prompt|inputs?|messages?|request)\b[^.]{0,60}\btoo (?:long|large)"
    r"|too many (?:input |prompt )?tokens"
    r"|longer than the (?:model|max|context)"
    r"|inputs?\W{0,2} must have less than|inputs?\W{0,2} tokens \+ .{0,20}must be"
    r"|reduce the length of|range of input length"
)
"""Source: the words of OpenAI, Azure, vLLM, SGLang, llama.cpp, TGI, Ollama, LM Studio, Mistral, Groq, TensorRT-LLM,
DashScope and Anthropic for a prompt that is too long."""

_STATED_LENGTH = re.compile(r"(?:context|model) (?:length|window|size)\D{0,20}(\d[\d,]*)(?![\w,])")

_NOT_TAKEN = re.compile(
    r"unsupported|not supported|(?:does|do) not support|unknown|unrecogni[sz]ed|unexpected|extra_forbidden"
    r"|not permitted|not allowed|not accepted|deprecated|invalid (?:parameter|argument|field)|strictly positive"
    r"|only the default"
)

_KEY_HINT = "; check the API key"
_HINTS = {401: _KEY_HINT, 403: _KEY_HINT, 404: "; check the base URL and the model name"}


@dataclass(frozen=True)
class Refusal:
    """What a server's answer says.

    Attributes:
        status: of HTTP, 300 or more.
        text: the answer's words on one line, without what it repeats of the call.
    """

    status: int
    text: str

    def reason(self, *secrets: str) -> str:
        """Return the beginning of the text for a log; `secrets` of four characters and more are masked in it."""
        text = self.text
        for secret in secrets:
            if len(secret.strip()) >= 4:
                for spelled in (secret, " ".join(secret.split()), json.dumps(secret)[1:-1], repr(secret)[1:-1]):
                    text = text.replace(spelled, "***")
        return text[:REASON_CHARS]

    def says_too_long(self, reply_tokens: int) -> bool:
        """Tell whether the prompt is too long for the model.

        Args:
            reply_tokens: how long a reply was asked for. Where that alone fills the model, no prompt is to blame.
        """
        if self.status == 413:
            return True
        if self.status in {401, 403, 404, 429}:
            return False
        text = self.text.lower()
        stated = _STATED_LENGTH.search(text)
        fills = stated is not None and int(stated.group(1).replace(",", "")) <= reply_tokens
        return _TOO_LONG.search(text) is not None and not fills

    def parameter(self, sent: Collection[str]) -> str | None:
        """Return the parameter that the server complains about: the first of `sent` that it names, or None."""
        names = re.findall(r"[A-Za-z_]+", self.text)
        return next((name for name in names if name in sent), None)

    def does_not_take(self, sent: Collection[str]) -> str | None:
        """Return the parameter of `sent` that the server does not take at all or in its value, or None."""
        if self.status not in {400, 422} or not _NOT_TAKEN.search(self.text.lower()):
            return None
        return self.parameter(sent)

    @property
    def hint(self) -> str:
        """What the operator can check, as the end of a message."""
        return _HINTS.get(self.status, "")


def read_refusal(status: int, body: bytes) -> Refusal:
    """Read an answer that is not a success.

    Args:
        status: of HTTP.
        body: JSON of any shape, or whatever a proxy wrote.
    """
    text = body[: 64 * 1024].decode("utf-8", "replace")
    try:
        words = [*_words(json.loads(body), 0)]
    except (ValueError, RecursionError):
        words = [text]
    return Refusal(status, " ".join(" ".join(words).split()))


def _words(value: JsonValue, depth: int) -> Iterator[str]:
    """Yield the texts of a JSON value, without what the server repeats."""
    if isinstance(value, str):
        yield value
    elif depth < MAX_DEPTH and isinstance(value, list):
        for item in value:
            yield from _words(item, depth + 1)
    elif depth < MAX_DEPTH and isinstance(value, dict):
        for key, item in value.items():
            if key not in ECHOES:
                yield from _words(item, depth + 1)
