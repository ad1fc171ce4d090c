"""Tidies lists of phrases: refuses blank ones, leaves out repetitions."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from serve_app.errors import InvalidRequest
from serve_app.schemas.phrase_key import phrase_key, tidy


def normalise_entities(entities: Sequence[str]) -> list[str]:
    """Tidy the entities that a caller names, so that the prompt need not be parsed.

    Args:
        entities: the phrases as given.

    Returns:
        The phrases in order, stripped, without repetitions (see `phrase_key`). The entity filter is not applied. Empty
        if none are given.

    Raises:
        InvalidRequest: a phrase has no visible character.
    """
    for index, entity in enumerate(entities):
        if all(unicodedata.category(c) in {"Cf", "Zs"} for c in tidy(entity)):
            raise InvalidRequest(f"entities[{index}]: must not be blank", f"entities[{index}]")
    return distinct(entity.strip() for entity in entities)


def distinct(phrases: Iterable[str]) -> list[str]:
    """Leave out empty phrases and repetitions; of phrases with the same `phrase_key`, the first stays.

    >>> distinct(["Red sofa", "", "red  sofa", "dog"])
    ['Red sofa', 'dog']
    """
    first_of: dict[str, str] = {}
    for phrase in phrases:
        if phrase:
            first_of.setdefault(phrase_key(phrase), phrase)
    return list(first_of.values())
