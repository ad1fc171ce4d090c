"""Reads the rows of a manifest in CSV, as programs and spreadsheets write it, with any of the usual separators."""

from __future__ import annotations

import ast
import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from pydantic import JsonValue

from serve_app.batch.json_rows import UTF_8, NamedTwice, Record, parse
from serve_app.batch.row import FIELDS, ManifestError, check_names, kind_of

DELIMITERS = (",", ";", "\t", "|")
_SEP_LINE = re.compile(r'"?sep=(.)"?\r?\n?', re.IGNORECASE)
"""A line before the column names, in which Excel writes and reads the separator."""

_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")
_SAMPLE_CHARS = 65536
_TRUTHS: dict[str, bool] = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def csv_records(path: Path, name: str, encoding: str) -> Iterator[Record]:
    """Yield the rows of a CSV file. Blank lines and rows with only empty cells are skipped.

    Args:
        path: path of the file. The first line that is not empty names the columns. A line such as `sep=;` may come
            before it. Without such a line, the separator that makes most column names fields of a row is used.
        name: the file's name in messages.
        encoding: the file's encoding.

    Raises:
        ManifestError: the column names are wrong, or the file does not have that encoding.
        OSError: the file cannot be read.
    """
    with path.open(encoding=encoding, newline="") as file:
        try:
            delimiter, skipped = _start(file)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = [cell.strip() for cell in _first_line(reader)]
            _check_header(header, f"{name}:{skipped + max(1, _line(reader))}")
            yield from _rows(reader, header, name, skipped, delimiter)
        except UnicodeDecodeError:
            raise ManifestError(_not_in(encoding, path, name)) from None
        except csv.Error as error:
            raise ManifestError(f"{name}: the first line is not a line of a CSV file: {error}") from None


def is_table(path: Path, encoding: str) -> bool:
    """Tell whether a file's first line names the columns of a manifest."""
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        delimiter, _ = _start(file)
        try:
            return "id" in _folded(_first_line(csv.reader(file, delimiter=delimiter)))
        except csv.Error:
            return False


def _start(file: IO[str]) -> tuple[str, int]:
    """Find the separator, and move the file to the line of the column names.

    Returns:
        The separator, and the number of lines before the column names.
    """
    line, skipped = file.readline(), 1
    while line and not line.strip():
        line, skipped = file.readline(), skipped + 1
    named = _SEP_LINE.fullmatch(line)
    if named:
        return named.group(1), skipped
    file.seek(0)
    sample = file.read(_SAMPLE_CHARS)
    file.seek(0)
    return max(DELIMITERS, key=lambda delimiter: _fit(sample, delimiter)), 0


def _fit(sample: str, delimiter: str) -> tuple[int, int]:
    """Return how many column names are fields, and how many names there are, if `delimiter` separates them."""
    try:
        names = _folded(_first_line(csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter)))
    except csv.Error:
        return 0, 0
    return len(FIELDS & set(names)), len(names)


def _first_line(reader: Iterator[list[str]]) -> list[str]:
    """Return the cells of the next line that has text; an empty list at the end of the file."""
    return next((cells for cells in reader if any(map(str.strip, cells))), [])


def _folded(header: Sequence[str]) -> list[str]:
    return [cell.strip().lower() for cell in header]


def _check_header(header: Sequence[str], place: str) -> None:
    names = [name for name in header if name]
    if not names:
        return  # an empty file, which has no rows either
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ManifestError(f"{place}: the column {twice!r} is named twice")
    try:
        check_names(names)
    except ManifestError as error:
        raise ManifestError(f"{place}: {error.message}") from None
    if "id" not in names:
        shown = ", ".join(map(repr, names[:8]))
        raise ManifestError(f"{place}: there is no column 'id'; the columns are: {shown}")


def _rows(
    reader: Iterator[list[str]], header: Sequence[str], name: str, skipped: int, delimiter: str
) -> Iterator[Record]:
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield skipped + _line(reader), str(error)
            continue
        if cells is None:
            return
        line = skipped + _line(reader)
        if not any(map(str.strip, cells)):
            continue
        unnamed = next((i for i, cell in enumerate(cells[: len(header)]) if not header[i] and cell.strip()), None)
        if unnamed is not None:
            if unnamed == 0:
                raise ManifestError(f"{name}: the first column has no name; pandas leaves it out with index=False")
            raise ManifestError(f"{name}:{line}: column {unnamed + 1} has no name")
        if any(map(str.strip, cells[len(header) :])):
            yield line, "more cells than the first line has names"
            continue
        try:
            yield (
                line,
                {
                    column: _value(column, cell, delimiter)
                    for column, cell in zip(header, cells, strict=False)
                    if column and cell.strip()
                },
            )
        except ValueError as error:
            yield line, str(error)


def _line(reader: Iterator[list[str]]) -> int:
    line: int = reader.line_num  # type: ignore[attr-defined]  # the type of csv.reader has no public name
    return line


def _value(name: str, cell: str, delimiter: str) -> JsonValue:
    """Convert a cell to its field's type. A cell of an extra column stays as it is."""
    kind, text = kind_of(name), cell.strip()
    match kind:
        case None:
            return cell
        case "string":
            return text
        case "number" | "integer":
            return _number(name, text, delimiter, whole=kind == "integer")
        case "boolean":
            if text.lower() not in _TRUTHS:
                raise ValueError(f"{name}: must be true or false")
            return _TRUTHS[text.lower()]
        case "array":
            if not text.startswith("["):
                return [part.strip() for part in text.split(";") if part.strip()]
    return _structure(name, text)


def _number(name: str, text: str, delimiter: str, *, whole: bool) -> JsonValue:
    if delimiter != "," and _DECIMAL_COMMA.fullmatch(text):
        text = text.replace(",", ".")  # with decimal commas, spreadsheets use another separator
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{name}: not a number") from None
    # Tables of numbers write 3 as 3.0.
    return int(number) if whole and number.is_integer() else number


def _structure(name: str, text: str) -> JsonValue:
    try:
        value: JsonValue = parse(text)
        return value
    except NamedTwice as error:
        raise ValueError(f"{name}: {error}") from None
    except (ValueError, RecursionError):
        pass
    try:  # pandas writes a list as Python does: ['a.png', 'b.png']
        written: JsonValue = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        written = None
    if not isinstance(written, list | dict):
        example = 'a list is a;b or ["a", "b"]' if kind_of(name) == "array" else 'an object is {"dog": 0.3}'
        raise ValueError(f"{name}: not JSON; {example}")
    return written


def _not_in(encoding: str, path: Path, name: str) -> str:
    if encoding not in UTF_8:
        return f"{name}: its first bytes say {encoding.upper()}, but the file is not {encoding.upper()}"
    with path.open("rb") as file:
        for line, raw in enumerate(file, 1):
            try:
                raw.decode()
            except UnicodeDecodeError:
                return f"{name}:{line}: not UTF-8; in Excel, save the file as “CSV UTF-8”"
    return f"{name}: not UTF-8"
