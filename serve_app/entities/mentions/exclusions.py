"""Finds the things that a prompt excludes: "no dogs", "remove the hat", "replace A with B"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from serve_app.entities.mentions.cues import Cue, cues
from serve_app.entities.mentions.items import OTHERS, Item, Listed, item_at, next_item
from serve_app.entities.mentions.phrase import Phrase, only_between
from serve_app.entities.mentions.replacing import replaced
from serve_app.entities.mentions.tokens import Token
from serve_app.entities.mentions.words import ADJECTIVES, CONJUNCTIONS, DEFINITE, NO_PARTICIPLES, PREPOSITIONS

_BEFORE_GERUND = frozenset({"without", "instead", "rather", "avoid", "not", "sans", "excluding"})
"""First words of cues that a verb in "ing" can follow."""

_MAY_FOLLOW = PREPOSITIONS | CONJUNCTIONS
"""Words that can follow a thing of a series."""

MAX_JOINED = 12
"""Largest number of things in a series after its first. It limits the work."""


@dataclass(frozen=True)
class Exclusion:
    """A thing that must not be there.

    Attributes:
        item: the thing.
        start: index of the first token of the words that exclude it.
        removes: whether a verb such as "remove" excludes it. Such a verb cancels earlier mentions of the thing.
    """

    item: Item
    start: int
    removes: bool


def exclusions(tokens: Sequence[Token], phrases: Sequence[Phrase]) -> list[Exclusion]:
    """Find what must not be there: entities, and things that no entity names.

    Args:
        tokens: all tokens of the prompt.
        phrases: the mentions of the entities, in the order of the prompt.

    Returns:
        The exclusions in the order of the prompt; one for each thing.
    """
    listed = Listed(phrases)
    excluded = []
    for cue in cues(tokens):
        first = item_at(tokens, listed, cue.stop)
        if first is None or _is_part_of_a_name(phrases, cue, first) or _is_gerund(tokens, cue, first):
            continue
        if not _takes_some(tokens, cue, first):
            excluded.append(Exclusion(first, cue.start, cue.removes))
            excluded += [Exclusion(item, item.start, cue.removes) for item in _series(tokens, listed, cue, first)]
    excluded += [Exclusion(item, start, True) for start, item in replaced(tokens, listed)]
    first_of: dict[int, Exclusion] = {}
    for each in sorted(excluded, key=lambda each: (each.start, each.item.stop)):
        first_of.setdefault(each.item.stop, each)
    return list(first_of.values())


def only_these(tokens: Sequence[Token], phrases: Sequence[Phrase]) -> set[int]:
    """Return the indices of phrases such as "no other dogs", which make the number of an earlier mention exact."""
    return {
        index
        for index, phrase in enumerate(phrases)
        if any(
            tokens[before].text == "no" and only_between(tokens, before + 1, phrase.mention.head, OTHERS | ADJECTIVES)
            and any(token.text in OTHERS for token in tokens[before + 1 : phrase.mention.head])
            for before in range(max(0, phrase.mention.first - 3), phrase.mention.head)
        )
    }  # fmt: skip


def _is_part_of_a_name(phrases: Sequence[Phrase], cue: Cue, item: Item) -> bool:
    """Tell whether a cue is a word of the entity itself: "no" in "no entry sign"."""
    return item.phrase is not None and phrases[item.phrase].mention.first <= cue.start


def _is_gerund(tokens: Sequence[Token], cue: Cue, item: Item) -> bool:
    """Tell whether a verb follows a cue: "without looking back"."""
    return item.phrase is None and tokens[cue.start].text in _BEFORE_GERUND and _is_verb(tokens[item.first].text)


def _is_verb(word: str) -> bool:
    return word.endswith("ing") and word not in NO_PARTICIPLES


def _takes_some(tokens: Sequence[Token], cue: Cue, item: Item) -> bool:
    """Tell whether a cue excludes only some of the things: "remove one of the dogs"."""
    words = [token.text for token in tokens[cue.stop : item.first]]
    return cue.removes and "of" in words[1:] and words[0] not in {"all", "both", "each", "any", "every"}


def _series(tokens: Sequence[Token], listed: Listed, cue: Cue, first: Item) -> list[Item]:
    """Return the things after the first of an excluded series: "no dogs, cats or birds"."""
    joined: list[tuple[Item, str]] = []
    last = first
    while len(joined) < MAX_JOINED:
        joint = next_item(tokens, last.stop)
        item = item_at(tokens, listed, joint[1]) if joint is not None else None
        if joint is None or item is None or not _may_join(tokens, first, item, cue.removes):
            break
        joined.append((item, joint[0]))
        last = item
    ends = [i for i, (_, joint) in enumerate(joined) if joint != "," and (cue.removes or joint != "and")]
    kept = joined[: ends[-1] + 1] if ends else []
    if cue.removes:  # "remove the dog, the cat", but not "remove the dog, blue sky"
        while len(kept) < len(joined) and tokens[joined[len(kept)][0].start].text in DEFINITE:
            kept = joined[: len(kept) + 1]
    elif not kept and joined and joined[0][1] == "and" and first.is_bare and joined[0][0].is_bare:
        kept = joined[:1]  # "no flowers and trees"
    return [item for item, _ in kept]


def _may_join(tokens: Sequence[Token], first: Item, item: Item, removes: bool) -> bool:
    """Tell whether a thing can continue a series.

    A thing that no entity names must have a determiner if the first thing has one, and none if the first has none.
    """
    if tokens[item.start].text in {"a", "an"} and first.is_bare:
        return False
    if item.phrase is not None:
        return removes or item.is_bare or not first.is_bare
    is_whole = item.stop == len(tokens) or tokens[item.stop].kind != "word" or tokens[item.stop].text in _MAY_FOLLOW
    return is_whole and (item.is_bare == first.is_bare)
