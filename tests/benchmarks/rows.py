"""The rows of the table: what was measured on both sides in one run, its ratio, its target. Pure; measures nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, Any]
"""Keys: what, unit, reference, ours, ratio, target, bound, met, and whatever else the benchmark tells.

`bound` says what the target bounds: "ratio >=", "ours >=" or "ours <="; `reference`, `ratio`, `target`, `bound` and
`met` are None where there is none.
"""


def compared(
    what: str,
    reference: float,
    ours: float,
    *,
    unit: str = "s",
    higher_is_better: bool = False,
    target: float | None = None,
    also_met: bool = True,
    more: Mapping[str, Any] | None = None,
) -> Row:
    """Make a row of two measurements of one run.

    Args:
        what: what was measured.
        reference: the other side's figure.
        ours: our figure.
        unit: of both.
        higher_is_better: True for rates.
        target: least ratio; None asks for nothing.
        also_met: whether what the target asks for besides the ratio holds.
        more: further keys of the row.
    """
    ratio = ours / reference if higher_is_better else reference / ours
    bound = None if target is None else "ratio >="
    met = None if target is None else ratio >= target and also_met
    return _row(what, unit, (reference, ours, ratio), (target, bound, met), more)


def limited(
    what: str,
    ours: float,
    *,
    unit: str,
    at_least: float | None = None,
    at_most: float | None = None,
    more: Mapping[str, Any] | None = None,
) -> Row:
    """Make a row of one measurement against a limit in its own unit; give one limit, or none.

    Args:
        what: what was measured.
        ours: our figure.
        unit: of the figure and its limit.
        at_least: lower limit.
        at_most: upper limit.
        more: further keys of the row.
    """
    if at_least is not None:
        return _row(what, unit, (None, ours, None), (at_least, "ours >=", ours >= at_least), more)
    if at_most is not None:
        return _row(what, unit, (None, ours, None), (at_most, "ours <=", ours <= at_most), more)
    return _row(what, unit, (None, ours, None), (None, None, None), more)


def normalised(row: Mapping[str, Any]) -> Row:
    """Bring a row of the older shape (`reference_s`, `ours_s`, `ratio`, maybe `peak_mb`) into the common one."""
    if "unit" in row:
        return dict(row)
    known = {"what", "reference_s", "ours_s", "ratio", "target", "peak_mb"}
    more = {key: value for key, value in row.items() if key not in known}
    if "peak_mb" in row:
        more["seconds"] = row["ours_s"]
        return limited(row["what"], row["peak_mb"], unit="MB", at_most=row.get("target"), more=more)
    return compared(row["what"], row["reference_s"], row["ours_s"], target=row.get("target"), more=more)


def _row(
    what: str,
    unit: str,
    figures: tuple[float | None, float, float | None],
    asked: tuple[float | None, str | None, bool | None],
    more: Mapping[str, Any] | None,
) -> Row:
    row: Row = {"what": what, "unit": unit}
    row |= dict(zip(("reference", "ours", "ratio"), figures, strict=True))
    row |= dict(zip(("target", "bound", "met"), asked, strict=True))
    return row | dict(more or {})


def table(rows: Sequence[Row]) -> str:
    """Write rows as a table of plain text."""
    titles = ("what", "reference", "ours", "ratio", "target", "met")
    cells = [titles, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(titles))]
    lines = [_line(line, widths) for line in cells]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _cells(row: Row) -> tuple[str, ...]:
    unit = row["unit"]
    target = ""
    if row["target"] is not None:
        sign = row["bound"].split()[-1]
        target = f"{sign} {row['target']:g}{'x' if row['bound'].startswith('ratio') else f' {unit}'}"
    return (
        row["what"],
        "" if row["reference"] is None else _figure(row["reference"], unit),
        _figure(row["ours"], unit),
        "" if row["ratio"] is None else f"{row['ratio']:.2f}x",
        target,
        {None: "", True: "yes", False: "NO"}[row["met"]],
    )


def _figure(value: float, unit: str) -> str:
    if unit == "s" and value < 1:
        return f"{value * 1000:.3g} ms"
    return f"{value:,.0f} {unit}" if abs(value) >= 1000 else f"{value:.4g} {unit}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0].ljust(widths[0])
    return "  ".join([first, *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))]).rstrip()
