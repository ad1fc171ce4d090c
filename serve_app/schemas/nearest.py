"""Finds the known name that a misspelt name probably means."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def hint(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean '…'?" with the nearest known word, or "" if none is similar.

    >>> hint("treshold", ["threshold", "timeout_s"])
    "; did you mean 'threshold'?"
    """
    nearest = nearest_of(word, known)
    return f"; did you mean '{nearest}'?" if nearest else ""


def nearest_of(word: str, known: Iterable[str]) -> str | None:
    """Return the most similar known word, ignoring case and hyphens; None if none is similar enough."""
    by_folded = {candidate.lower().replace("-", "_"): candidate for candidate in known}
    near = difflib.get_close_matches(word.lower().replace("-", "_"), by_folded, n=1, cutoff=0.6)
    return by_folded[near[0]] if near else None
