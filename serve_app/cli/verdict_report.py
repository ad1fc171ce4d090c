"""Writes a verdict as text: tables for the terminal, and lines for the comparison sheet. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from serve_app.images.lettering import printable
from serve_app.images.marks import marks_of
from serve_app.schemas.dicts import EntityVerdictDict, ReferenceVerdictDict, VerdictDict
from serve_app.schemas.verdict_words import ARRIVED, ENTITY_COLUMNS, REFERENCE_COLUMNS, entity_words, reference_words

_GOOD, _BAD, _OPEN = "32", "31", "33"  # green, red and yellow. Source: ECMA-48, SGR
_COLOUR_OF = {"ok": _GOOD, "arrived": _GOOD, "not_asked": "0", "unknown": _OPEN}

_Paint = Callable[[str, str], str]
"""Colours a text: takes the text and the colour's number in ECMA-48."""


def verdict_lines(verdict: VerdictDict) -> tuple[str, ...]:
    """Return a line that says whether everything arrived, then a line for each thing that is wrong."""
    return f"arrived: {ARRIVED[verdict['arrived']]}", *map(printable, marks_of(verdict, "generated", 0).lines)


def verdict_table(verdict: VerdictDict, contextual: int, *, coloured: bool) -> str:
    """Return a verdict as text: tables of its entities and references, then `verdict_lines`.

    Args:
        verdict: the document's verdict.
        contextual: how many contextual images the document has.
        coloured: whether to colour each status, with escape sequences for a terminal.
    """

    def paint(text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if coloured and text.strip() else text

    lines = [*_entity_lines(verdict["entities"], paint)]
    if verdict["references"]:
        lines += ["", *_reference_lines(verdict["references"], paint)]
    elif contextual and verdict["identity"] is None:
        lines += ["", "references: not compared, because the configuration has no identity model (models.identity)"]
    answer, *faults = verdict_lines(verdict)
    lines += ["", paint(answer, {True: _GOOD, False: _BAD, None: _OPEN}[verdict["arrived"]])]
    return "\n".join([*lines, *(f"  {fault}" for fault in faults)])


def _entity_lines(rows: Sequence[EntityVerdictDict], paint: _Paint) -> Iterator[str]:
    return _table([ENTITY_COLUMNS, *map(entity_words, rows)], ["", *(row["status"] for row in rows)], paint)


def _reference_lines(rows: Sequence[ReferenceVerdictDict], paint: _Paint) -> Iterator[str]:
    return _table([REFERENCE_COLUMNS, *map(reference_words, rows)], ["", *(row["status"] for row in rows)], paint)


def _table(rows: Sequence[Sequence[str]], statuses: Sequence[str], paint: _Paint) -> Iterator[str]:
    """Align rows in columns, and colour the column "status"."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    painted = rows[0].index("status")
    for row, status in zip(rows, statuses, strict=True):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        if status:
            cells[painted] = paint(cells[painted], _COLOUR_OF.get(status, _BAD))
        yield "  ".join(cells).rstrip()
