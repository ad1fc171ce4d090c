"""Reads why a server with OpenAI's chat API refuses a call. Each kind of server uses its own words. Pure functions."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from pydantic import JsonValue

REASON_CHARS = 300
"""Characters of the server's text that are logged."""

MAX_DEPTH = 8
"""Levels of nested JSON that are read."""

ECHOES = frozenset({"input", "ctx", "url"})
"""Keys under which servers repeat parts of the request."""

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
"""Matches messages for a prompt that is too long. Source: the messages of OpenAI, Azure, vLLM, SGLang, llama.cpp, TGI,
Ollama, LM Studio, Mistral, Groq, TensorRT-LLM, DashScope and Anthropic."""

_STATED_LENGTH = re.compile(r"(?:context|model)[ _](?:length|len|window|size)\D{0,20}(\d[\d,]*)(?![\w,])")

_REPLY_TOO_LONG = re.compile(
    r"\bmax\w*tokens\b\W{0,3}\d*\W{0,3}(?:cannot|can't|can not|must not|may not|should not) (?:be |exceed)"
)
"""Matches messages that say that the reply limit alone exceeds the model's context length. Source: vLLM."""

_NOT_TAKEN = re.compile(
    r"unsupported|not supported|(?:does|do) not support|unknown|unrecogni[sz]ed|unexpected|extra_forbidden"
    r"|not permitted|not allowed|not accepted|deprecated|invalid (?:parameter|argument|field)|strictly positive"
    r"|only the default"
)

_NAMED = re.compile(
    r"""['"`\u2018\u201c](\w+)['"`\u2019\u201d]"""
    r"|\b(?:parameter|argument|field)(?:s|\(s\))?(?: supplied)?:? (\w+)|\b(\w+): Extra inputs"
)
"""Matches a parameter's name where the message marks it as one, so that ordinary words do not match."""

MASK = "***"
SHORTEST_SECRET = 4
SHORTEST_BEGINNING = 12
"""Fewest characters that are masked: of a whole secret, and of a secret's beginning if the server cut the rest."""

_KEY_HINT = "; check the API key"
_HINTS = {401: _KEY_HINT, 403: _KEY_HINT, 404: "; check the base URL and the model name"}


@dataclass(frozen=True)
class Refusal:
    """A server's answer that refuses a call.

    Attributes:
        status: HTTP status, 300 or more.
        text: all texts of the answer on one line, without the fields that repeat the request.
        params: the parameters, or places in the request, that the answer names in fields of their own.
    """

    status: int
    text: str
    params: tuple[str, ...] = ()

    def without(self, *secrets: str) -> Refusal:
        """Return the refusal with secrets masked in its text.

        A secret is masked as a whole, or as much of its beginning as the server repeats.

        Args:
            *secrets: texts of the request, such as the key and the prompt. Texts shorter than SHORTEST_SECRET stay.

        >>> Refusal(400, "cannot read 'my long secret pro...'").without("my long secret prompt").text
        "cannot read '***...'"
        """
        text = self.text
        for secret in secrets:
            spellings = _spellings(secret) if len(secret.strip()) >= SHORTEST_SECRET else ()
            for whole in spellings:
                text = text.replace(whole, MASK)
            beginnings = [_beginning(spelled, text) for spelled in spellings]
            for beginning in sorted(beginnings, key=len, reverse=True):  # the longest first: it may contain others
                text = text.replace(beginning, MASK) if len(beginning) >= SHORTEST_BEGINNING else text
        return replace(self, text=text)

    def reason(self, *secrets: str) -> str:
        """Return the first REASON_CHARS characters of the text, for the log, with `secrets` masked as in `without`."""
        return self.without(*secrets).text[:REASON_CHARS]

    def says_too_long(self, reply_tokens: int) -> bool:
        """Tell whether the server refuses the call because the prompt is too long.

        Args:
            reply_tokens: the reply limit that was sent. If it alone fills the context length that the message states,
                the prompt is not the reason.
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
        """Return the first parameter that the answer mentions, or None. For messages; `does_not_take` is stricter.

        Args:
            sent: names of the parameters that were sent.
        """
        names = [*self.params, *re.findall(r"[A-Za-z_]+", self.text)]
        return next((name for name in names if name in sent), None)

    def does_not_take(self, sent: Collection[str]) -> str | None:
        """Return the parameter whose name or value the server does not accept; None if the answer marks none.

        The answer must mark the name as a parameter. A sentence that merely contains the word does not count.

        Args:
            sent: names of the parameters that were sent.
        """
        if self.status not in {400, 422} or not _NOT_TAKEN.search(self.text.lower()):
            return None
        names = [*self.params, *(found[found.lastindex or 0] for found in _NAMED.finditer(self.text))]
        return next((name for name in names if name in sent), None)

    @property
    def hint(self) -> str:
        """What the operator can check, as the end of a message; empty for most statuses."""
        return _HINTS.get(self.status, "")


def read_refusal(status: int, body: bytes) -> Refusal:
    """Read an answer that is not a success.

    Args:
        status: HTTP status.
        body: JSON of any shape, or any other text, such as a proxy's error page.
    """
    text = body[: 64 * 1024].decode("utf-8", "replace")
    try:
        value = json.loads(body)
        words, params = [*_words(value, 0)], tuple(_params(value, 0))
    except (ValueError, RecursionError):
        words, params = [text], ()
    return Refusal(status, " ".join(" ".join(words).split()), params)


def _params(value: JsonValue, depth: int) -> Iterator[str]:
    """Yield the texts under `param`, which OpenAI writes, and under `loc`, which FastAPI writes."""
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
    """Return the ways in which a server may write a text that it repeats: as it is, as JSON, or as Python's repr."""
    written = [
        spelled
        for text in (secret.strip(), " ".join(secret.split()))
        for spelled in (text, *(quoted[1:-1] for quoted in (json.dumps(text), _unescaped_json(text), repr(text))))
    ]
    return tuple(dict.fromkeys(" ".join(spelled.split()) for spelled in written))


def _unescaped_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _beginning(secret: str, text: str) -> str:
    """Return the longest beginning of a secret that the text contains, because a server may cut what it repeats."""
    low, high = 0, len(secret)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if secret[:middle] in text else (low, middle - 1)
    return secret[:low]


def _words(value: JsonValue, depth: int) -> Iterator[str]:
    """Yield the texts of a JSON value, without those under a key of ECHOES."""
    if isinstance(value, str):
        yield value
    elif depth < MAX_DEPTH and isinstance(value, list):
        for item in value:
            yield from _words(item, depth + 1)
    elif depth < MAX_DEPTH and isinstance(value, dict):
        for key, item in value.items():
            if key not in ECHOES:
                yield from _words(item, depth + 1)
