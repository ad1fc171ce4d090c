"""How similarities, shares and overlaps are written. They are compared with thresholds before they are rounded."""

from __future__ import annotations

DIGITS = 4


def shown(value: float) -> float:
    """Round a number for the document."""
    return round(float(value), DIGITS)
