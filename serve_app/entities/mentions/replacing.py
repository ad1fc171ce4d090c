"""Finds things that an instruction replaces or takes away: "replace the dog with a cat"."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from serve_app.entities.mentions.cues import is_instruction, is_negated
from serve_app.entities.mentions.items import Item, Listed, item_at
from serve_app.entities.mentions.noun_phrases import noun_phrase_start
from serve_app.entities.mentions.recolouring import look_after
from serve_app.entities.mentions.tokens import Token
from serve_app.entities.mentions.words import DEFINITE, INDEFINITE, words_of

EXCHANGING = words_of("replace replacing swap swapping exchange exchanging substitute substituting switch switching")
"""Verbs that replace one thing "with", "by" or "for" another."""

TURNING = words_of("turn turning transform transforming change changing convert converting morph make making")
"""Verbs that make one thing "into" or "to" another."""

EXCHANGED = words_of("replaced swapped exchanged substituted switched")
TURNED = words_of("turned transformed changed converted morphed made")
REMOVED = words_of("removed deleted erased eliminated omitted gone")
"""Participles after a thing: "the dog should be removed"."""

_WITH = frozenset({"with", "by", "for"})
"""Words before the new thing of an exchange."""

_INTO = frozenset({"into", "to"})
"""Words before the new thing that another turns into."""

_BEING = words_of("should must shall can be been being is are was were has have to needs need get gets completely all")
"""Words between a thing and a participle: "the dog should be removed"."""

_AWAY = {
    **dict.fromkeys(("take", "taking", "clear"), frozenset({"away"})),
    **dict.fromkeys(("cut", "crop", "edit", "photoshop", "paint"), frozenset({"out"})),
}
"""Verbs that take a thing away together with the word after it: "take the hat away", "cut the dog out"."""

_PICTURES = words_of("image picture photo photograph scene drawing sketch painting view background it color colour")
"""Things that are the picture itself or a part of it, so they are not replaced: "turn the photo into a sketch"."""

_AFTER_REMOVED = words_of("from and but completely entirely please in")
"""Words that may follow a participle such as "removed"."""

LONGEST_BETWEEN = 10
"""Largest number of tokens between the words of one instruction. It limits the work."""


def replaced(tokens: Sequence[Token], listed: Listed) -> Iterator[tuple[int, Item]]:
    """Yield each thing that is replaced or taken away, as (token at which the instruction begins, item)."""
    for verb, token in enumerate(tokens):
        word = token.text
        if word not in EXCHANGING and word not in TURNING and word not in _AWAY:
            continue
        if is_negated(tokens, verb) or not is_instruction(tokens, verb):
            continue
        item = item_at(tokens, listed, verb + 1)
        if item is not None and not _is_picture(tokens, item) and _goes(tokens, listed, word, item):
            yield verb, item
    for index, phrase in enumerate(listed.phrases):
        if _is_removed(tokens, listed, phrase.last + 1):
            yield phrase.start, Item(index, phrase.start, phrase.mention.first, phrase.last + 1)
    yield from _removed_unnamed(tokens, listed)


def _goes(tokens: Sequence[Token], listed: Listed, verb: str, item: Item) -> bool:
    """Tell whether the words after a verb's object say that the object is replaced or taken away."""
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
    """Tell whether another thing follows "into" or "to", unlike in "turn the dog to the left" or "make it red"."""
    for place in range(item.stop, min(item.stop + LONGEST_BETWEEN, len(tokens) - 1)):
        token = tokens[place]
        if token.kind == "stop" or (verb in {"make", "making"} and token.kind != "reference" and token.text != "into"):
            return False
        if token.text in _INTO:
            break
    else:
        return False
    new = item_at(tokens, listed, place + 1)
    if new is None or look_after(tokens, place + 1) is not None:
        return False
    if token.text == "into":
        return new.phrase is not None or tokens[place + 1].text in INDEFINITE
    if tokens[place + 1].text in DEFINITE:  # "to the sofa" is a direction; "to the sofa in image 2" names a thing
        return new.phrase is not None and any(t.kind == "reference" for t in tokens[new.stop : new.stop + 3])
    return new.phrase is not None or tokens[place + 1].text in INDEFINITE


def _is_picture(tokens: Sequence[Token], item: Item) -> bool:
    return tokens[item.stop - 1].text in _PICTURES


def _removed_unnamed(tokens: Sequence[Token], listed: Listed) -> Iterator[tuple[int, Item]]:
    """Yield replaced or removed things that no entity names: "the tables should be replaced by stalls"."""
    for place, token in enumerate(tokens):
        if token.text not in EXCHANGED and token.text not in TURNED and token.text not in REMOVED:
            continue
        stop = place
        while stop > 0 and place - stop < LONGEST_BETWEEN and tokens[stop - 1].text in _BEING:
            stop -= 1
        first = noun_phrase_start(tokens, stop - 1) if 0 < stop < place and tokens[stop - 1].kind == "word" else 0
        if first > 0 and tokens[first - 1].text in DEFINITE and _is_removed(tokens, listed, stop):
            item = item_at(tokens, listed, first - 1)
            if item is not None and item.phrase is None and not _is_picture(tokens, item):
                yield first - 1, item


def _is_removed(tokens: Sequence[Token], listed: Listed, place: int) -> bool:
    """Tell whether the words at a token say that the thing before them is taken away: "the dog should be removed"."""
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
    after = tokens[place + 1] if place + 1 < len(tokens) else None  # not "the man removed his hat"
    return word in REMOVED and (after is None or after.kind != "word" or after.text in _AFTER_REMOVED)
