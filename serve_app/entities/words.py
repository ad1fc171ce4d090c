"""Splits English phrases into words, and guesses the singular of each word."""

from __future__ import annotations

import re
from collections.abc import Sequence

Words = tuple[str, ...]
Forms = tuple[frozenset[str], ...]

IRREGULAR = {
    "people": "person",
    "men": "man",
    "women": "woman",
    "children": "child",
    "feet": "foot",
    "teeth": "tooth",
    "geese": "goose",
    "mice": "mouse",
}

_WORD = re.compile(r"[^\W_]+(?:[./][^\W_]+)*")


def split_words(text: str) -> Words:
    """Split a phrase into lower-case words, without hyphens, possessive endings and a leading article.

    >>> split_words("The girl's black-and-white T-shirts")
    ('girl', 'black', 'and', 'white', 't', 'shirts')
    """
    plain = re.sub(r"['\u2019]s?\b", "", text.casefold())
    return without_article(tuple(_WORD.findall(plain)))


def without_article(words: Words) -> Words:
    """Leave out a leading article, unless it is the only word."""
    return words[1:] if len(words) > 1 and words[0] in {"a", "an", "the"} else words


def all_forms(words: Sequence[str]) -> Forms:
    """Return the forms of each word (see `forms_of`)."""
    return tuple(forms_of(word) for word in words)


def forms_of(word: str) -> frozenset[str]:
    """Return a word and its possible singulars.

    >>> sorted(forms_of("knives"))
    ['knif', 'knife', 'knive', 'knives']
    """
    forms = {word}
    if word in IRREGULAR:
        forms.add(IRREGULAR[word])
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 2:
        forms.add(word[:-1])
        if word.endswith("ies"):
            forms.add(word[:-3] + "y")
        elif word.endswith("ves"):
            forms |= {word[:-3] + "f", word[:-3] + "fe"}
        elif word.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
            forms.add(word[:-2])
    return frozenset(forms)
