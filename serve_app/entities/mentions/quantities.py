"""Reads how many things a noun phrase asks for: "two dogs", "at least 3 cups", "a herd of cows"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from serve_app.entities.mentions.noun_phrases import Mention
from serve_app.entities.mentions.tokens import Token
from serve_app.entities.mentions.words import (
    APPROXIMATE,
    COLLECTIONS,
    DEFINITE,
    INDEFINITE,
    INVARIANT,
    LABELLED,
    MASS,
    NUMBER,
    NUMBERS,
    ONE_PAIRED,
    SETS,
    UNITS,
    VAGUE,
    is_plural,
    words_of,
)


@dataclass(frozen=True)
class Quantity:
    """How many things a mention asks for.

    Attributes:
        value: the number that is asked for; None: at least one.
        exact: whether more than `value` are a fault.
        is_definite: whether the mention points to something known: "the", "these", "his", …
        start: index of the first token of the phrase, with its determiner or number.
    """

    value: int | None
    exact: bool
    is_definite: bool
    start: int


def _alternatives(words: Iterable[str]) -> str:
    return "|".join(sorted(map(re.escape, words), key=len, reverse=True))


@dataclass(frozen=True)
class Rule:
    """Words before a noun phrase that say how many.

    Attributes:
        pattern: matches the words up to the noun phrase; its group `n` is the number.
        value: the number if the pattern has no group `n`; None: at least one.
        exact: whether more than the number are a fault.
        times: the factor by which the number is multiplied.
    """

    pattern: re.Pattern[str]
    value: int | None
    exact: bool
    times: int = 1


_SHORTHANDS = {
    "<n>": rf"(?P<n>{NUMBER.pattern})",
    "<number>": NUMBER.pattern,
    "<the>": rf"(?: (?:{_alternatives(DEFINITE)}))?",
    "<article>": rf"(?:(?:{_alternatives(DEFINITE | INDEFINITE)}) )?",
    "<approximate>": f"(?:{_alternatives(APPROXIMATE)})",
    "<collection>": f"(?:{_alternatives(COLLECTIONS)})s?",
    "<vague>": f"(?:{_alternatives(VAGUE)})",
    "<digits>": r"(?P<n>\d+)",
    "<set>": f"(?P<set>{_alternatives([*SETS, 'pairs', 'trios'])})",
}


def _rule(pattern: str, value: int | None = None, exact: bool = False, times: int = 1) -> Rule:
    for short, long in _SHORTHANDS.items():
        pattern = pattern.replace(short, long)
    return Rule(re.compile(rf"(?:^|(?<= ))(?:{pattern})$"), value, exact, times)


RULES: Sequence[Rule] = (
    _rule("(?:at least|no fewer than|not fewer than|no less than|not less than|a minimum of|upwards of) <n>"),
    _rule("(?:at most|up to|no more than|not more than|fewer than|less than|a maximum of) <number>"),
    _rule("more than <n>"),
    _rule("(?:no|not) <number>"),  # "no two alike"
    _rule("<n> or more"),
    _rule("<n> (?:or|to) <number>"),
    _rule(r"<digits>-\d+"),
    _rule(r"between <n> and <number>"),
    _rule(r"~<digits>"),
    _rule(r"<digits>\+"),
    _rule("<n> or so"),
    _rule("(?:a )?dozen or so", 12),
    _rule("(?:well|just) over <n>"),
    _rule("(?:well |just )?over a dozen", 12),
    _rule("as many as <number>"),
    _rule("(?:<approximate>|around|some) (?:a )?dozen", 12),
    _rule("(?:<approximate>|around|some) <n>"),
    _rule("(?:a |the )?couple(?: of)?<the>", 2),
    _rule("(?:a )?half (?:a )?dozen(?: of)?<the>", 6, exact=True),
    _rule("<n> dozen(?: of)?<the>", exact=True, times=12),
    _rule("(?:an? |the )?dozen(?: of)?<the>", 12, exact=True),
    _rule("(?:<n> |<article>)(?:matching |identical )?<set> of", exact=True),
    _rule("one of<the>(?: <number>)?", 1),
    _rule("<n> (?:out )?of<the>(?: <number>)?", exact=True),
    _rule("(?:exactly |precisely |only |just )?<n>(?: x| other| more| different| single)?", exact=True),
    _rule("(?:all|both)(?: of)?<the> <n>", exact=True),
    _rule("both(?: of)?<the>", 2, exact=True),
    _rule("(?:an? |the |only )?single", 1, exact=True),
    _rule("(?:<article>|<number> )(?:large |small |huge |whole |big )?<collection> of<the>"),
    _rule("(?:an? |the )?<vague>(?: of)?<the>(?: other| more| different)?"),
    _rule("(?:a|an|another)(?: other)?", 1),
)
"""The rules in the order in which they are tried; the first match decides."""

MAX_FOR_A_SINGULAR = 20
"""A greater number before a singular noun is a name or a year."""

_POINTING = frozenset({"both", "each", "every", "all"})
"""Words that point to things named before: "ten blocks, each block"."""

LONGEST_RUN = 8
"""How many words before a mention are read for its number."""

_RUN = (
    words_of(
        "at least most out up to more than no not between and so well over as many x fewer less minimum maximum "
        "upwards of or about around couple half dozen pairs trios matching identical exactly precisely only just other "
        "different single both all large small huge whole big"
    )
    | NUMBERS.keys() | SETS.keys() | COLLECTIONS | {f"{word}s" for word in COLLECTIONS}
    | VAGUE | DEFINITE | INDEFINITE | APPROXIMATE
)  # fmt: skip
"""Words that can belong to a number. The rules read an unbroken run of such words."""


def quantity_of(tokens: Sequence[Token], mention: Mention) -> Quantity:
    """Read how many things a mention asks for.

    Args:
        tokens: all tokens of the prompt.
        mention: one of its noun phrases.
    """
    start = mention.first
    while start > 0 and mention.first - start < LONGEST_RUN and _in_run(tokens[start - 1]):
        start -= 1
    stop = mention.first - _measures(tokens, mention.first, mention.head)
    run = [token.text for token in tokens[start:stop]]
    if _is_labelled(tokens, start, stop):
        run = []
    noun = tokens[mention.head].text
    is_definite = any(word in DEFINITE or word in _POINTING for word in run)
    applied = _first_rule(" ".join(run)) if run else None
    if applied is not None:
        rule, match = applied
        value, exact = _value(rule, match, noun)
        if _agrees(value, tokens, mention, match.group()):
            begin = stop - len(match.group().split())
            while begin > start and tokens[begin - 1].text in DEFINITE and tokens[begin].text not in INDEFINITE:
                begin -= 1
            return Quantity(value, exact, is_definite, begin)
    uncounted = None if is_plural(noun) or noun in MASS else 1
    if run and run[-1] in DEFINITE:
        return Quantity(uncounted, False, True, stop - 1)
    return Quantity(uncounted, False, False, mention.sure)


@lru_cache(maxsize=2048)
def _first_rule(run: str) -> tuple[Rule, re.Match[str]] | None:
    """Return the first rule that matches the words before a noun phrase. Cached: most prompts use the same few."""
    return next(((rule, match) for rule in RULES if (match := rule.pattern.search(run))), None)


def number(text: str) -> int:
    """Read a number in digits or words.

    Raises:
        KeyError: the text is not a number that `NUMBERS` knows.

    >>> number("12"), number("twelve"), number("twenty-one")
    (12, 12, 21)
    """
    if text.isdecimal():
        return int(text)
    return sum(NUMBERS[part] for part in text.split("-"))


def _measures(tokens: Sequence[Token], first: int, head: int) -> int:
    """Return 1 if the number before a phrase does not count things ("a 2 meter pole", "a 1950 chevrolet"), else 0."""
    if first == 0 or not tokens[first - 1].is_number:
        return 0
    before = tokens[first - 2].text if first > 1 else ""
    return 1 if tokens[first].text in UNITS or (before in {"a", "an"} and not is_plural(tokens[head].text)) else 0


def _is_labelled(tokens: Sequence[Token], start: int, stop: int) -> bool:
    """Tell whether the number before a phrase is part of a name: "Formula 1 cars", "the number 7 bus"."""
    place = stop - 1
    if place < max(start, 1) or not tokens[place].is_number:
        return False
    before = [token.text for token in tokens[max(0, place - 2) : place]]
    return before[-1] in LABELLED or before in (["no", "."], ["nr", "."])


def _in_run(token: Token) -> bool:
    return token.kind == "word" and (token.text in _RUN or token.is_number)


def _value(rule: Rule, match: re.Match[str], noun: str) -> tuple[int | None, bool]:
    """Return the number that a rule reads, and whether it is exact."""
    groups = match.groupdict()
    value = number(groups["n"]) * rule.times if groups.get("n") else rule.value
    if "set" not in groups:
        return value, rule.exact
    size = SETS[groups["set"].removesuffix("s")]
    if size == 2 and noun in ONE_PAIRED:  # a pair of glasses is one thing
        return value or 1, value is not None
    return size * (value or 1), True


def _agrees(value: int | None, tokens: Sequence[Token], mention: Mention, words: str) -> bool:
    """Tell whether number and noun agree in singular or plural; if not, the number belongs to another noun."""
    noun = tokens[mention.head].text
    first, *_, last = [*words.split(), words.split()[-1]]
    if last in {"a", "an", "another", "single"} and first not in VAGUE:
        return not is_plural(noun) or noun in INVARIANT
    if value is not None and value > 1 and not is_plural(noun):
        if value > MAX_FOR_A_SINGULAR:
            return False
        return not any(token.text.endswith("ing") for token in tokens[mention.first : mention.head])
    return True
