"""Writes values as cells of a CSV file that spreadsheets read safely."""

from __future__ import annotations

import json

from pydantic import JsonValue

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""A spreadsheet reads a text that starts so as a formula. Source: OWASP, "CSV Injection"."""


def text_cell(value: JsonValue) -> str:
    """Write a value as a cell: null is empty, lists and objects are JSON, a text like a formula gets an apostrophe.

    >>> text_cell(None), text_cell(2), text_cell(["a"]), text_cell("=1+1"), text_cell("-5")
    ('', '2', '["a"]', "'=1+1", '-5')
    """
    match value:
        case None:
            return ""
        case str():
            return f"'{value}" if value.startswith(_FORMULA_STARTS) and not _is_number(value) else value
    return json.dumps(value, ensure_ascii=False)


def whole_text(value: object) -> object:
    r"""Replace each half of a surrogate pair in a text by its escape, because UTF-8 cannot hold it.

    Other values are returned as they are.

    >>> whole_text(chr(0xD800) + "a"), whole_text(3)
    ('\\ud800a', 3)
    """
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
        return True
    except ValueError:
        return False
