"""Rounds similarities, shares and IoUs for the document. Comparisons with thresholds use the unrounded numbers."""

from __future__ import annotations

DIGITS = 4


def shown(value: float) -> float:
    """Round a number for the document."""
    return round(float(value), DIGITS)
