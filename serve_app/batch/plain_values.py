"""Converts values of tables into values that JSON can hold."""

from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from pydantic import JsonValue

MAX_LEVELS = 100
"""Allowed depth of nested lists and objects; Python reads and writes JSON far deeper than this."""


def plain(value: Any, levels: int = MAX_LEVELS) -> JsonValue:
    r"""Convert a value into one that JSON can hold.

    Args:
        value: a value from JSON, CSV or Parquet.
        levels: how deep it may be nested.

    Returns:
        The value. NaN becomes null, because tables write a missing number as NaN. Infinity becomes text. Decimals
        become numbers, times ISO 8601 texts, durations seconds. Bytes become text if they are UTF-8, else `<N bytes>`.
        Other objects become `str(value)`.

    Raises:
        ValueError: the value is nested too deep.

    >>> plain({"at": date(2026, 1, 2), "cost": Decimal("0.30"), "lost": float("nan"), "raw": b"\xff"})
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
