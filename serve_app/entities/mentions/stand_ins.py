"""Finds words that stand for the thing before them: "the dog from image 1 and the one from image 2"."""

from __future__ import annotations

from collections.abc import Sequence

from serve_app.entities.mentions.noun_phrases import Mention
from serve_app.entities.mentions.phrase import Phrase
from serve_app.entities.mentions.quantities import Quantity
from serve_app.entities.mentions.tokens import Token
from serve_app.entities.mentions.words import words_of

_SINGULAR = frozenset({"one", "that"})
_PLURAL = frozenset({"ones", "those"})
_LINKS = words_of("from in of on shown seen is are which that")
"""Words between "one" and its image: "the one that is shown in image 2"."""

_JOINTS = words_of("and plus , : with for by")
"""Words and marks right before "the one"."""

_BETWEEN = words_of("the same")
"""Words that belong to "one": "the same one"."""

LONGEST_LINK = 4
"""How many words after "one" are searched for its image."""

MAX_BETWEEN = 8
"""Largest number of tokens between the thing before and "the one"."""


def with_stand_ins(tokens: Sequence[Token], phrases: Sequence[Phrase]) -> list[Phrase]:
    """Add a phrase for each word such as "one" that stands for the thing before it and has its own image.

    Args:
        tokens: all tokens of the prompt.
        phrases: the mentions of the entities, in the order of the prompt.

    Returns:
        The given and the added phrases, in the order of the prompt.
    """
    added = []
    heads = {phrase.mention.head for phrase in phrases}
    passed = 0
    for place, token in enumerate(tokens):
        while passed < len(phrases) and phrases[passed].last < place:
            passed += 1
        if passed == 0 or place in heads or (token.text not in _SINGULAR and token.text not in _PLURAL):
            continue
        before = phrases[passed - 1]
        start = place
        while start > 0 and tokens[start - 1].text in _BETWEEN:
            start -= 1
        if _is_joined(tokens, before, start) and _names_an_image(tokens, place):
            value = 1 if token.text in _SINGULAR else None
            quantity = Quantity(value, False, True, start)
            if tokens[before.last + 1].text == ":":  # in "two cups: the one from image 1 and …", "one" adds no cup
                quantity = Quantity(None, True, True, start)
            added.append(Phrase(Mention(before.entity, place, place, place, place), quantity))
    return sorted([*phrases, *added], key=lambda phrase: phrase.mention.head)


def _is_joined(tokens: Sequence[Token], before: Phrase, start: int) -> bool:
    """Tell whether the thing before has its own image or a colon after it, and a word such as "and" follows."""
    between = tokens[before.last + 1 : min(start, before.last + 2 + MAX_BETWEEN)]
    return (
        0 < len(between) <= MAX_BETWEEN
        and between[-1].text in _JOINTS
        and (between[0].text == ":" or any(token.kind == "reference" for token in between))
        and not any(token.kind == "stop" for token in between)
    )


def _names_an_image(tokens: Sequence[Token], place: int) -> bool:
    following = tokens[place + 1 : place + 1 + LONGEST_LINK]
    for token in following:
        if token.kind == "reference":
            return token is not tokens[place + 1]
        if token.text not in _LINKS:
            return False
    return False
