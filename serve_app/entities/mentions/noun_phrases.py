"""Finds where a prompt mentions its entities. Pure text.

A mention belongs to the entity that shares most of its words: "the sofa" is a mention of "red sofa" where no entity
says "sofa" alone, "the blue sofa" is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from serve_app.entities.mentions.tokens import Token
from serve_app.entities.mentions.words import (
    ADJECTIVES,
    CONJUNCTIONS,
    DEFINITE,
    INDEFINITE,
    INVARIANT,
    LOOKS,
    NUMBERS,
    PLURALS,
    PREPOSITIONS,
    S_SINGULARS,
    SETS,
    VAGUE,
    VERBS,
    is_number,
    words_of,
)
from serve_app.entities.words import all_forms, split_words

MOST_MODIFIERS = 8
"""Words before a head that can belong to its noun phrase."""

_BOUNDARIES = (
    PREPOSITIONS | VERBS | CONJUNCTIONS | DEFINITE | INDEFINITE | VAGUE | NUMBERS.keys() | SETS.keys()
) | words_of("no without single both dozen exactly precisely minus neither pairs couple other")


@dataclass(frozen=True)
class Mention:
    """A noun phrase of a prompt that names an entity.

    Attributes:
        entity: index of the entity.
        first, head, last: tokens of the first modifier, of the noun, and of the last word ("cup of espresso").
    """

    entity: int
    first: int
    head: int
    last: int


@dataclass(frozen=True)
class _Candidate:
    mention: Mention
    shared: int
    missing: int
    is_definite: bool
    conflicts: bool
    is_same_word: bool


def find_mentions(tokens: Sequence[Token], entities: Sequence[str]) -> list[Mention]:
    """Find the mentions of all entities, in the order of the prompt; no token is the head of two.

    Args:
        tokens: the prompt's.
        entities: the phrases; one that the prompt does not mention has no mention.
    """
    found: list[_Candidate] = []
    for index, entity in enumerate(entities):
        found += _candidates(tokens, index, split_words(entity))
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
            used.update(_own_tokens(tokens, mention, entities[mention.entity]))
    chosen.sort(key=lambda mention: mention.head)
    heads = {mention.head for mention in chosen}
    return [_trimmed(mention, heads) for mention in chosen]


def noun_phrase_start(tokens: Sequence[Token], head: int) -> int:
    """Return the first token of the modifiers before a head; the head itself where it has none."""
    first = head
    while first > 0 and head - first < MOST_MODIFIERS:
        before = tokens[first - 1]
        if before.kind == "word" and before.text not in _BOUNDARIES and not is_number(before.text):
            first -= 1
        elif _joins_adjectives(tokens, first - 1) and first < head:
            first -= 2
        else:
            break
    return first


def is_plural(word: str) -> bool:
    """Tell whether a noun is a plural; a form that may be either counts as one."""
    last = split_words(word)[-1:]
    noun = last[0] if last else word
    if noun in PLURALS or noun in INVARIANT:
        return True
    return noun.endswith("s") and noun not in S_SINGULARS and not noun.endswith(("ss", "us", "is"))


def _joins_adjectives(tokens: Sequence[Token], place: int) -> bool:
    """Tell whether a comma or "and" stands between two adjectives: "a large, red sofa"."""
    return (
        place > 0
        and tokens[place].text in {",", "and"}
        and all(tokens[side].text in ADJECTIVES for side in (place - 1, place + 1))
    )


def _candidates(tokens: Sequence[Token], index: int, words: Sequence[str]) -> list[_Candidate]:
    if not words:
        return []
    cut = next((i for i, word in enumerate(words) if i and word in PREPOSITIONS), len(words))
    head, tail = words[cut - 1], words[cut:]
    modifiers = all_forms(words[: cut - 1])
    found = []
    for place, token in enumerate(tokens):
        parts = split_words(token.text) if token.kind == "word" else ()
        if not parts or not all_forms((parts[-1],))[0] & all_forms((head,))[0]:
            continue
        first = noun_phrase_start(tokens, place)
        around = [*_parts(tokens[first:place]), *parts[:-1]]
        near = all_forms(around)
        shared = sum(any(form & other for other in near) for form in modifiers)
        followed = _followed(tokens, place, tail)
        missing = len(modifiers) - shared + len(tail) - followed
        own = {word for word in words if word in LOOKS}
        conflicts = bool(own) and any(word in LOOKS and word not in own for word in around)
        is_definite = first > 0 and tokens[first - 1].text in DEFINITE
        mention = Mention(index, first, place, place + followed)
        found.append(_Candidate(mention, 1 + shared + followed, missing, is_definite, conflicts, parts[-1] == head))
    return found


def _followed(tokens: Sequence[Token], place: int, tail: Sequence[str]) -> int:
    """Return the number of tokens after the head that are the entity's tail ("of espresso"): all of it, or none."""
    following = tokens[place + 1 : place + 1 + len(tail)]
    same = len(following) == len(tail) and all(
        all_forms((token.text,))[0] & all_forms((word,))[0] for token, word in zip(following, tail, strict=True)
    )
    return len(tail) if same else 0


def _own_tokens(tokens: Sequence[Token], mention: Mention, entity: str) -> set[int]:
    """Return the tokens that are words of the entity: no other entity's head can be among them."""
    forms = all_forms(split_words(entity))
    own = {mention.head}
    for place in range(mention.first, mention.last + 1):
        last = all_forms(_parts([tokens[place]])[-1:])
        if any(last[0] & form for form in forms if last):
            own.add(place)
    return own


def _parts(tokens: Sequence[Token]) -> list[str]:
    return [part for token in tokens if token.kind == "word" for part in split_words(token.text) or (token.text,)]


def _trimmed(mention: Mention, heads: set[int]) -> Mention:
    """Begin a phrase after the noun of another mention: in "a dog chasing cats", "cats" has no article."""
    others = [place for place in range(mention.first, mention.head) if place in heads]
    return replace(mention, first=others[-1] + 1) if others else mention
