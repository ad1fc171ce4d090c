"""Finds where a prompt mentions its entities. Pure text.

A mention belongs to the entity that shares most words with it. If "red sofa" is an entity and "sofa" is not, "the sofa"
is a mention of "red sofa"; "the blue sofa" is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from serve_app.entities.mentions.tokens import Token
from serve_app.entities.mentions.words import (
    ADJECTIVES,
    CONJUNCTIONS,
    DEFINITE,
    INDEFINITE,
    LOOKS,
    NO_PARTICIPLES,
    NUMBERS,
    PLURAL_MODIFIERS,
    PREPOSITIONS,
    SETS,
    VAGUE,
    VERBS,
    is_plural,
    words_of,
)
from serve_app.entities.words import Words, all_forms, forms_of, split_words

MOST_MODIFIERS = 8
"""How many words before a head can belong to its noun phrase."""

MOST_CANDIDATES = 1600
"""How many nouns are examined over all entities: 50 for each of 32 entities. This bounds the work."""

FEWEST_CANDIDATES = 20
"""How many nouns may be examined for each entity, whatever the number of entities."""

_BOUNDARIES = (
    PREPOSITIONS | VERBS | CONJUNCTIONS | DEFINITE | INDEFINITE | VAGUE | NUMBERS.keys() | SETS.keys()
) | words_of("no without single both dozen exactly precisely minus neither pairs couple other")


_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Mention:
    """A noun phrase of a prompt that names an entity.

    Attributes:
        entity: index of the entity.
        first: token of the first modifier.
        head: token of the noun: "cup" in "cup of espresso".
        last: token of the last word: "espresso" in "cup of espresso".
        sure: first token that surely belongs to the phrase, as a word of the entity or an adjective. In "men unload
            crates", `first` is the verb "unload", because it could be a modifier; `sure` is "crates".
    """

    entity: int
    first: int
    head: int
    last: int
    sure: int


@dataclass(slots=True)
class _Candidate:
    mention: Mention
    shared: int
    missing: int
    is_definite: bool
    conflicts: bool
    is_same_word: bool


def find_mentions(tokens: Sequence[Token], entities: Sequence[str]) -> list[Mention]:
    """Find the mentions of all entities.

    Args:
        tokens: all tokens of the prompt.
        entities: the phrases.

    Returns:
        The mentions in the order of the prompt, each with another head. An entity can have several, or none.
    """
    places = _places_of_nouns(tokens)
    most = max(FEWEST_CANDIDATES, MOST_CANDIDATES // max(1, len(entities)))
    found: list[_Candidate] = []
    for index, entity in enumerate(entities):
        found += _candidates(tokens, places, index, entity, most)
    whole = {candidate.mention.entity for candidate in found if candidate.missing == 0}
    kept = [
        candidate
        for candidate in found
        if not candidate.missing
        or (not candidate.conflicts and (candidate.is_definite or candidate.mention.entity not in whole))
    ]
    kept.sort(key=lambda each: (-each.shared, each.missing, not each.is_same_word, each.mention.head))
    chosen: list[Mention] = []
    used: set[int] = set()
    for candidate in kept:
        mention = candidate.mention
        if mention.head not in used:
            chosen.append(mention)
            used.update(_own_tokens(tokens, mention, _forms(split_words(entities[mention.entity]))))
    chosen.sort(key=lambda mention: mention.head)
    heads = {mention.head for mention in chosen}
    return [_trimmed(tokens, mention, heads, _forms(split_words(entities[mention.entity]))) for mention in chosen]


def noun_phrase_start(tokens: Sequence[Token], head: int, own: frozenset[str] = frozenset()) -> int:
    """Return the index of the first modifier before a head; `head` if it has no modifiers.

    Args:
        tokens: all tokens of the prompt.
        head: index of the noun.
        own: words of the entity, in all forms. They count as modifiers even if they could be verbs ("watch strap").
    """
    first = head
    while first > 0 and head - first < MOST_MODIFIERS:
        before = tokens[first - 1]
        if before.kind == "word" and _is_modifier(tokens, first - 1, own):
            first -= 1
        elif _joins_adjectives(tokens, first - 1) and first < head:
            first -= 2
        else:
            break
    return first


def _is_modifier(tokens: Sequence[Token], place: int, own: frozenset[str]) -> bool:
    """Tell whether the word before a noun phrase belongs to it. Verbs and determiners do not."""
    token = tokens[place]
    if token.text in _BOUNDARIES or token.is_number:
        return token.text in own and (token.text in VERBS or token.text == "no")  # "a no smoking sign"
    if token.text in own or token.text in ADJECTIVES or token.owns or "-" in token.text:
        return True
    if token.text.endswith("ing") and token.text not in NO_PARTICIPLES:  # "a sleeping dog", but "the chef cooking rice"
        return place == 0 or not _is_noun(tokens[place - 1])
    return not is_plural(token.text) or token.text in PLURAL_MODIFIERS  # not "a vendor grills meat"


def _is_noun(token: Token) -> bool:
    return (
        token.kind == "word" and token.text not in _BOUNDARIES and token.text not in ADJECTIVES and not token.is_number
    )


def _joins_adjectives(tokens: Sequence[Token], place: int) -> bool:
    """Tell whether a comma or "and" stands between two adjectives: "a large, red sofa"."""
    return (
        place > 0
        and tokens[place].text in {",", "and", "or", "but"}
        and all(tokens[side].text in ADJECTIVES for side in (place - 1, place + 1))
    )


def _places_of_nouns(tokens: Sequence[Token]) -> dict[str, list[int]]:
    """Return the indices of each word by each of its forms; only the last part of a hyphenated word counts."""
    places: dict[str, list[int]] = {}
    for place, token in enumerate(tokens):
        if token.forms:
            for form in token.forms[-1]:
                places.setdefault(form, []).append(place)
    return places


def _candidates(
    tokens: Sequence[Token], places: dict[str, list[int]], index: int, entity: str, most: int
) -> list[_Candidate]:
    words, tail = _head_and_tail(entity)
    if not words:
        return []
    head = words[-1]
    modifiers = all_forms(words[:-1])
    own = _forms((*words, *tail))
    looks = LOOKS.intersection((*words, *tail))
    heads = sorted({place for form in forms_of(head) for place in places.get(form, ())})
    found = []
    for place in heads[:most]:
        token = tokens[place]
        first = noun_phrase_start(tokens, place, own)
        near = _NONE.union(*(form for before in tokens[first:place] for form in before.forms), *token.forms[:-1])
        shared = sum(not form.isdisjoint(near) for form in modifiers)
        followed = _followed(tokens, place, tail)
        missing = len(modifiers) - shared + len(tail) - followed
        conflicts = not (LOOKS & near) <= looks
        is_definite = first > 0 and tokens[first - 1].text in DEFINITE
        mention = Mention(index, first, place, place + followed, first)
        is_same_word = token.parts[-1] == head
        found.append(_Candidate(mention, 1 + shared + followed, missing, is_definite, conflicts, is_same_word))
    return found


def _head_and_tail(entity: str) -> tuple[Words, Words]:
    """Split a phrase before its first preposition: "cup" and "of espresso". "rolled-up tent" is not split."""
    plain = entity.split()
    cut = next((i for i, word in enumerate(plain) if i and word.casefold() in PREPOSITIONS), len(plain))
    return split_words(" ".join(plain[:cut])), split_words(" ".join(plain[cut:]))


def _followed(tokens: Sequence[Token], place: int, tail: Sequence[str]) -> int:
    """Return the length of the entity's tail ("of espresso") if it follows the head at once, else 0."""
    if not tail:
        return 0
    following = tokens[place + 1 : place + 1 + len(tail)]
    same = len(following) == len(tail) and all(
        forms_of(token.text) & forms_of(word) for token, word in zip(following, tail, strict=True)
    )
    return len(tail) if same else 0


