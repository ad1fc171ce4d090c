"""Phrases as text: written one way, told apart. Pure; knows no model and no wire format."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence

from serve_app.errors import InvalidRequest


def normalise_entities(entities: Sequence[str]) -> list[str]:
    """Tidy the entities that a caller names instead of having a prompt parsed.

    Args:
        entities: the phrases as given.

    Returns:
        The phrases in order, stripped, without repetitions (also by case, spacing or composition of letters); nothing
        is filtered. Empty for none.

    Raises:
        InvalidRequest: a phrase has nothing to see.
    """
    for index, entity in enumerate(entities):
        if all(unicodedata.category(c) in {"Cf", "Zs"} for c in tidy(entity)):
            raise InvalidRequest(f"entities[{index}]: must not be blank", f"entities[{index}]")
    return distinct((entity.strip() for entity in entities), tidy)


def tidy(phrase: str) -> str:
    """Write a phrase one way: composed letters, single spaces, no control characters, no half of a surrogate pair.

    >>> tidy("  red \\n sofa\\x00")
    'red sofa'
    """
    return spaced_once(unicodedata.normalize("NFC", phrase))


def spaced_once(text: str) -> str:
    """Put one space between words, and leave out control characters and halves of surrogate pairs."""
    return " ".join("".join(c for c in text if c.isspace() or unicodedata.category(c) not in {"Cc", "Cs"}).split())


def distinct(texts: Iterable[str], written: Callable[[str], str] = str) -> list[str]:
    """Leave out repetitions, also by case, and empty texts; `written` is the form in which texts are compared."""
    first_of: dict[str, str] = {}
    for text in texts:
        if text:
            first_of.setdefault(written(text).casefold(), text)
    return list(first_of.values())
