"""Finds lettering in a prompt: quoted words that a sign or a label shows.

Lettering asks for nothing and excludes nothing: a sign that says "NO DOGS" does not exclude dogs from the picture.
"""

from __future__ import annotations

import re

from serve_app.entities.mentions.words import words_of

_MARKS = (
    r"(?<!\w)\"(?P<straight>[^\"\n]{1,200})\"(?!\w)"
    r"|\u201c(?P<curly>[^\u201c\u201d\n]{1,200})\u201d"
    r"|\u00ab(?P<angled>[^\u00ab\u00bb\n]{1,200})\u00bb"
    r"|(?<!\w)'(?P<single>[^'\n]{1,200})'(?!\w)"
    r"|(?<!\w)\u2018(?P<curly_single>[^\u2018\u2019\n]{1,200})\u2019(?!\w)"
)
_QUOTED = re.compile(_MARKS)
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")

SAYING: frozenset[str] = words_of(
    "say says saying said read reads reading text word words wording letters lettering letter title titled caption "
    "captioned label labels labeled labelled written writing inscription inscribed slogan logo spell spells spelling "
    "named called message sign signs banner poster headline quote motto print printed line"
)
"""Words that stand before lettering."""

_NEGATIVE = words_of("no not do don't dont never without stop keep avoid remove nobody")
"""First words of a ban or an order on a sign."""

_SKIPPED = words_of("the in that with of big bold capital red white a")
"""Words that may stand between a word of SAYING and the quotation marks."""

LOOK_BACK = 60
"""Number of characters before the quotation marks that are searched for a word of SAYING."""


def lettering(text: str) -> list[tuple[int, int]]:
    """Find the quoted words of a prompt that are text in the picture.

    Quoted words are lettering if a word such as "says" or "sign" stands before them, or if they begin like a ban ("NO
    DOGS"). Other quoted words, such as the "teddy bear", are ordinary words. So is a prompt that is quoted as a whole.

    Args:
        text: the prompt.

    Returns:
        The start and the end (exclusive) of each piece of lettering, with its quotation marks, from left to right.

    >>> lettering('a sign that says "open" beside a "teddy bear"')
    [(17, 23)]
    """
    found = []
    for match in _QUOTED.finditer(text):
        inside = next(group for group in match.groups() if group is not None)
        first = _WORD.search(inside)
        if not text[: match.start()].strip() and not text[match.end() :].strip():
            continue
        if _is_led_to(text, match.start()) or (first is not None and first.group().casefold() in _NEGATIVE):
            found.append(match.span())
    return found


def _is_led_to(text: str, start: int) -> bool:
    words = [word.casefold() for word in _WORD.findall(text[max(0, start - LOOK_BACK) : start])]
    while words and words[-1] in _SKIPPED:
        words.pop()
    return bool(words) and words[-1] in SAYING
