"""Decides when two phrases are the same, for entities, thresholds and the categories of an export."""

from __future__ import annotations

import unicodedata


def phrase_key(phrase: str) -> str:
    r"""Return a key that is equal for equal phrases.

    Phrases are equal if they differ only in case, Unicode composition, white space or characters without a width.

    >>> phrase_key("CAFE\u0301  table") == phrase_key("caf\xe9 table")
    True
    """
    # Letters are decomposed first, because case folding is defined for that form.
    # Source: canonical caseless matching, Unicode Standard, section 3.13, D145.
    folded = unicodedata.normalize("NFD", tidy(phrase)).casefold()
    if not folded.isprintable():  # only then characters without a width are possible; checking each one is slow
        folded = " ".join("".join(c for c in folded if unicodedata.category(c) != "Cf").split())
    return unicodedata.normalize("NFC", folded)


def tidy(phrase: str) -> str:
    r"""Normalise a phrase: composed letters, single spaces, no control characters, no halves of surrogate pairs.

    >>> tidy("  red \n sofa\x00")
    'red sofa'
    """
    return spaced_once(unicodedata.normalize("NFC", phrase))


def spaced_once(text: str) -> str:
    """Put one space between words, and remove control characters and halves of surrogate pairs."""
    if not text.isprintable():  # only then such characters are possible; checking each one is slow
        text = "".join(c for c in text if c.isspace() or unicodedata.category(c) not in {"Cc", "Cs"})
    return " ".join(text.split())
