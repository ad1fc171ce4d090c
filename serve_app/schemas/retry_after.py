"""Reads and writes the Retry-After header. Source: RFC 9110, section 10.2.3."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite


def read_retry_after(value: str | None, now: datetime) -> float | None:
    """Read a Retry-After header.

    Args:
        value: seconds or an HTTP date; None if there is no header.
        now: the current time, with a time zone, from which a date is counted.

    Returns:
        Seconds, at least 0; None for a missing or unreadable header.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return None
        # Python reads "-0000" as a date without a time zone; HTTP dates are UTC.
        seconds = (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds()
    return max(seconds, 0.0) if isfinite(seconds) else None


def write_retry_after(seconds: float) -> str:
    """Return the value of a Retry-After header: whole seconds, at least 1."""
    return str(max(1, round(seconds)))
