"""Writes the doctor's report as lines or as JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from serve_app.cli.doctor.check import Check, Status, can_run
from serve_app.schemas.counted import counted

WORDS: dict[Status, str] = {"ok": "ok", "warn": "warn", "fail": "FAIL", "no": "no"}
COLOURS: dict[Status, str] = {"ok": "32", "warn": "33", "fail": "31", "no": "2"}
"""Source: ECMA-48, select graphic rendition: green, yellow, red, faint."""


@dataclass(frozen=True)
class Row:
    """A time, a speed or an amount of memory, with its unit."""

    name: str
    value: float
    unit: str


def check_lines(checks: Sequence[Check], *, coloured: bool = False) -> Iterator[str]:
    """Yield a line for each check, below a line with its group's name.

    Args:
        checks: in any order; groups come in the order of their first check.
        coloured: whether to colour each status, for a terminal.
    """
    width = max((len(check.name) for check in checks), default=0)
    for group in dict.fromkeys(check.group for check in checks):
        yield group
        for check in checks:
            if check.group == group:
                yield f"  {_word(check.status, coloured)}  {check.name.ljust(width)}  {check.text}"


def table_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of the table of times and memory; none if there are no rows."""
    if rows:
        yield "times and memory"
        width = max(len(row.name) for row in rows)
        yield from (f"  {row.name.ljust(width)}  {row.value:8.2f} {row.unit}" for row in rows)


def _word(status: Status, coloured: bool) -> str:
    word = WORDS[status].ljust(4)
    return f"\x1b[{COLOURS[status]}m{word}\x1b[0m" if coloured else word


def conclusion(checks: Sequence[Check], subject: str) -> str:
    """Return the report's last line, which says whether a configuration can run here.

    Args:
        checks: all checks.
        subject: the configuration's name, such as its file.
    """
    faults = sum(check.status == "fail" for check in checks)
    warnings = sum(check.status == "warn" for check in checks)
    noted = counted(warnings, "warnings")
    if faults:
        return f"{subject}: does not run here: {counted(faults, 'faults')}, {noted}"
    return f"{subject}: no fault was found here{f': {noted}' if warnings else ''}"


def as_json(checks: Sequence[Check], rows: Sequence[Row]) -> str:
    """Return the report as JSON: `ok`, `checks` and `times_and_memory`, which is null without --load."""
    document = {
        "ok": can_run(checks),
        "checks": [asdict(check) for check in checks],
        "times_and_memory": [asdict(row) for row in rows] or None,
    }
    return json.dumps(document, ensure_ascii=False, indent=2)
