"""Splits a prompt into tokens: words, punctuation, lettering, and references to images."""

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
        kind: the kind of token.
        text: its text in lower case, without a possessive ending; lettering keeps its case.
        start: index of its first character in the prompt.
        end: index after its last character.
        reference: the images that a reference names; None for other kinds.
        owns: whether it is a word with a possessive ending: "girl's".
        is_number: whether it is a number or a range of numbers: "2-3".
        parts: a word split at its hyphens.
        forms: the forms of each part (see `forms_of`).
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
    """Split a prompt into tokens from left to right. A piece of lettering is one token, as is a reference to images.

    >>> [(token.text, token.kind) for token in tokenise("Two dogs, image 1")]
    [('two', 'word'), ('dogs', 'word'), (',', 'comma'), ('image 1', 'reference')]
    """
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
    for each in image_references(prompt, start, end):
        tokens += _words(prompt, position, each.start)
        tokens.append(Token("reference", prompt[each.start : each.end].casefold(), each.start, each.end, each))
        position = each.end
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
        elif match["measure"]:  # 24" and 50% do not count things
            tokens.append(Token("word", text, *match.span()))
        elif match["stop"]:
            tokens.append(Token("stop", text, *match.span()))
        else:
            tokens.append(Token("word" if text in "&+" else "comma", "and" if text in "&+" else text, *match.span()))
    return tokens
