"""Finds where a prompt mentions each entity.

A mention belongs to the entity that has the most words in common with it. If "red sofa" is an entity and "sofa" is not,
"the sofa" is a mention of "red sofa"; "the blue sofa" is not.
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

MAX_MODIFIERS = 8
"""Up to this many words before the noun (the head) can belong to its noun phrase."""

MAX_CANDIDATES = 1600
"""How many tokens are examined for all entities together, if each gets at least `MIN_CANDIDATES_PER_ENTITY`.

32 entities get 50 each."""

MIN_CANDIDATES_PER_ENTITY = 20
"""At least this many tokens may be examined for each entity, with any number of entities."""

_BOUNDARIES = (
    PREPOSITIONS | VERBS | CONJUNCTIONS | DEFINITE | INDEFINITE | VAGUE | NUMBERS.keys() | SETS.keys()
) | words_of("no without single both dozen exactly precisely minus neither pairs couple other")
"""Words that end a noun phrase on its left."""

_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Mention:
    """A noun phrase of a prompt that names an entity.

    Attributes:
        entity: index of the entity.
        first: index of the token of the first modifier; `head` if there is none.
        head: index of the token of the noun: "cup" in "cup of espresso".
        last: index of the token of the last word: "espresso" in "cup of espresso".
        sure: index of the first token that certainly belongs to the phrase: a word of the entity, or an adjective. In
            "workers unload crates", `first` is the verb "unload", because it could be a modifier; `sure` is "crates".
    """

    entity: int
    first: int
    head: int
    last: int
    sure: int


@dataclass(slots=True)
class _Candidate:
    """A possible mention.

    Attributes:
        mention: its words.
        shared: how many words of the entity it has.
        missing: how many words of the entity it lacks.
        is_definite: whether it begins with a word such as "the".
        conflicts: whether it has a colour, material or pattern that the entity does not have.
        is_same_word: whether its noun is the entity's noun in exactly the same form ("sofa", not "sofas").
    """

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
        The mentions in the order of the prompt, no two with the same head. An entity can have several, or none.
    """
    tokens_by_form = _tokens_by_form(tokens)
    limit = max(MIN_CANDIDATES_PER_ENTITY, MAX_CANDIDATES // max(1, len(entities)))
    candidates: list[_Candidate] = []
    for index, entity in enumerate(entities):
        candidates += _candidates(tokens, tokens_by_form, index, entity, limit)
    fully_mentioned = {candidate.mention.entity for candidate in candidates if candidate.missing == 0}
    # An incomplete mention counts if it has no other look, and is definite or the entity has no complete mention.
    kept = [
        candidate
        for candidate in candidates
        if not candidate.missing
        or (not candidate.conflicts and (candidate.is_definite or candidate.mention.entity not in fully_mentioned))
    ]
    kept.sort(key=lambda each: (-each.shared, each.missing, not each.is_same_word, each.mention.head))
    chosen: list[Mention] = []
    used: set[int] = set()
    for candidate in kept:
        mention = candidate.mention
        if mention.head not in used:
            chosen.append(mention)
            used.update(_entity_tokens(tokens, mention, _form_set(split_words(entities[mention.entity]))))
    chosen.sort(key=lambda mention: mention.head)
    heads = {mention.head for mention in chosen}
    return [_trimmed(tokens, mention, heads, _form_set(split_words(entities[mention.entity]))) for mention in chosen]


def noun_phrase_start(tokens: Sequence[Token], head: int, entity_forms: frozenset[str] = frozenset()) -> int:
    """Return the index of the first modifier before a head; `head` if it has no modifiers.

    Args:
        tokens: all tokens of the prompt.
        head: index of the noun.
        entity_forms: words of the entity, in all forms. They count as modifiers even if they could be verbs ("watch
            strap").
    """
    first = head
    while first > 0 and head - first < MAX_MODIFIERS:
        before = tokens[first - 1]
        if before.kind == "word" and _is_modifier(tokens, first - 1, entity_forms):
            first -= 1
        elif _joins_adjectives(tokens, first - 1) and first < head:
            first -= 2
        else:
            break
    return first


def _is_modifier(tokens: Sequence[Token], place: int, entity_forms: frozenset[str]) -> bool:
    """Tell whether a word is a modifier of the noun phrase after it.

    Verbs and determiners are not; but "no" and verbs are if they are words of the entity.
    """
    token = tokens[place]
    if token.text in _BOUNDARIES or token.is_number:
        return token.text in entity_forms and (token.text in VERBS or token.text == "no")  # "no" in "a no smoking sign"
    if token.text in entity_forms or token.text in ADJECTIVES or token.owns or "-" in token.text:
        return True
    if token.text.endswith("ing") and token.text not in NO_PARTICIPLES:
        # A modifier in "a sleeping dog", a verb in "the chef cooking rice".
        return place == 0 or not _is_noun(tokens[place - 1])
    return not is_plural(token.text) or token.text in PLURAL_MODIFIERS  # "grills" in "a vendor grills meat" is neither


def _is_noun(token: Token) -> bool:
    return (
        token.kind == "word" and token.text not in _BOUNDARIES and token.text not in ADJECTIVES and not token.is_number
    )


def _joins_adjectives(tokens: Sequence[Token], place: int) -> bool:
    """Tell whether a comma or a conjunction stands between two adjectives: "a large, red sofa"."""
    return (
        place > 0
        and tokens[place].text in {",", "and", "or", "but"}
        and all(tokens[side].text in ADJECTIVES for side in (place - 1, place + 1))
    )


def _tokens_by_form(tokens: Sequence[Token]) -> dict[str, list[int]]:
    """Map each form of each word to the indices of its tokens. Of a hyphenated word, only the last part counts."""
    by_form: dict[str, list[int]] = {}
    for place, token in enumerate(tokens):
        if token.forms:
            for form in token.forms[-1]:
                by_form.setdefault(form, []).append(place)
    return by_form


def _candidates(
    tokens: Sequence[Token], tokens_by_form: dict[str, list[int]], index: int, entity: str, limit: int
) -> list[_Candidate]:
    words, tail = _head_and_tail(entity)
    if not words:
        return []
    head = words[-1]
    modifiers = all_forms(words[:-1])
    entity_forms = _form_set((*words, *tail))
    looks = LOOKS.intersection((*words, *tail))  # colours, materials and patterns
    heads = sorted({place for form in forms_of(head) for place in tokens_by_form.get(form, ())})
    candidates = []
    for place in heads[:limit]:
        token = tokens[place]
        first = noun_phrase_start(tokens, place, entity_forms)
        before = _NONE.union(*(form for word in tokens[first:place] for form in word.forms), *token.forms[:-1])
        shared = sum(not form.isdisjoint(before) for form in modifiers)
        tail_length = _tail_length(tokens, place, tail)
        missing = len(modifiers) - shared + len(tail) - tail_length
        conflicts = not (LOOKS & before) <= looks
        is_definite = first > 0 and tokens[first - 1].text in DEFINITE
        mention = Mention(index, first, place, place + tail_length, first)
        is_same_word = token.parts[-1] == head
        candidates.append(_Candidate(mention, 1 + shared + tail_length, missing, is_definite, conflicts, is_same_word))
    return candidates


def _head_and_tail(entity: str) -> tuple[Words, Words]:
    """Split a phrase before its first preposition: "cup of espresso" gives "cup" and "of espresso".

    "rolled-up tent" is not split.
    """
    plain = entity.split()
    cut = next((i for i, word in enumerate(plain) if i and word.casefold() in PREPOSITIONS), len(plain))
    return split_words(" ".join(plain[:cut])), split_words(" ".join(plain[cut:]))


def _tail_length(tokens: Sequence[Token], place: int, tail: Sequence[str]) -> int:
    """Return the length of the entity's tail ("of espresso") if it follows the head directly, else 0."""
    if not tail:
        return 0
    following = tokens[place + 1 : place + 1 + len(tail)]
    same = len(following) == len(tail) and all(
        forms_of(token.text) & forms_of(word) for token, word in zip(following, tail, strict=True)
    )
    return len(tail) if same else 0


def _entity_tokens(tokens: Sequence[Token], mention: Mention, entity_forms: frozenset[str]) -> set[int]:
    """Return the indices of a mention's head and of its words that are also words of the entity.

    No other mention takes them as its head.
    """
    places = range(mention.first, mention.last + 1)
    return {mention.head, *(place for place in places if _is_of_entity(tokens[place], entity_forms))}


def _is_of_entity(token: Token, entity_forms: frozenset[str]) -> bool:
    return bool(token.forms) and not token.forms[-1].isdisjoint(entity_forms)


def _form_set(words: Sequence[str]) -> frozenset[str]:
    return frozenset().union(*all_forms(words))


def _trimmed(tokens: Sequence[Token], mention: Mention, heads: set[int], entity_forms: frozenset[str]) -> Mention:
    """Cut off the words up to the noun of another mention, and find `sure`.

    In "a dog chased cats", the phrase "dog chased cats" becomes "chased cats".
    """
    others = [place for place in range(mention.first, mention.head) if place in heads]
    first = others[-1] + 1 if others else mention.first
    sure = mention.head
    while sure > first and (_is_of_entity(tokens[sure - 1], entity_forms) or _is_adjective(tokens[sure - 1])):
        sure -= 1
    return Mention(mention.entity, first, mention.head, mention.last, sure)


def _is_adjective(token: Token) -> bool:
    return token.kind == "word" and (token.text in ADJECTIVES or all(part in ADJECTIVES for part in token.parts))
