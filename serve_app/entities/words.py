"""English words as the entity filter compares them: in lower case, and in any number. Pure."""

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
    """Split a phrase into words, in lower case; hyphens and possessive endings vanish, so does a leading article."""
    plain = re.sub(r"['\u2019]s?\b", "", text.casefold())
    return without_article(tuple(_WORD.findall(plain)))


def without_article(words: Words) -> Words:
    """Leave out an article at the beginning, unless nothing else is there."""
    return words[1:] if len(words) > 1 and words[0] in {"a", "an", "the"} else words


def all_forms(words: Sequence[str]) -> Forms:
    """Return, for each word, itself and what its singular may be."""
    return tuple(forms_of(word) for word in words)


def forms_of(word: str) -> frozenset[str]:
    """Return a word and what its singular may be."""
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
