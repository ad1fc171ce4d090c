"""Phrases as text: written one way, told apart. Pure; knows no model and no wire format."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

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
    return distinct(entity.strip() for entity in entities)


def entity_key(phrase: str) -> str:
    """Return what all spellings of one entity have in common: case, spacing and composition of letters do not count.

    The one definition of "the same entity": repetitions are found by it, and so are the entities of thresholds.

    >>> entity_key("Red  SOFA") == entity_key("red sofa")
    True
    """
    # Source: canonical caseless matching, Unicode Standard, section 3.13, D145.
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", tidy(phrase)).casefold())


def tidy(phrase: str) -> str:
    """Write a phrase one way: composed letters, single spaces, no control characters, no half of a surrogate pair.

    >>> tidy("  red \\n sofa\\x00")
    'red sofa'
    """
    return spaced_once(unicodedata.normalize("NFC", phrase))


def spaced_once(text: str) -> str:
    """Put one space between words, and leave out control characters and halves of surrogate pairs."""
    if not text.isprintable():  # it may hold some; looking at every character takes ten times as long
        text = "".join(c for c in text if c.isspace() or unicodedata.category(c) not in {"Cc", "Cs"})
    return " ".join(text.split())


def distinct(texts: Iterable[str]) -> list[str]:
    """Leave out empty texts, and all but the first of those that name one entity (see `entity_key`)."""
    first_of: dict[str, str] = {}
    for text in texts:
        if text:
            first_of.setdefault(entity_key(text), text)
    return list(first_of.values())
