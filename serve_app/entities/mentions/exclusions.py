"""What a prompt does not want to see, and what it wants changed: "no dogs", "remove the hat", "replace A with B"."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from serve_app.entities.mentions.noun_phrases import noun_phrase_start
from serve_app.entities.mentions.phrase import Phrase, only_between
from serve_app.entities.mentions.tokens import Token
from serve_app.entities.mentions.words import (
    ADJECTIVES,
    DEFINITE,
    INDEFINITE,
    LOOKS,
    PREPOSITIONS,
    VAGUE,
    VERBS,
    phrases_of,
    words_of,
)

LOCAL_CUES = phrases_of(
    "instead of, rather than, in place of, free of, devoid of, not any, not a, not an, not the, neither, nor, no, "
    "without, excluding, lacking, avoid, minus, do not include, do not add, do not show, don't include, don't add, "
    "don't show, don't draw, do not draw"
)
"""Words that exclude the noun phrase after them."""

REMOVING_CUES = phrases_of(
    "get rid of, take away, take out, cut out, crop out, edit out, remove, removing, delete, deleting, erase, "
    "erasing, exclude, eliminate, omit"
)
"""Verbs that exclude the noun phrases after them, also in a series: "remove the dog and the cat"."""

REPLACING = {
    **dict.fromkeys(("replace", "replacing", "swap", "exchange", "substitute", "switch"), ("with", "by", "for")),
    **dict.fromkeys(("turn", "transform", "change", "convert", "make", "morph"), ("into", "to")),
}
"""Verbs that put one thing in the place of another, and the prepositions before the new one."""

RECOLOURING = words_of("change turn make paint color colour recolor recolour dye tint repaint")
"""Verbs that change the look of a thing that stays."""

OTHERS = words_of("other others more additional extra further")
_BEFORE_NOUN = DEFINITE | INDEFINITE | VAGUE | {"of", "any", "away", "out", "both"}
_LINKS = frozenset({"to", "into", "in", "be", "look", "a", "an", "bright", "dark", "light", "deep", "pale", "vivid"})
_AFTER_LOOK = frozenset({"color", "colour", "one", "ones", "version", "instead"})
_AFTER_NOUN_PHRASE = PREPOSITIONS | VERBS | DEFINITE | INDEFINITE | {"and", "or", "nor", "but", "no", "not"}
LONGEST_BETWEEN = 10
LONGEST_NOUN_PHRASE = 8
"""Words of an excluded noun phrase that no entity names."""


@dataclass(frozen=True)
class Exclusion:
    """A phrase that must not be there; `start` is the first token of the words that say so.

    `removes` is true for verbs such as "remove": they win over earlier mentions of the same thing.
    """

    phrase: int
    start: int
    removes: bool


@dataclass(frozen=True)
class Recolouring:
    """A phrase whose thing shall look otherwise: "change the car to red" has the look "red"."""

    phrase: int
    look: str


@dataclass(frozen=True)
class LeftOut:
    """Tokens of an excluded noun phrase that no entity names, its cue included from `start` on."""

    start: int
    first: int
    stop: int


def exclusions(tokens: Sequence[Token], phrases: Sequence[Phrase]) -> list[Exclusion]:
    """Find the phrases that must not be there, in order."""
    found: dict[int, Exclusion] = {}
    for start, stop, removes in _cues(tokens):
        governed = _governed(tokens, phrases, stop)
        if governed is not None:
            for place in (governed, *_series(tokens, phrases, governed, removes)):
                begin = start if place == governed else phrases[place].start
                found.setdefault(place, Exclusion(place, begin, removes))
    for place, start in _replaced(tokens, phrases):
        found.setdefault(place, Exclusion(place, start, True))
    return [found[place] for place in sorted(found)]


def only_these(tokens: Sequence[Token], phrases: Sequence[Phrase]) -> set[int]:
    """Find phrases such as "no other dogs": they make the number of an earlier mention exact."""
    return {
        place
        for place, phrase in enumerate(phrases)
        if any(
            tokens[before].text == "no" and only_between(tokens, before + 1, phrase.mention.head, OTHERS | ADJECTIVES)
            and any(token.text in OTHERS for token in tokens[before + 1 : phrase.mention.head])
            for before in range(max(0, phrase.mention.first - 3), phrase.mention.head)
        )
    }  # fmt: skip


def recolourings(tokens: Sequence[Token], phrases: Sequence[Phrase]) -> list[Recolouring]:
    """Find the things whose look an instruction changes."""
    found = []
    for place, phrase in enumerate(phrases):
        verb = _verb_before(tokens, phrase, RECOLOURING)
        look = _look_after(tokens, phrase.last + 1) if verb is not None else None
        if look is not None:
            found.append(Recolouring(place, look))
    return found


def left_out(tokens: Sequence[Token], phrases: Sequence[Phrase]) -> Iterator[LeftOut]:
    """Find excluded noun phrases that no entity names: the words after a cue, up to the end of the noun phrase."""
    for start, stop, _ in _cues(tokens):
        if _governed(tokens, phrases, stop) is not None:
            continue
        first = stop
        while first < len(tokens) and tokens[first].text in _BEFORE_NOUN:
            first += 1
        longest = tokens[first : first + LONGEST_NOUN_PHRASE]
        end = first + next(
            (place for place, token in enumerate(longest) if token.kind != "word" or token.text in _AFTER_NOUN_PHRASE),
            len(longest),
        )
        if first < end and not any(
            word.text in OTHERS or word.text.endswith("ing") for word in tokens[first : first + 1]
        ):
            yield LeftOut(start, first, end)


def _cues(tokens: Sequence[Token]) -> Iterator[tuple[int, int, bool]]:
    """Yield each cue as (first token, token after it, whether it is a verb that removes)."""
    place = 0
    while place < len(tokens):
        for cues, removes in ((LOCAL_CUES, False), (REMOVING_CUES, True)):
            length = next((len(cue) for cue in cues if _says(tokens, place, cue)), 0)
            if length:
                yield place, place + length, removes
                place += length - 1
                break
        place += 1


def _says(tokens: Sequence[Token], place: int, words: Sequence[str]) -> bool:
    return [token.text for token in tokens[place : place + len(words)]] == list(words)


def _governed(tokens: Sequence[Token], phrases: Sequence[Phrase], stop: int) -> int | None:
    """Return the phrase that begins right after a cue, determiners aside."""
    for place, phrase in enumerate(phrases):
        begin = noun_phrase_start(tokens, phrase.mention.head)
        if phrase.mention.head >= stop and only_between(tokens, stop, max(begin, stop), _BEFORE_NOUN):
            return place if phrase.mention.first >= stop or begin <= stop else None
        if phrase.mention.head >= stop:
            return None
    return None


def _series(tokens: Sequence[Token], phrases: Sequence[Phrase], first: int, removes: bool) -> list[int]:
    """Return the phrases that continue an excluded one: "dogs, cats or birds", "the dog and the cat"."""
    joined = []
    for place in range(first + 1, len(phrases)):
        between = [token.text for token in tokens[phrases[place - 1].last + 1 : phrases[place].start]]
        if between not in (["and"], ["or"], ["nor"], [","], [",", "and"], [",", "or"], [",", "nor"]):
            break
        joined.append((place, between))
    if removes:
        return [place for place, _ in joined]
    ends = [i for i, (_, between) in enumerate(joined) if between[-1] in {"or", "nor"}]
    kept = joined[: ends[-1] + 1] if ends else []
    if not kept and joined and joined[0][1] == ["and"] and _is_bare(phrases[joined[0][0]]) and _is_bare(phrases[first]):
        kept = joined[:1]
    return [place for place, _ in kept]


def _is_bare(phrase: Phrase) -> bool:
    return phrase.start == phrase.mention.first


def _replaced(tokens: Sequence[Token], phrases: Sequence[Phrase]) -> Iterator[tuple[int, int]]:
    """Yield (phrase, verb) of what another phrase takes the place of."""
    for place, phrase in enumerate(phrases):
        verb = _verb_before(tokens, phrase, frozenset(REPLACING))
        if verb is None:
            continue
        for new in phrases[place + 1 :]:
            between = [token.text for token in tokens[phrase.last + 1 : new.start]]
            if len(between) > LONGEST_BETWEEN or any(token.kind == "stop" for token in tokens[phrase.last : new.start]):
                break
            if between and between[-1] in REPLACING[tokens[verb].text]:
                yield place, verb
                break


def _verb_before(tokens: Sequence[Token], phrase: Phrase, verbs: frozenset[str]) -> int | None:
    """Return the verb whose object a phrase is: only determiners and "the color of" may stand between."""
    allowed = _BEFORE_NOUN | {"color", "colour"}
    place = phrase.start - 1
    while place >= 0 and tokens[place].kind == "word" and tokens[place].text not in verbs:
        if tokens[place].text not in allowed:
            return None
        place -= 1
    return place if place >= 0 and tokens[place].text in verbs else None


def _look_after(tokens: Sequence[Token], place: int) -> str | None:
    """Read "to red", "into a dark blue one" or "red" after a phrase; None where a noun follows."""
    while place < len(tokens) and tokens[place].kind == "reference":
        place += 1
    while place < len(tokens) and tokens[place].text in _LINKS - LOOKS:
        place += 1
    looks = []
    while place < len(tokens) and tokens[place].text in LOOKS:
        looks.append(tokens[place].text)
        place += 1
    if not looks or (place < len(tokens) and tokens[place].kind == "word" and not _may_follow(tokens[place].text)):
        return None
    return " ".join(looks)


def _may_follow(word: str) -> bool:
    return word in _AFTER_LOOK or word in PREPOSITIONS | {"and", "but"}
