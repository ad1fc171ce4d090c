"""Values as cells of a table of text, as spreadsheets read them."""

from __future__ import annotations

import json

from pydantic import JsonValue

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""A spreadsheet reads a text that starts so as a formula. Source: OWASP, "CSV Injection"."""


def text_cell(value: JsonValue) -> str:
    """Write a value: null as an empty cell, lists and objects as JSON, a text that looks like a formula after a '.

    >>> text_cell(None), text_cell(2), text_cell(["a"]), text_cell("=1+1"), text_cell("-5")
    ('', '2', '["a"]', "'=1+1", '-5')
    """
    match value:
        case None:
            return ""
        case str():
            return f"'{value}" if value.startswith(_FORMULA_STARTS) and not _is_number(value) else value
    return json.dumps(value, ensure_ascii=False)


def _is_number(text: str) -> bool:
    try:
        float(text)
        return True
    except ValueError:
        return False
