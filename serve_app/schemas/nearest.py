"""The known name that a misspelt one probably means."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def hint(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean '…'?" for the nearest known word, or "" where none is near."""
    nearest = nearest_of(word, known)
    return f"; did you mean '{nearest}'?" if nearest else ""


def nearest_of(word: str, known: Iterable[str]) -> str | None:
    """Return the known word nearest to one that is not, whatever its case and hyphens; None where none is near."""
    by_folded = {candidate.lower().replace("-", "_"): candidate for candidate in known}
    near = difflib.get_close_matches(word.lower().replace("-", "_"), by_folded, n=1, cutoff=0.6)
    return by_folded[near[0]] if near else None
