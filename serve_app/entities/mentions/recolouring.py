"""Finds instructions that change the look of a thing: "change the car to red" asks for a red car."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from serve_app.entities.mentions.cues import is_negated
from serve_app.entities.mentions.items import BEFORE_NOUN, next_item
from serve_app.entities.mentions.phrase import Phrase
from serve_app.entities.mentions.tokens import Token
from serve_app.entities.mentions.words import LOOKS, PREPOSITIONS, words_of

RECOLOURING = words_of("change turn make paint color colour recolor recolour dye tint repaint")
"""Verbs that change the look of a thing."""

_LINKS = words_of("should must shall to into in be look a an bright dark light deep pale vivid") - LOOKS
"""Words that may stand between a thing and its new look."""

_AFTER_LOOK = frozenset({"color", "colour", "one", "ones", "version", "instead"})
"""Words that may follow a look without being a noun of their own: "to red instead"."""


@dataclass(frozen=True)
class Recolouring:
    """The index of a phrase, and the new look of its thing: "red" in "change the car to red"."""

    phrase: int
    look: str


def recolourings(tokens: Sequence[Token], phrases: Sequence[Phrase]) -> list[Recolouring]:
    """Find the things whose look an instruction changes: "paint the fence and the gate white"."""
    recoloured = []
    index = 0
    while index < len(phrases):
        verb = _verb_before(tokens, phrases[index], RECOLOURING)
        if verb is not None and not is_negated(tokens, verb):
            series = _joined(tokens, phrases, index)
            recoloured += _looks_of(tokens, phrases, series)
            index = series[-1]
        elif _shall_be(tokens, phrases[index].last + 1):
            recoloured += _looks_of(tokens, phrases, [index])
        index += 1
    return recoloured


def _joined(tokens: Sequence[Token], phrases: Sequence[Phrase], first: int) -> list[int]:
    """Return the phrases that share a verb: both in "paint the cat black and the dog white"."""
    series = [first]
    for index in range(first + 1, len(phrases)):
        stop = phrases[index - 1].last + 1
        look = look_after(tokens, stop)
        joint = next_item(tokens, stop if look is None else look[1])
        if joint is None or joint[1] != phrases[index].start:
            break
        series.append(index)
    return series


def _looks_of(tokens: Sequence[Token], phrases: Sequence[Phrase], series: Sequence[int]) -> list[Recolouring]:
    """Give each phrase of a series the look after it; if it has none, the look of the next phrase that has one."""
    recoloured: list[Recolouring] = []
    waiting: list[int] = []
    for index in series:
        waiting.append(index)
        look = look_after(tokens, phrases[index].last + 1)
        if look is not None:
            recoloured += [Recolouring(each, look[0]) for each in waiting]
            waiting = []
    return recoloured


def _shall_be(tokens: Sequence[Token], place: int) -> bool:
    words = [token.text for token in tokens[place : place + 2]]
    return len(words) == 2 and words[0] in {"should", "must", "shall"} and words[1] == "be"


def look_after(tokens: Sequence[Token], place: int) -> tuple[str, int] | None:
    """Read "to red", "into a dark blue one" or "red" after a phrase.

    Returns:
        The look and the index of the token after it; None if there is no look, or if a noun follows it.
    """
    while place + 1 < len(tokens) and tokens[place].text in {"in", "of", "from"} and tokens[place + 1].reference:
        place += 2
    while place < len(tokens) and tokens[place].kind == "reference":
        place += 1
    if place < len(tokens) and tokens[place].text == "from":  # "from blue to green"
        place += 1
        while place < len(tokens) and tokens[place].text in LOOKS:
            place += 1
    while place < len(tokens) and tokens[place].text in _LINKS:
        place += 1
    looks = []
    while place < len(tokens) and tokens[place].text in LOOKS:
        looks.append(tokens[place].text)
        place += 1
    if not looks or (place < len(tokens) and tokens[place].kind == "word" and not _may_follow(tokens[place].text)):
        return None
    return " ".join(looks), place


def _may_follow(word: str) -> bool:
    return word in _AFTER_LOOK or word in PREPOSITIONS | {"and", "but"}


def _verb_before(tokens: Sequence[Token], phrase: Phrase, verbs: frozenset[str]) -> int | None:
    """Return the verb that has a phrase as its object. Only determiners and "the color of" may stand between them."""
    allowed = BEFORE_NOUN | {"color", "colour"}
    place = phrase.start - 1
    while place >= 0 and tokens[place].kind == "word" and tokens[place].text not in verbs:
        if tokens[place].text not in allowed and not tokens[place].is_number:
            return None
        place -= 1
    return place if place >= 0 and tokens[place].text in verbs else None