def _own_tokens(tokens: Sequence[Token], mention: Mention, own: frozenset[str]) -> set[int]:
    """Return the tokens of a mention that are words of its entity. None of them can be the head of another mention."""
    places = range(mention.first, mention.last + 1)
    return {mention.head, *(place for place in places if _is_own(tokens[place], own))}


def _is_own(token: Token, own: frozenset[str]) -> bool:
    return bool(token.forms) and not token.forms[-1].isdisjoint(own)


def _forms(words: Sequence[str]) -> frozenset[str]:
    return frozenset().union(*all_forms(words))


def _trimmed(tokens: Sequence[Token], mention: Mention, heads: set[int], own: frozenset[str]) -> Mention:
    """Cut off the words up to another mention's noun: in "a dog chasing cats", "cats" has no article."""
    others = [place for place in range(mention.first, mention.head) if place in heads]
    first = others[-1] + 1 if others else mention.first
    sure = mention.head
    while sure > first and (_is_own(tokens[sure - 1], own) or _is_adjective(tokens[sure - 1])):
        sure -= 1
    return Mention(mention.entity, first, mention.head, mention.last, sure)


def _is_adjective(token: Token) -> bool:
    return token.kind == "word" and (token.text in ADJECTIVES or all(part in ADJECTIVES for part in token.parts))
