"""Finds the bare noun of a phrase by leaving out its leading adjectives ("blue sofa" -> "sofa")."""

from __future__ import annotations

from serve_app.entities.mentions.words import ADJECTIVE_ENDINGS, ADJECTIVES, COMPOUNDS, TWO_WORD_ADJECTIVES, words_of
from serve_app.entities.words import all_forms

_ADVERBS = words_of("very quite rather extra super almost more most")
LONGEST_NO_ADVERB = 4
"""Words in "ly" of at most this length, such as "ugly" and "fly", are not adverbs; "brightly" is one."""
_COMPOUNDS_BY_FIRST: dict[str, list[tuple[str, ...]]] = {}
for _compound in sorted(COMPOUNDS):
    _COMPOUNDS_BY_FIRST.setdefault(_compound[0], []).append(_compound)
LONGEST_COMPOUND = max(len(compound) for compound in COMPOUNDS)


def bare_noun(phrase: str) -> str | None:
    """Leave out the leading adjectives of colour, material, size, age, pattern and state.

    Args:
        phrase: an entity, such as "large blue sofa".

    Returns:
        The phrase without them. None if it has no such adjectives, or if nothing would be left. Compounds such as "hot
        dog" stay whole.

    >>> bare_noun("large blue sofa"), bare_noun("black and white cat"), bare_noun("hot dog"), bare_noun("glass of wine")
    ('sofa', 'cat', None, None)
    """
    words = phrase.split()
    plain = [word.strip(",").casefold() for word in words]
    start = 0
    while start < len(words) - 1 and not _is_compound(plain[start : start + LONGEST_COMPOUND]):
        step = _adjective_length(plain[start : start + 4])
        if step == 0 or start + step >= len(words) or plain[start + step] in {"of", "with", "in", "on"}:
            break
        start += step
    return " ".join(words[start:]) if start else None


def _adjective_length(words: list[str]) -> int:
    """Return how many words the leading adjective has: 3 for "black and white", 2 for "sky blue", 0 if none leads."""
    if tuple(words[:2]) in TWO_WORD_ADJECTIVES:
        return 2
    if len(words) > 1 and _is_adverb(words[0]) and _is_adjective(words[1]):
        return 2
    if not _is_adjective(words[0]):
        return 0
    if len(words) > 3 and words[1] in {"and", "or", "but"} and _is_adjective(words[2]):
        return 3
    return 1


def _is_adverb(word: str) -> bool:
    return word in _ADVERBS or (word.endswith("ly") and len(word) > LONGEST_NO_ADVERB)


def _is_adjective(word: str) -> bool:
    parts = [part for part in word.split("-") if part != "and"]
    return word in ADJECTIVES or (
        len(parts) > 0
        and (all(part in ADJECTIVES for part in parts) or (len(parts) > 1 and parts[-1] in ADJECTIVE_ENDINGS))
    )


def _is_compound(words: list[str]) -> bool:
    """Tell whether the words begin with a compound, in the singular or plural."""
    forms = all_forms(words)
    return any(
        len(compound) <= len(words) and all(word in form for word, form in zip(compound, forms, strict=False))
        for first in forms[0]
        for compound in _COMPOUNDS_BY_FIRST.get(first, ())
    )
