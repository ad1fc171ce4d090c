"""Reads why a server that speaks OpenAI's chat API refuses a call. Each kind of server has its own words. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

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

_STATED_LENGTH = re.compile(r"(?:context|model)[ _](?:length|len|window|size)\D{0,20}(\d[\d,]*)(?![\w,])")

_REPLY_TOO_LONG = re.compile(
    r"\bmax\w*tokens\b\W{0,3}\d*\W{0,3}(?:cannot|can't|can not|must not|may not|should not) (?:be |exceed)"
)
"""Source: the words of vLLM for a reply that is longer than the model, whatever the prompt."""

_NOT_TAKEN = re.compile(
    r"unsupported|not supported|(?:does|do) not support|unknown|unrecogni[sz]ed|unexpected|extra_forbidden"
    r"|not permitted|not allowed|not accepted|deprecated|invalid (?:parameter|argument|field)|strictly positive"
    r"|only the default"
)

_NAMED = re.compile(
    r"""['"`\u2018\u201c](\w+)['"`\u2019\u201d]"""
    r"|\b(?:parameter|argument|field)(?:s|\(s\))?(?: supplied)?:? (\w+)|\b(\w+): Extra inputs"
)
"""How messages mark the name of a parameter, so that a word of a sentence is none."""

MASK = "***"
SHORTEST_SECRET = 4
SHORTEST_BEGINNING = 12
"""Characters of a secret, and of the beginning of one that was cut, that are taken out of a text."""

_KEY_HINT = "; check the API key"
_HINTS = {401: _KEY_HINT, 403: _KEY_HINT, 404: "; check the base URL and the model name"}


@dataclass(frozen=True)
class Refusal:
    """What a server's answer says.

    Attributes:
        status: of HTTP, 300 or more.
        text: the answer's words on one line, without what it repeats of the call.
        params: what the answer names in fields of their own as the parameter, or the place in the call.
    """

    status: int
    text: str
    params: tuple[str, ...] = ()

    def without(self, *secrets: str) -> Refusal:
        """Mask texts in what the server says: each as a whole, or as much of its beginning as the server repeats.

        Args:
            secrets: texts that were sent and tell nothing about the refusal. Shorter ones than SHORTEST_SECRET stay.
        """
        text = self.text
        for secret in secrets:
            spellings = _spellings(secret) if len(secret.strip()) >= SHORTEST_SECRET else ()
            for whole in spellings:
                text = text.replace(whole, MASK)
            beginnings = [_beginning(spelled, text) for spelled in spellings]
            for beginning in sorted(beginnings, key=len, reverse=True):  # the longest: others may be a part of it
                text = text.replace(beginning, MASK) if len(beginning) >= SHORTEST_BEGINNING else text
        return replace(self, text=text)

    def reason(self, *secrets: str) -> str:
        """Return the beginning of the text for a log; `secrets` are masked in it, see `without`."""
        return self.without(*secrets).text[:REASON_CHARS]

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
        return _TOO_LONG.search(text) is not None and not fills and not _REPLY_TOO_LONG.search(text)

    def parameter(self, sent: Collection[str]) -> str | None:
        """Return the parameter that the server complains about: the first of `sent` that it names, or None.

        For a message to the operator; `does_not_take` is stricter.
        """
        names = [*self.params, *re.findall(r"[A-Za-z_]+", self.text)]
        return next((name for name in names if name in sent), None)

    def does_not_take(self, sent: Collection[str]) -> str | None:
        """Return the parameter of `sent` that the server does not take at all or in its value, or None.

        Only one that the server names as a parameter, so that a sentence with the word in it names none.
        """
        if self.status not in {400, 422} or not _NOT_TAKEN.search(self.text.lower()):
            return None
        names = [*self.params, *(found[found.lastindex or 0] for found in _NAMED.finditer(self.text))]
        return next((name for name in names if name in sent), None)

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
        value = json.loads(body)
        words, params = [*_words(value, 0)], tuple(_params(value, 0))
    except (ValueError, RecursionError):
        words, params = [text], ()
    return Refusal(status, " ".join(" ".join(words).split()), params)


def _params(value: JsonValue, depth: int) -> Iterator[str]:
    """Yield what stands under `param`, as OpenAI writes it, and under `loc`, as FastAPI does."""
    if depth == MAX_DEPTH:
        return
    if isinstance(value, list):
        for item in value:
            yield from _params(item, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key in {"param", "loc"}:
                yield from (name for name in (item if isinstance(item, list) else [item]) if isinstance(name, str))
            elif key not in ECHOES:
                yield from _params(item, depth + 1)


def _spellings(secret: str) -> tuple[str, ...]:
    """Return the ways in which a server may write a text that it repeats, on one line."""
    written = [
        spelled
        for text in (secret.strip(), " ".join(secret.split()))
        for spelled in (text, *(quoted[1:-1] for quoted in (json.dumps(text), _unescaped_json(text), repr(text))))
    ]
    return tuple(dict.fromkeys(" ".join(spelled.split()) for spelled in written))


def _unescaped_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _beginning(secret: str, text: str) -> str:
    """Return the longest beginning of a secret that stands in a text: a server may cut what it repeats."""
    low, high = 0, len(secret)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if secret[:middle] in text else (low, middle - 1)
    return secret[:low]


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
