"""A prompt as tokens: words, punctuation, and the places that name images."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from serve_app.entities.mentions.image_references import ImageReference, image_references

Kind = Literal["word", "comma", "stop", "reference"]
_TOKEN = re.compile(
    r"(?P<word>[^\W_]+(?:[-'\u2019./_][^\W_]+)*)|(?P<stop>[.;!?\n|])|(?P<comma>[,:()\u2013\u2014\-/&+])"
)


@dataclass(frozen=True)
class Token:
    """A piece of a prompt: `text` in lower case, its place in the prompt, and the reference where it is one."""

    kind: Kind
    text: str
    start: int
    end: int
    reference: ImageReference | None = None


def tokenise(prompt: str) -> list[Token]:
    """Split a prompt into tokens, from left to right."""
    tokens: list[Token] = []
    position = 0
    for found in image_references(prompt):
        tokens += _words(prompt, position, found.start)
        tokens.append(Token("reference", prompt[found.start : found.end].casefold(), found.start, found.end, found))
        position = found.end
    return tokens + _words(prompt, position, len(prompt))


def _words(prompt: str, start: int, end: int) -> list[Token]:
    tokens = []
    for match in _TOKEN.finditer(prompt, start, end):
        text = match.group().casefold()
        if match["word"]:
            plain = re.sub(r"['\u2019]s?$|['\u2019]s\b", "", text)
            tokens.append(Token("word", plain, *match.span()))
        elif match["stop"]:
            tokens.append(Token("stop", text, *match.span()))
        else:
            tokens.append(Token("word" if text in "&+" else "comma", "and" if text in "&+" else text, *match.span()))
    return tokens
