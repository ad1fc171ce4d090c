"""A prompt as tokens: words, punctuation, lettering, and the places that name images."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from serve_app.entities.mentions.image_references import ImageReference, image_references
from serve_app.entities.mentions.quotes import lettering
from serve_app.entities.mentions.words import is_number
from serve_app.entities.words import Forms, Words, all_forms, split_words

Kind = Literal["word", "comma", "stop", "reference", "lettering"]
_TOKEN = re.compile(
    r"(?P<counted>[~\u2248]\s?\d{1,6}\b|\d{1,6}\+(?!\w)|\b\d{1,3}(?:,\d{3}){1,2}\b(?![.,]\d)|\d{1,4}\s?\u2013\s?\d{1,4}\b)"
    r"|(?P<measure>[$\u20ac\xa3#]\d[\d.,]*|\d[\d.,]*(?:[\"\u2033\u2032%\xb0\u20ac\xa3]))"
    r"|(?P<word>[^\W_]+(?:[-'\u2019./_][^\W_]+)*)(?:(?<=s)['\u2019](?!\w))?"
    r"|(?P<stop>[.;!?\n|])|(?P<comma>[,:()\u2013\u2014\-/&+])"
)
_POSSESSIVE = re.compile(r"'s?$|'s\b")


@dataclass(frozen=True)
class Token:
    """A piece of a prompt.

    Attributes:
        kind: what it is.
        text: in lower case, a word without its possessive ending.
        start, end: its place in the prompt.
        reference: the images that it names, where it does.
        owns: whether a word ends in a possessive: "girl's".
        is_number: whether it is a number or a range of two.
        parts, forms: a word split at its hyphens, and the singulars and plurals of each part.
    """

    kind: Kind
    text: str
    start: int
    end: int
    reference: ImageReference | None = None
    owns: bool = False
    is_number: bool = False
    parts: Words = ()
    forms: Forms = ()


def tokenise(prompt: str) -> list[Token]:
    """Split a prompt into tokens, from left to right; what a sign says is one token."""
    tokens: list[Token] = []
    position = 0
    for start, end in lettering(prompt):
        tokens += _between(prompt, position, start)
        tokens.append(Token("lettering", prompt[start:end], start, end))
        position = end
    return tokens + _between(prompt, position, len(prompt))


def _between(prompt: str, start: int, end: int) -> list[Token]:
    tokens: list[Token] = []
    position = start
    for found in image_references(prompt, start, end):
        tokens += _words(prompt, position, found.start)
        tokens.append(Token("reference", prompt[found.start : found.end].casefold(), found.start, found.end, found))
        position = found.end
    return tokens + _words(prompt, position, end)


def _words(prompt: str, start: int, end: int) -> list[Token]:
    tokens = []
    for match in _TOKEN.finditer(prompt, start, end):
        text = match.group().casefold().replace("\u2019", "'")
        if match["counted"]:  # ~15, 20+, 1,000, 3\u20135
            plain = re.sub(r"[,\s]", "", text).replace("\u2013", "-").replace("\u2248", "~")
            tokens.append(Token("word", plain, *match.span(), is_number=True))
        elif match["word"]:
            plain = _POSSESSIVE.sub("", text) if "'" in text else text
            parts = (plain,) if plain.isalpha() else split_words(plain)
            tokens.append(
                Token(
                    "word", plain, *match.span(), owns=plain != text, is_number=is_number(plain), parts=parts,
                    forms=all_forms(parts),
                )
            )  # fmt: skip
        elif match["measure"]:  # 24", 50%: a word, no number
            tokens.append(Token("word", text, *match.span()))
        elif match["stop"]:
            tokens.append(Token("stop", text, *match.span()))
        else:
            tokens.append(Token("word" if text in "&+" else "comma", "and" if text in "&+" else text, *match.span()))
    return tokens
