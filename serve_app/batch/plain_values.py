"""Values of any table as values of JSON."""

from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from pydantic import JsonValue

MAX_LEVELS = 100
"""Of lists and objects inside each other: far below the depth at which Python stops reading and writing JSON."""


def plain(value: Any, levels: int = MAX_LEVELS) -> JsonValue:
    """Write a value the way JSON can.

    Args:
        value: of JSON, CSV or Parquet.
        levels: how deep it may be nested.

    Returns:
        NaN is null (it is how tables write a missing number), infinity a text. Decimals are numbers, times are texts
        of ISO 8601, durations seconds, bytes the text that they are in UTF-8, or `<N bytes>` where they are none.
        Whatever else there is becomes its text.

    Raises:
        ValueError: it is nested too deep.

    >>> plain({"at": date(2026, 1, 2), "cost": Decimal("0.30"), "lost": float("nan"), "raw": b"\\xff"})
    {'at': '2026-01-02', 'cost': 0.3, 'lost': None, 'raw': '<1 bytes>'}
    """
    if levels < 0:
        raise ValueError(f"nested too deep, over {MAX_LEVELS} levels")
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return None if math.isnan(value) else value if math.isfinite(value) else str(value)
        case Decimal():
            return int(value) if value == value.to_integral_value() and value.as_tuple().exponent == 0 else float(value)
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes():
            return _text(value)
        case dict():
            return {_name(key): plain(inner, levels - 1) for key, inner in value.items()}
        case list() | tuple():
            return [plain(inner, levels - 1) for inner in value]
    return str(value)


def _name(key: Any) -> str:
    return _text(key) if isinstance(key, bytes) else str(key)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"<{len(value)} bytes>"
