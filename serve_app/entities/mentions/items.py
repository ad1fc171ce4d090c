"""Reads the things that follow words such as "no" or "remove": entities, and noun phrases that no entity names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from serve_app.entities.mentions.phrase import Phrase
from serve_app.entities.mentions.tokens import Token
from serve_app.entities.mentions.words import (
    ADJECTIVES,
    CONJUNCTIONS,
    DEFINITE,
    INDEFINITE,
    MASS,
    NO_PARTICIPLES,
    PLURAL_MODIFIERS,
    PREPOSITIONS,
    VAGUE,
    VERBS,
    is_plural,
    words_of,
)

OTHERS = words_of("other others more additional extra further")
BEFORE_NOUN = DEFINITE | INDEFINITE | VAGUE | {"of", "any", "away", "out", "both", "single", "pair", "couple"}
"""Determiners and other words before the first word of a thing."""

_ENDS = PREPOSITIONS | VERBS | DEFINITE | INDEFINITE | CONJUNCTIONS | words_of("instead yet no without neither away")
"""Words that end a noun phrase on its right."""

_AFTER_NOUN = words_of(
    "anymore anywhere whatsoever today visible allowed whatever present left either though else anyway too now again "
    "needed altogether completely entirely around nearby ahead behind together alone apart"
)
"""Words at the end of a noun phrase that do not belong to it: "no dogs anymore"."""

_NO_THINGS = words_of(
    "doubt question exception exceptions problem problems reason effort end limit limits fear hesitation delay warning "
    "rest hurry sense chance wonder matter idea trouble difficulty difference success luck choice particular order "
    "change changes touching losing help longer avail purpose use mistake clue case way time sooner "
    "object objects thing things item items element elements stuff anything everything something nothing"
)
"""Nouns that do not name a visible thing: "no doubt", "without effort"."""

_ADVERBS = words_of("too very so quite really overly that this just even as")
"""First words of phrases that are not things: "not too bright"."""

MAX_WORDS = 5
"""A longer run of words is a sentence, not a noun phrase."""

LONGEST_LOOK_AHEAD = 10
"""How many words after a cue are examined."""


@dataclass(frozen=True)
class Item:
    """A thing that a prompt names.

    Attributes:
        phrase: its index in the list of phrases; None if no entity names it.
        start: index of its first token, with its determiner or number.
        first: index of its first token after determiners and numbers.
        stop: index of the token after its last one.
        is_bare: whether it has no determiner and no number, except "any".
    """

    phrase: int | None
    start: int
    first: int
    stop: int
    is_bare: bool = False


class Listed:
    """The mentions of the entities, found by their tokens."""

    def __init__(self, phrases: Sequence[Phrase]) -> None:
        self.phrases = phrases
        self._by_head = {phrase.mention.head: index for index, phrase in enumerate(phrases)}
        self._by_first = {phrase.mention.first: index for index, phrase in enumerate(phrases)}

    def within(self, tokens: Sequence[Token], first: int, stop: int) -> int | None:
        """Return the index of the phrase whose noun is the last token of a range, else the first whose noun is in it.

        An owner does not count: "remove the girl's hat" does not remove the girl.
        """
        if stop - 1 in self._by_head and stop > first:
            return self._by_head[stop - 1]
        inside = (self._by_head[place] for place in range(first, stop) if place in self._by_head)
        return next((index for index in inside if not tokens[self.phrases[index].mention.head].owns), None)

    def begun_at(self, first: int) -> int | None:
        """Return the index of the phrase that begins at a token; None if there is none."""
        return self._by_first.get(first)


def item_at(tokens: Sequence[Token], listed: Listed, place: int) -> Item | None:
    """Read the thing that is named at a token, with its article and number.

    Args:
        tokens: all tokens of the prompt.
        listed: the mentions of the entities.
        place: index of the first token.

    Returns:
        The thing; None if no noun phrase begins there.
    """
    first = place
    while first < len(tokens) and (tokens[first].text in BEFORE_NOUN or tokens[first].is_number):
        first += 1
    stop = _noun_phrase_stop(tokens, first)
    is_bare = all(token.text == "any" for token in tokens[place:first])
    phrase = listed.begun_at(first)
    if phrase is not None and tokens[listed.phrases[phrase].last].owns and listed.phrases[phrase].last + 1 < stop:
        phrase = None
    if phrase is None:
        phrase = listed.within(tokens, first, stop)
    if phrase is not None:
        return Item(phrase, place, first, listed.phrases[phrase].last + 1, is_bare)
    while any(token.owns for token in tokens[first : stop - 1]):  # "the girl's jeans" are jeans
        first += 1
    words = [token.text for token in tokens[first:stop]]
    return Item(None, place, first, stop, is_bare) if _names_a_thing(words) else None


def next_item(tokens: Sequence[Token], place: int) -> tuple[str, int] | None:
    """Return "and", "or", "nor" or "," if it joins a next thing at `place`, and the token after it; else None."""
    texts = [token.text for token in tokens[place : place + 2]]
    if len(texts) == 2 and texts[0] == "," and texts[1] in {"and", "or", "nor"}:
        return texts[1], place + 2
    return (texts[0], place + 1) if texts and texts[0] in {",", "and", "or", "nor"} else None


def _noun_phrase_stop(tokens: Sequence[Token], first: int) -> int:
    stop = first
    last = min(len(tokens), first + LONGEST_LOOK_AHEAD)
    while stop < last and tokens[stop].kind == "word" and tokens[stop].text not in _ENDS:
        stop += 1
        word = tokens[stop - 1].text
        if is_plural(word) and word not in PLURAL_MODIFIERS and not tokens[stop - 1].owns:
            break
    while stop - first > 1 and (tokens[stop - 1].text in _AFTER_NOUN or _is_participle(tokens[stop - 1].text)):
        stop -= 1
    return stop


def _is_participle(word: str) -> bool:
    return word.endswith(("ing", "ed")) and word not in NO_PARTICIPLES


def _names_a_thing(words: Sequence[str]) -> bool:
    if not words or len(words) > MAX_WORDS or words[0] in OTHERS | _ADVERBS:
        return False
    if len(words) == 1 and words[0].endswith("ing") and words[0] not in NO_PARTICIPLES:  # "without looking"
        return False
    return words[-1] not in _NO_THINGS and (words[-1] not in ADJECTIVES or words[-1] in MASS)
