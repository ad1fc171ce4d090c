"""When two phrases are the same one: the only definition, for entities, thresholds and categories of an export."""

from __future__ import annotations

import unicodedata


def phrase_key(phrase: str) -> str:
    """Return the form in which phrases are compared: equal keys mean one phrase, however it is typed.

    Case, the composition of letters, white space and characters without a width do not tell phrases apart.

    >>> phrase_key("CAFE\\u0301  table") == phrase_key("caf\\xe9 table")
    True
    """
    # Letters are taken apart first, because the folding of case is defined for that form.
    # Source: canonical caseless matching, Unicode Standard, section 3.13, D145.
    folded = unicodedata.normalize("NFD", tidy(phrase)).casefold()
    if not folded.isprintable():  # it may hold some; looking at every character takes ten times as long
        folded = " ".join("".join(c for c in folded if unicodedata.category(c) != "Cf").split())
    return unicodedata.normalize("NFC", folded)


def tidy(phrase: str) -> str:
    """Write a phrase one way: composed letters, single spaces, no control characters, no half of a surrogate pair.

    >>> tidy("  red \\n sofa\\x00")
    'red sofa'
    """
    return spaced_once(unicodedata.normalize("NFC", phrase))


def spaced_once(text: str) -> str:
    """Put one space between words, and leave out control characters and halves of surrogate pairs."""
    if not text.isprintable():  # it may hold some; looking at every character takes ten times as long
        text = "".join(c for c in text if c.isspace() or unicodedata.category(c) not in {"Cc", "Cs"})
    return " ".join(text.split())
