"""Instructions that put one thing in the place of another, or change its look. Pure text.

"Replace the dog with a cat" excludes the dog; "change the car to red" asks for a red car.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from serve_app.entities.mentions.cues import is_negated
from serve_app.entities.mentions.items import BEFORE_NOUN, Item, Listed, item_at
from serve_app.entities.mentions.phrase import Phrase
from serve_app.entities.mentions.tokens import Token
from serve_app.entities.mentions.words import DEFINITE, INDEFINITE, LOOKS, PREPOSITIONS, words_of

EXCHANGING = words_of("replace replacing swap swapping exchange exchanging substitute substituting switch switching")
"""Verbs that take one thing away "with", "by" or "for" another."""

TURNING = words_of("turn turning transform transforming change changing convert converting morph make making")
"""Verbs that make one thing "into" or "to" another."""

EXCHANGED = words_of("replaced swapped exchanged substituted switched")
TURNED = words_of("turned transformed changed converted morphed made")
REMOVED = words_of("removed deleted erased eliminated omitted gone")
"""Participles after a thing: "the dog should be removed"."""

RECOLOURING = words_of("change turn make paint color colour recolor recolour dye tint repaint")
"""Verbs that change the look of a thing that stays."""

_WITH = frozenset({"with", "by", "for"})
_INTO = frozenset({"into", "to"})
_BEING = words_of("should must shall can be been being is are was were has have to needs need get gets completely all")
_AWAY = {
    **dict.fromkeys(("take", "taking", "clear", "move"), frozenset({"away"})),
    **dict.fromkeys(("cut", "crop", "edit", "photoshop", "paint"), frozenset({"out"})),
}
_PICTURES = words_of("image picture photo photograph scene drawing sketch painting view background it color colour")
_LINKS = frozenset({"to", "into", "in", "be", "look", "a", "an", "bright", "dark", "light", "deep", "pale", "vivid"})
_AFTER_LOOK = frozenset({"color", "colour", "one", "ones", "version", "instead"})
LONGEST_BETWEEN = 10


@dataclass(frozen=True)
class Recolouring:
    """A phrase whose thing shall look otherwise: "change the car to red" has the look "red"."""

    phrase: int
    look: str


def replaced(tokens: Sequence[Token], listed: Listed) -> Iterator[tuple[int, Item]]:
    """Yield what another thing takes the place of, and what is taken away: (token where that is said, item)."""
    for verb, token in enumerate(tokens):
        word = token.text
        if word not in EXCHANGING and word not in TURNING and word not in _AWAY:
            continue
        if is_negated(tokens, verb):
            continue
        item = item_at(tokens, listed, verb + 1)
        if item is not None and not _is_picture(tokens, item) and _gives_way(tokens, listed, word, item):
            yield verb, item
    for place, phrase in enumerate(listed.phrases):
        if _is_removed(tokens, listed, phrase):
            yield phrase.start, Item(place, phrase.start, phrase.mention.first, phrase.last + 1)


def recolourings(tokens: Sequence[Token], phrases: Sequence[Phrase]) -> list[Recolouring]:
    """Find the things whose look an instruction changes."""
    found = []
    for place, phrase in enumerate(phrases):
        verb = _verb_before(tokens, phrase, RECOLOURING)
        look = _look_after(tokens, phrase.last + 1) if verb is not None and not is_negated(tokens, verb) else None
        if look is not None:
            found.append(Recolouring(place, look))
    return found


def _gives_way(tokens: Sequence[Token], listed: Listed, verb: str, item: Item) -> bool:
    if verb in _AWAY and item.stop < len(tokens) and tokens[item.stop].text in _AWAY[verb]:
        return True
    if verb in EXCHANGING:
        return _exchanged(tokens, item.stop)
    return verb in TURNING and _turned(tokens, listed, verb, item)


def _exchanged(tokens: Sequence[Token], start: int) -> bool:
    """Tell whether "with", "by" or "for" follows in the same sentence: "the cat on the left with a dog"."""
    for place in range(start, min(start + LONGEST_BETWEEN, len(tokens) - 1)):
        if tokens[place].kind == "stop":
            return False
        if tokens[place].text in _WITH:
            return True
    return False


def _turned(tokens: Sequence[Token], listed: Listed, verb: str, item: Item) -> bool:
    """Tell whether another thing follows "into" or "to"; "turn the dog to the left" and "make it red" name none."""
    for place in range(item.stop, min(item.stop + LONGEST_BETWEEN, len(tokens) - 1)):
        token = tokens[place]
        if token.kind == "stop" or (verb in {"make", "making"} and token.kind != "reference" and token.text != "into"):
            return False
        if token.text in _INTO:
            break
    else:
        return False
    new = item_at(tokens, listed, place + 1)
    if new is None or _look_after(tokens, place + 1) is not None:
        return False
    if token.text == "into":
        return new.phrase is not None or tokens[place + 1].text in INDEFINITE
    if tokens[place + 1].text in DEFINITE:  # "to the sofa" is a direction, "to the sofa in image 2" a thing
        return new.phrase is not None and any(t.kind == "reference" for t in tokens[new.stop : new.stop + 3])
    return new.phrase is not None or tokens[place + 1].text in INDEFINITE


def _is_picture(tokens: Sequence[Token], item: Item) -> bool:
    return tokens[item.stop - 1].text in _PICTURES


def _is_removed(tokens: Sequence[Token], listed: Listed, phrase: Phrase) -> bool:
    """Tell whether a participle after a phrase takes its thing away: "the dog should be removed"."""
    place = phrase.last + 1
    while place < len(tokens) and (tokens[place].kind == "reference" or tokens[place].text in _BEING):
        place += 1
    if place >= len(tokens):
        return False
    word = tokens[place].text
    if word in EXCHANGED:
        return place + 2 < len(tokens) and tokens[place + 1].text in _WITH
    if word in TURNED:
        return (
            place + 2 < len(tokens)
            and tokens[place + 1].text == "into"
            and item_at(tokens, listed, place + 2) is not None
        )
    return word in REMOVED


def _verb_before(tokens: Sequence[Token], phrase: Phrase, verbs: frozenset[str]) -> int | None:
    """Return the verb whose object a phrase is: only determiners and "the color of" may stand between."""
    allowed = BEFORE_NOUN | {"color", "colour"}
    place = phrase.start - 1
    while place >= 0 and tokens[place].kind == "word" and tokens[place].text not in verbs:
        if tokens[place].text not in allowed and not tokens[place].is_number:
            return None
        place -= 1
    return place if place >= 0 and tokens[place].text in verbs else None


def _look_after(tokens: Sequence[Token], place: int) -> str | None:
    """Read "to red", "into a dark blue one" or "red" after a phrase; None where a noun follows."""
    while place < len(tokens) and tokens[place].kind == "reference":
        place += 1
    if place < len(tokens) and tokens[place].text == "from":  # "from blue to green"
        place += 1
        while place < len(tokens) and tokens[place].text in LOOKS:
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
