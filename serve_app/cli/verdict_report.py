"""A verdict in words: a table for people, and the lines of the comparison sheet. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from serve_app.images.lettering import printable
from serve_app.images.marks import marks_of
from serve_app.schemas.dicts import EntityVerdictDict, ReferenceVerdictDict, VerdictDict

_ARRIVED: Mapping[bool | None, str] = MappingProxyType({True: "yes", False: "no", None: "could not tell"})
_ENTITY_WORDS = {
    "ok": "ok",
    "missing": "missing",
    "too_few": "too few",
    "too_many": "too many",
    "unwanted": "must not be there",
    "unknown": "could not tell",
}
_REFERENCE_WORDS = {
    "arrived": "arrived",
    "different": "another individual",
    "merged": "merged with another individual",
    "missing": "missing",
    "not_asked": "not asked for",
    "unknown": "could not tell",
}
_GOOD, _BAD, _OPEN = "32", "31", "33"  # green, red and yellow. Source: ECMA-48, SGR
_COLOUR_OF = {"ok": _GOOD, "arrived": _GOOD, "not_asked": "0", "unknown": _OPEN}
_NOTHING = "-"

_Paint = Callable[[str, str], str]
"""Gives a text a colour, by the number of ECMA-48."""


def verdict_lines(verdict: VerdictDict) -> tuple[str, ...]:
    """Answer the question, and say what is wrong: a line each."""
    return f"arrived: {_ARRIVED[verdict['arrived']]}", *map(printable, marks_of(verdict, "generated", 0).lines)


def verdict_table(verdict: VerdictDict, contextual: int, *, coloured: bool) -> str:
    """Write a verdict as tables of its entities and references, the answer, and what is wrong.

    Args:
        verdict: of a document.
        contextual: how many contextual images the document has.
        coloured: whether the status is in colour, by a terminal's escape sequences.
    """

    def paint(text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if coloured and text.strip() else text

    lines = [*_entity_lines(verdict["entities"], paint)]
    if verdict["references"]:
        lines += ["", *_reference_lines(verdict["references"], paint)]
    elif contextual and verdict["identity"] is None:
        lines += ["", "references: not compared, because the configuration names no model for it (models.identity)"]
    answer, *faults = verdict_lines(verdict)
    lines += ["", paint(answer, {True: _GOOD, False: _BAD, None: _OPEN}[verdict["arrived"]])]
    return "\n".join([*lines, *(f"  {fault}" for fault in faults)])


def _entity_lines(rows: Sequence[EntityVerdictDict], paint: _Paint) -> Iterator[str]:
    table = [["entity", "asked", "found", "status", "in the prompt"]]
    for row in rows:
        found = _NOTHING if row["found"] is None else str(row["found"])
        table.append([row["entity"], _asked(row), found, _entity_status(row), _in_prompt(row)])
    return _table(table, ["", *(row["status"] for row in rows)], paint)


def _asked(row: EntityVerdictDict) -> str:
    if row["asked"] is None:
        return "at least 1"
    if row["asked"] == 0:
        return "none"
    return str(row["asked"]) if row["exact"] else f"at least {row['asked']}"


def _entity_status(row: EntityVerdictDict) -> str:
    if row["bare"] is not None:
        return f"{row['bare']['found']} for '{row['bare']['entity']}' alone"
    return _ENTITY_WORDS.get(row["status"], row["status"].replace("_", " "))


def _in_prompt(row: EntityVerdictDict) -> str:
    words = _NOTHING if row["asked_as"] is None else f'"{row["asked_as"]}"'
    return words + "".join(f", ref {image}" for image in row["sources"])


def _reference_lines(rows: Sequence[ReferenceVerdictDict], paint: _Paint) -> Iterator[str]:
    table = [["reference", "generated", "similarity", "status"]]
    for row in rows:
        place = "image not given" if row["image"] is None else f"ref {row['image']}"
        similarity = _NOTHING if row["similarity"] is None else f"{row['similarity']:.2f}"
        status = _REFERENCE_WORDS.get(row["status"], row["status"].replace("_", " "))
        table.append([f"{place} {row['object_id'] or ''}".rstrip(), row["match"] or _NOTHING, similarity, status])
    return _table(table, ["", *(row["status"] for row in rows)], paint)


def _table(rows: Sequence[Sequence[str]], statuses: Sequence[str], paint: _Paint) -> Iterator[str]:
    """Set rows in columns, each on one line, and paint the column "status"."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    painted = rows[0].index("status")
    for row, status in zip(rows, statuses, strict=True):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        if status:
            cells[painted] = paint(cells[painted], _COLOUR_OF.get(status, _BAD))
        yield "  ".join(cells).rstrip()
