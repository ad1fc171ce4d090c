"""Forms English plurals, for generated training data."""

from __future__ import annotations

from collections.abc import Mapping

VOWELS = "aeiou"


def plural(noun: str, irregular: Mapping[str, str]) -> str:
    """Return the plural of a singular noun. In a compound, the last word changes.

    Args:
        noun: one or several words.
        irregular: irregular plurals, of single words or of whole compounds.

    >>> plural("palm tree", {}), plural("cherry", {}), plural("red sheep", {"sheep": "sheep"})
    ('palm trees', 'cherries', 'red sheep')
    """
    if noun in irregular:
        return irregular[noun]
    *rest, last = noun.split(" ")
    return " ".join((*rest, irregular.get(last) or with_s(last)))


def with_s(word: str) -> str:
    """Add the ending "s" of a plural, or of a verb in the third person.

    >>> with_s("dog"), with_s("box"), with_s("carry"), with_s("play")
    ('dogs', 'boxes', 'carries', 'plays')
    """
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2:-1] not in VOWELS:
        return word[:-1] + "ies"
    return word + "s"
